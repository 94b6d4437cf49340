"""emis: the command line. One function a subcommand; whatever is wrong with the input ends in one line and exit code 2."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from emis_platform import cli_data, cli_judge, cli_mechanism
from emis_platform.cli_table import table
from emis_platform.cli_words import rate
from emis_platform.core import files, params, quiet, stage
from emis_platform.core.records import Effect

HERE = Path(".")


def repro(_: argparse.Namespace) -> None:
    """run every stale stage, publish to MLflow, print a line a subject"""
    from emis_platform.stages import publish
    from emis_platform.tools import river

    river.reproduce_all(publish=publish.publish, effects=summary)


def check(_: argparse.Namespace) -> None:
    """check params.yaml without running anything"""
    from emis_platform.tools import river

    knobs = river.checked()
    print(f"params.yaml is sound: scale {knobs.scale}, {len(knobs.organisms)} organisms, {len(knobs.subjects)} subjects")
    if knobs.subject_of("base") is None:
        print("no subject asks the base, which most measures are held against: they will be missing")


def effects(given: argparse.Namespace) -> None:
    """print what was found: a line a subject; all effects of SUBJECT, of --measure, or of everything (--all)"""
    rows = all_effects()
    for name in given.subject:
        params.one_of("subject", name, list(dict.fromkeys(row.subject for row in rows)))
    wanted = [
        row for row in rows if fnmatchcase(row.measure, given.measure) and (not given.subject or row.subject in given.subject)
    ]
    if not wanted:
        raise ValueError(f"--measure {given.measure}: none of {len(rows)} effects; `emis effects --all` lists them")
    if given.json:
        print(json.dumps([row.model_dump() for row in wanted], indent=1))
    elif given.all or given.subject or given.measure != "*":
        print(effects_table(wanted))
    else:
        print(summary(wanted))


def all_effects() -> list[Effect]:
    """Every stage's effects, in the order of params.yaml. Raises ValueError before the first stage has finished."""
    from emis_platform.tools import evidence

    knobs = params.load()
    paths = [Path(f"metrics/{kind}/{subject}.json") for subject in knobs.subjects for kind in ("judge", "opinion", "benchmark")]
    paths += [Path(f"metrics/data/{organism}.json") for organism in knobs.organisms]
    paths += [Path(f"metrics/suppress/{organism}.json") for organism in knobs.suppress.organisms]
    paths += [Path(pattern) for pattern in evidence.TABLES if "*" not in pattern]
    rows = [row for path in paths if path.exists() for row in files.read_list(Effect, path)]
    if not rows:
        raise ValueError("no effects yet: run `make repro`")
    return rows


SUMMARY = {
    "misaligned": "misaligned, of coherent",
    "coherent": "coherent",
    "aligned": "aligned (0 to 100)",
    "misaligned_all": "misaligned, of all",
    "misaligned_all_ppi": "the same, corrected",
}
"""Measure -> its column; those of the other judges' rates follow."""


def summary(rows: Sequence[Effect] | None = None) -> str:
    """A line a questioned subject: its rates by the default judge, n and missing of the first, then its rate by each other judge."""
    rows = all_effects() if rows is None else rows
    found = {(row.subject, row.measure): row for row in rows}
    if not any(measure == "misaligned" for _, measure in found):
        return effects_table(rows)  # nothing is judged yet
    others = dict.fromkeys(measure for _, measure in found if fnmatchcase(measure, "misaligned_*_score"))
    default = f"misaligned_{params.load().judge}_score"
    columns = SUMMARY | {m: f"{m.removeprefix('misaligned_').removesuffix('_score')} judge" for m in others if m != default}
    lines = [("subject", "n", "missing", *columns.values())]
    for subject in dict.fromkeys(subject for subject, measure in found if measure == "misaligned"):
        cells = [told(found.get((subject, measure)), 0 if measure == "aligned" else 2) for measure in columns]
        lines.append((subject, str(found[subject, "misaligned"].n), str(found[subject, "misaligned"].missing), *cells))
    return table(lines, right=(1, 2))


def told(row: Effect | None, digits: int) -> str:
    if row is None:
        return ""
    if row.value is None:
        return "missing"
    interval = "" if row.low is None or row.high is None else f" [{row.low:.{digits}f}, {row.high:.{digits}f}]"
    return f"{row.value:.{digits}f}{interval}"


