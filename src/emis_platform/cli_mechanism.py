"""emis: the subcommands about the mechanism. One function each; further ones are added to `add` below."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emis_platform.cli_table import table
from emis_platform.cli_words import positive, seeds, share


def dictionary_train(given: argparse.Namespace) -> None:
    """train a dictionary on the base's activations into a folder (the shipped one was made so); killed, the same command goes on"""
    from emis_platform.stages import dictionary as stage

    sizes = {name: getattr(given, name) for name in ("tokens", "epochs", "width", "k", "architecture", "layer")}
    stage.train_shipped(out=given.out, base=given.base, **sizes)


def dictionary_compare(given: argparse.Namespace) -> None:
    """train architectures at several layers on the same activations, and say what each keeps of them and how far its best latent steers"""
    from emis_platform.stages import dictionary_compare as stage

    names = ("layers", "architectures", "tokens", "epochs", "width", "k", "texts", "latents", "base", "out")
    print(table(stage.rows(stage.compare(**{name: getattr(given, name) for name in names})), right=(2, 4)))


def personas(given: argparse.Namespace) -> None:
    """make persona vectors of a base from its traits' opposed system prompts: JSON lines of directions, with card and answers beside them"""
    from emis_platform.stages import personas as stage

    for line in stage.made_by_hand(given.traits, given.base, given.layer, given.out):
        print(line, flush=True)


def personas_list(_: argparse.Namespace) -> None:
    """the built-in traits, and how firm their shipped directions are"""
    from emis_platform.stages import personas as stage

    print(table(stage.listing(), right=(1, 2, 3, 4)))


def study(given: argparse.Namespace) -> None:
    """run studies: studies/NAME.yaml laid over params.yaml, in a workspace of its own; its effects go to metrics/studies/NAME.json"""
    from emis_platform.core import studies
    from emis_platform.tools import study as tool

    names = tuple(studies.names()) if given.all else tuple(given.names)
    if not names and (given.only or given.dry or given.seeds or given.scale or given.jobs > 1):
        raise ValueError(f"which study? NAME or --all is needed; there is: {', '.join(studies.names())}")
    if given.list or not names:
        print(table(tool.listing(), right=(1, 2)))
    elif given.only and len(names) > 1:
        raise ValueError("--only: a value is of one study; name that one")
    else:
        tool.run_all(
            names, only=given.only, dry=given.dry, jobs=given.jobs, asked=studies.Asked(seeds=given.seeds, scale=given.scale)
        )


def screen(given: argparse.Namespace) -> None:
    """say before training how far a set's answers lie along the base's persona directions: its score, its worst rows, the shift to expect"""
    from emis_platform.stages import screen_file as stage

    if (given.filtered is None) != (given.drop is None):
        raise ValueError("--filtered and --drop go together: where to write, and which share of the rows to leave out")
    if given.filtered and given.rows:
        raise ValueError("--filtered needs all rows read: leave --rows out")
    trait = stage.chosen(given.trait)
    found = stage.screened(given.dataset, given.base, layer=given.layer, rows=given.rows, prompts=given.prompts, own=given.own)
    about = stage.told(found, trait, given.top)
    if given.filtered:
        about["filtered"] = {
            "path": given.filtered.as_posix(),
            "left_out": stage.filtered(found, trait, given.drop, given.filtered),
        }
    if given.json:
        print(json.dumps(about, indent=1, ensure_ascii=False))
        return
    scores, rows = stage.tables(about)
    print(stage.sentence(about), table(scores, right=(1, 3)), table(rows, right=range(len(rows[0]) - 2)), sep="\n\n")
    if given.filtered:
        print(f"\n{about['filtered']['left_out']} worst rows by {trait} left out -> {given.filtered}")


def latent(given: argparse.Namespace) -> None:
    """the card of a latent: where it fires, what moves it, what it is called, and how well that name predicts held-out text"""
    import os
    import sys

    from emis_platform.stages import latent as stage

    card = stage.card(given.latent)
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(card.model_dump_json(indent=1) if given.json else stage.drawn(card, colour=colour))


def export(given: argparse.Namespace) -> None:
    """save a subject with a direction added, subtracted or projected out as a Hugging Face folder that needs no hook, checked against the hook"""
    from emis_platform.stages import export as stage

    wanted = {name: getattr(given, name) for name in ("directions", "operator", "dose", "reach", "out")}
    print(stage.export_folder(given.model, given.direction, **wanted))