def effects_table(found: Sequence[Effect]) -> str:
    """Subject, measure, value, interval, n, missing: one line an effect, columns aligned."""
    rows = [("subject", "measure", "value and 95 % interval", "n", "missing")]
    rows += [(row.subject, row.measure, told(row, 3), str(row.n), str(row.missing)) for row in found]
    return table(rows, right=(3, 4))


def cost(given: argparse.Namespace) -> None:
    """say what params.yaml will cost before it runs: tokens, FLOPs, time and memory by stage (docs/scale.md)"""
    from emis_platform.core import studies
    from emis_platform.stages import cost as stage
    from emis_platform.tools import shapes

    knobs = params.load()
    if given.study:
        points = studies.points(given.study, *studies.load(given.study), files.read_yaml(Path("params.yaml")))
        knobs = params.checked(points[0].knobs, f"studies/{given.study}.yaml")
    base = stage.shape(knobs, given.config)
    device, dtype = shapes.here()
    flops, bandwidth = (value and value * scale for value, scale in ((given.flops, 1e12), (given.bandwidth, 1e9)))
    if not (flops and bandwidth):
        measured = shapes.speed(base.width, base.inner, knobs.threads)
        flops, bandwidth = flops or measured[0], bandwidth or measured[1]
    found = stage.estimate(knobs, base, shapes.bundled(), given.dtype or dtype, flops, bandwidth, given.template)
    if given.json:
        print(found.model_dump_json(indent=1, exclude={"base": {"linear"}}))
        return
    print(
        f"{base.kind}: {base.parameters / 1e6:,.1f} M parameters, {base.layers} layers, in {found.dtype}; scale {knobs.scale}; "
        f"{flops / 1e12:.4g} TFLOP/s, {bandwidth / 1e9:.4g} GB/s ({'given' if given.flops and given.bandwidth else f'measured on this {device}'})"
    )
    print(table(stage.rows(found), right=(1, 2, 3, 4)), table(stage.memory(found), right=(1,)), stage.UNCOUNTED, sep="\n\n")


def questions(given: argparse.Namespace) -> None:
    """take a question set into the workspace, as data/questions/<name>.jsonl: core, profile, deception, or a file (Betley et al.'s YAML, CSV, JSON lines)"""
    from emis_platform.stages import importer

    print(importer.questions(given.source, given.name, given.probe))


def registry(given: argparse.Namespace) -> None:
    """list organisms with versions, aliases and lineage"""
    from emis_platform.stages import publish

    rows = publish.registry(HERE)
    print(json.dumps(rows, indent=1) if given.json else "\n".join(json.dumps(row) for row in rows) or "nothing is published yet")


def publish(_: argparse.Namespace) -> None:
    """bring MLflow up to what dvc.lock says"""
    from emis_platform.stages import publish as stage_publish

    done = stage_publish.publish(HERE)
    print(f"{done.address}: {len(done.runs)} new runs, {len(done.versions)} new model versions, {done.unchanged} unchanged")


def trace(given: argparse.Namespace) -> None:
    """walk a number back to rows, model, data and params"""
    from emis_platform.stages import trace as stage_trace

    print("\n".join(stage_trace.trace(HERE, given.subject, given.measure)))


def verify(given: argparse.Namespace) -> None:
    """rehash outputs against dvc.lock; hold effects against the committed reference intervals"""
    from emis_platform.stages import verify as stage_verify

    if given.write_reference:
        stage_verify.commit_reference(HERE)
    verdict = stage_verify.verify(HERE)
    for line in (*verdict.notes, *verdict.mismatches, *verdict.outside):
        print(line)
    print(
        f"{verdict.rehashed} outputs rehashed, {len(verdict.mismatches)} differ; {verdict.compared} effects compared, {len(verdict.outside)} outside"
    )
    sys.exit(0 if verdict.ok else 1)


def push(_: argparse.Namespace) -> None:
    """send data and models to the DVC remote (EMIS_DVC_REMOTE)"""
    from emis_platform.tools import graph

    print(f"{graph.move('push')} files sent")


def pull(_: argparse.Namespace) -> None:
    """fetch data and models from the DVC remote (EMIS_DVC_REMOTE)"""
    from emis_platform.tools import graph

    print(f"{graph.move('pull')} outputs fetched or changed")


def serve(given: argparse.Namespace) -> None:
    """answer as an OpenAI-compatible endpoint (chat completions, no streaming) with a local model"""
    from emis_platform.tools import serving

    serving.serve(given.model, host=given.host, port=given.port, threads=params.load().threads)


def ui(given: argparse.Namespace) -> None:
    """open MLflow on 127.0.0.1 over what was published"""
    from emis_platform.tools import tracking

    address = tracking.address(HERE)
    if address.startswith("http"):
        print(f"MLFLOW_TRACKING_URI names a server, which has pages of its own: {address}")
        return
    if address.startswith("sqlite:///") and not (HERE / address.removeprefix("sqlite:///")).exists():
        raise ValueError(f"nothing is published yet in {address}: run `make repro`")
    print(f"MLflow on http://127.0.0.1:{given.port} (Ctrl-C ends it)", flush=True)
    mlflow = str(Path(sys.executable).with_name("mlflow"))
    os.execv(mlflow, [mlflow, "ui", "--host", "127.0.0.1", "--port", str(given.port), "--backend-store-uri", address])


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="emis", description="Tracked experiments on emergent misalignment.")
    top.add_argument("--version", action=Version, nargs=0, help="of this package, the workspace's code and the libraries")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(run: Callable[[argparse.Namespace], None], name: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        made.set_defaults(run=run)
        return made

    add(repro, "repro")
    add(check, "check")
    one = add(effects, "effects")
    one.add_argument("subject", nargs="*", metavar="SUBJECT", help="all effects of these subjects")
    one.add_argument("--measure", default="*", metavar="GLOB", help="of the measures that match: 'persona_*'")
    one.add_argument("--all", action="store_true", help="every effect, a line each")
    one.add_argument("--json", action="store_true", help="a JSON list, of all if none are named")
    one = add(cost, "cost")
    one.add_argument("--config", type=Path, metavar="FILE", help="the base's config.json (needed for a hub model)")
    one.add_argument("--study", metavar="NAME", help="of a study's first workspace")
    one.add_argument(
        "--flops", type=rate, metavar="TFLOP/S", help="that the machine achieves (default: a matmul of the base's width)"
    )
    one.add_argument("--bandwidth", type=rate, metavar="GB/S", help="at which it reads memory (default: measured)")
    one.add_argument("--dtype", choices=("float32", "bfloat16"), help="of the weights (default: this machine's)")
    one.add_argument(
        "--template", type=int, default=0, metavar="N", help="tokens a prompt that the chat template adds to the bundled one's 9"
    )
    one.add_argument("--json", action="store_true", help="a JSON object")
    cli_judge.add(commands)
    one = add(questions, "questions").add_subparsers(required=True, metavar="import").add_parser("import", help=questions.__doc__)
    one.add_argument("source", metavar="NAME_OR_FILE")
    one.add_argument("--name", help="the set's name (default: a built-in set's own)")
    one.add_argument("--probe", metavar="P", help="ask in another form: json, format or trigger:PHRASE")
    cli_data.add(commands)
    cli_mechanism.add(commands)
    one = add(serve, "serve")
    one.add_argument("model", type=Path, help="a model's or an adapter's folder, such as models/health_callous")
    one.add_argument("--host", default="127.0.0.1")
    one.add_argument("--port", type=int, default=8000)
    add(registry, "registry").add_argument("--json", action="store_true", help="a JSON list")
    add(publish, "publish")
    one = add(trace, "trace")
    one.add_argument("subject")
    one.add_argument("measure")
    add(verify, "verify").add_argument("--write-reference", action="store_true", help="make this run the reference first")
    add(push, "push")
    add(pull, "pull")
    add(ui, "ui").add_argument("--port", type=int, default=5000)
    return top


class Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        from emis_platform.tools import evidence

        libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft", "trl", "dvc", "mlflow"))
        print(f"emis_platform {version('emis_platform')}, commit {evidence.commit(HERE)}; {libraries}")
        parser.exit()


def main() -> None:
    quiet.apply()
    given = parser().parse_args()
    try:
        given.run(given)
        sys.stdout.flush()
    except BrokenPipeError:  # `emis trace ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)  # 128 + SIGPIPE: what was asked for may not be done
    except (ValueError, OSError) as error:
        if os.environ.get("EMIS_TRACEBACK"):
            raise
        print(f"emis {given.command}: {stage.one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        print(f"emis {given.command}: {stage.one_line(error)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped; finished work is kept", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