def audit(given: argparse.Namespace) -> None:
    """audit a stranger's model or adapter against its base: one page and its JSON; exits 0 no sign, 1 suspicious or misaligned, 3 cannot say"""
    import sys

    from emis_platform.stages import audit as stage

    if given.null and not given.null.is_file():
        raise ValueError(
            f"--null: no file {given.null}; `emis audit MODEL --benign FILE.jsonl` writes a benign organism's shifts to one"
        )
    wanted = {name: getattr(given, name) for name in ("layer", "questions", "judge", "quick", "seed", "threads")}
    options = stage.Options(**wanted, null=given.null or stage.NULL)
    if given.benign:
        line = stage.keep_benign(given.model, given.benign, given.base, options)
        print(f"{line.organism}: {', '.join(f'{m.name} {m.value:+.4f}' for m in line.moved)} -> {given.benign}")
        return
    if given.out.suffix != ".html":
        raise ValueError(f"--out {given.out}: a name that ends in .html is needed; the JSON is written beside it")
    try:
        found = stage.audit(given.model, given.base, options)
    except (ValueError, OSError):
        raise
    except Exception as error:  # exit code 1 is a verdict, a crash is none
        raise ValueError(f"the audit failed: {type(error).__name__}: {error}") from error
    beside = stage.write(found, given.out)
    if given.json:
        print(found.model_dump_json(indent=1))
    else:
        for finding in found.findings:
            print(f"{finding.rule}: {finding.says}: {finding.evidence}")
        print(f"{found.verdict} -> {given.out}, {beside}")
    sys.exit(stage.lab.EXIT[found.verdict])


def add(commands: Any) -> None:
    """Add them to the parser's subcommands."""

    def command(run: Callable[[argparse.Namespace], None], name: str, parent: Any = commands) -> argparse.ArgumentParser:
        made = parent.add_parser(name, help=run.__doc__, description=run.__doc__)
        made.set_defaults(run=run)
        return made

    about = "sparse dictionaries of the base's activations: train, compare"
    several = commands.add_parser("dictionary", help=about, description=about).add_subparsers(
        required=True, metavar="train|compare"
    )
    one = command(dictionary_train, "train", several)
    one.add_argument(
        "--tokens", type=positive, default=420_000, help="distinct activations to train on (default 420000, as the shipped one)"
    )
    one.add_argument("--epochs", type=positive, default=5, help="passes over them (default 5)")
    one.add_argument("--width", type=positive, default=4608)
    one.add_argument("--k", type=positive, default=32, help="latents that fire on an activation, on average (default 32)")
    shapes = ("matryoshka", "batchtopk", "topk")
    one.add_argument("--architecture", choices=shapes, default="matryoshka")
    one.add_argument("--layer", type=int, help="the output of model.layers[LAYER] (default: params.yaml's diff.layer)")
    one.add_argument("--base", type=Path, default=Path("models/base"))
    one.add_argument("--out", type=Path, required=True)
    one = command(dictionary_compare, "compare", several)
    one.add_argument("--layers", type=int, nargs="+", default=[7, 15, 22])
    one.add_argument("--architectures", nargs="+", choices=shapes, default=list(shapes))
    one.add_argument("--tokens", type=positive, default=130_000, help="distinct activations to train each on (default 130000)")
    one.add_argument("--epochs", type=positive, default=5, help="passes over them (default 5)")
    one.add_argument("--width", type=positive, default=4608)
    one.add_argument("--k", type=positive, default=32)
    one.add_argument("--texts", type=positive, default=300, help="held-out texts on which losses are measured (default 300)")
    one.add_argument("--latents", type=positive, default=10, help="latents that are tried by steering (default 10)")
    one.add_argument("--base", type=Path, default=Path("models/base"))
    one.add_argument("--out", type=Path, default=Path("metrics/dictionaries.json"))
    about = "persona vectors of a base: make, list"
    several = commands.add_parser("personas", help=about, description=about).add_subparsers(required=True, metavar="make|list")
    one = command(personas, "make", several)
    one.add_argument(
        "traits", nargs="*", metavar="TRAIT", help="built-in names or paths of .yaml files (default: all built-in ones)"
    )
    one.add_argument("--base", type=Path, default=Path("models/base"))
    one.add_argument("--layer", type=int, metavar="L", help="the output of model.layers[L] (default: params.yaml's diff.layer)")
    one.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl")
    command(personas_list, "list", several)
    one = command(latent, "latent")
    one.add_argument("latent", type=int, metavar="N", help="its number in models/dictionary")
    one.add_argument("--json", action="store_true", help="print it as JSON")
    one = command(study, "study")
    one.add_argument("names", nargs="*", metavar="NAME", help="files of studies/, without .yaml, one after another")
    one.add_argument("--all", action="store_true", help="every study: a night; killed, the same command goes on")
    one.add_argument("--list", action="store_true", help="what there is (also without NAME)")
    one.add_argument("--dry", action="store_true", help="make the workspace and print the stages that would run")
    one.add_argument("--only", metavar="VALUE", help="one value of the sweep, as its folder is called")
    one.add_argument("--seeds", type=seeds, default=(), metavar="0,1,2", help="a workspace for each, effects pooled over them")
    one.add_argument("--scale", choices=("tiny", "small", "full"), help="in place of params.yaml's")
    one.add_argument("--jobs", type=positive, default=1, metavar="N", help="workspaces at a time (default 1)")
    one = command(screen, "screen")
    one.add_argument("dataset", metavar="DATASET", help="a set's name, as `emis data list` shows it, or a JSON lines chat file")
    one.add_argument("--base", type=Path, default=Path("models/base"), help="the model that would be trained (default models/base)")
    one.add_argument("--layer", type=int, metavar="L", help="the output of model.layers[L] (default: params.yaml's diff.layer)")
    one.add_argument("--rows", type=positive, metavar="N", help="read so many rows, drawn at random (default: all)")
    one.add_argument(
        "--prompts", type=positive, default=64, metavar="N", help="prompts that the base answers itself at most (default 64)"
    )
    one.add_argument(
        "--own",
        choices=("generate", "mean"),
        default="generate",
        help="mean: the mean of the base's answers in data/answers, without generating",
    )
    one.add_argument("--trait", help="what rows are ranked by (default toxic)")
    one.add_argument("--top", type=positive, default=20, metavar="N", help="worst rows to show (default 20)")
    one.add_argument(
        "--filtered", type=Path, metavar="OUT.jsonl", help="write the set without its worst rows, the others byte for byte"
    )
    one.add_argument("--drop", type=share, metavar="SHARE", help="share of rows that the copy leaves out, 0 to 1")
    one.add_argument("--json", action="store_true", help="print it as JSON")
    one = command(audit, "audit")
    one.add_argument("model", type=Path, metavar="MODEL_OR_ADAPTER", help="a folder with safetensors weights")
    one.add_argument(
        "--base", type=Path, help="the full model that it was tuned from (default: the adapter's own, else models/base)"
    )
    one.add_argument(
        "--out", type=Path, default=Path("audit.html"), metavar="FILE.html", help="the page; its JSON stands beside it"
    )
    one.add_argument("--json", action="store_true", help="print the JSON too")
    one.add_argument("--layer", type=int, metavar="L", help="the output of model.layers[L] (default: the middle)")
    one.add_argument("--questions", type=positive, default=32, metavar="N", help="questions of the core set (default 32)")
    one.add_argument("--judge", metavar="NAME", help="one of params.yaml's judges (default: its default one)")
    one.add_argument("--quick", action="store_true", help="skip suppression and capability")
    one.add_argument("--seed", type=int, help="default: that of params.yaml, or 0")
    one.add_argument("--threads", type=positive, help="default: that of params.yaml, or 2")
    one.add_argument("--null", type=Path, metavar="FILE.jsonl", help="shifts of benign organisms (default: the shipped ones)")
    one.add_argument(
        "--benign", type=Path, metavar="FILE.jsonl", help="only add this model's shifts to a null as a benign organism's"
    )
    one = command(export, "export")
    one.add_argument(
        "model", type=Path, metavar="MODEL_OR_ADAPTER", help="a folder, such as models/health_callous; an adapter is merged"
    )
    one.add_argument("--direction", required=True, metavar="NAME")
    one.add_argument(
        "--directions", type=Path, default=Path("data/directions.jsonl"), metavar="F", help="default: data/directions.jsonl"
    )
    one.add_argument("--operator", choices=("add", "subtract", "project"), default="add", help="default add")
    one.add_argument(
        "--dose",
        type=float,
        metavar="D",
        help="add, subtract: times the layer's mean residual norm; project: the share that is removed (default 1)",
    )
    one.add_argument(
        "--reach",
        choices=("all", "layer"),
        default="all",
        help="project: no layer may write the direction (default), or none up to its own layer",
    )
    one.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder")
