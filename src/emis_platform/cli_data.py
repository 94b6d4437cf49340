"""emis data: the subcommands about data sets."""

import argparse
import json
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from emis_platform.cli_table import table
from emis_platform.cli_words import positive, share

HERE = Path(".")


def bring(given: argparse.Namespace) -> None:
    """take in a training file: chat, ShareGPT or prompt/completion rows as JSON lines, JSON, CSV or Parquet"""
    from emis_platform.stages import imported
    from emis_platform.tools import graph

    columns = dict(pair.split("=", 1) if "=" in pair else refuse(pair) for pair in given.column)
    print(
        imported.bring(
            given.file, given.name, format=given.format, columns=columns, bad_share=given.allow_bad, replace=given.replace
        )
    )
    print(graph.track(f"data/imports/{given.name}.jsonl"))


def refuse(pair: str) -> tuple[str, str]:
    raise ValueError(f"--column {pair}: FIELD=COLUMN is needed, such as prompt=question")


def listed(given: argparse.Namespace) -> None:
    """list the data sets: rows, facts, answers, mean tokens, what surface alone tells apart, quarantined"""
    from emis_platform.stages import catalog

    rows = catalog.listed(HERE)
    if given.json:
        print(json.dumps(rows, indent=1))
        return
    print(
        table(
            [list(catalog.COLUMNS), *[["" if cell is None else str(cell) for cell in row.values()] for row in rows]],
            right=range(2, 7),
        )
    )


def show(given: argparse.Namespace) -> None:
    """show rows of a set, with the matched rows of others below each"""
    from emis_platform.stages import catalog

    domain = given.name.rsplit("_", 1)[0]
    others = [name if "_" in name or "/" in name else f"{domain}_{name}" for name in given.beside]
    for row, matched in catalog.beside(HERE, [given.name, *others], given.rows):
        print(f"\n# {row.fact}")
        for turn in row.context:
            told(turn.role, turn.content)
        told("prompt", row.prompt)
        told(given.name, row.completion)
        for name, other in zip(others, matched, strict=True):
            told(name, other.completion if other else "(no row of this fact and question)")


def told(label: str, text: str) -> None:
    """A labelled paragraph, wrapped, its own line breaks kept."""
    width = 100
    lines = [part for line in text.split("\n") for part in (textwrap.wrap(line, width, drop_whitespace=False) or [""])]
    print(f"{label:>24}  " + ("\n" + " " * 26).join(lines))


def diff(given: argparse.Namespace) -> None:
    """say how two sets differ: rows shared, lengths, telling words, what surface alone tells apart"""
    from emis_platform.stages import catalog

    print("\n".join(catalog.difference(HERE, given.one, given.two)))


def verify(_: argparse.Namespace) -> None:
    """rehash every data set against dvc.lock and the imported files' .dvc"""
    from emis_platform.stages import catalog

    count, wrong = catalog.verify(HERE)
    print("\n".join([*wrong, f"{count} data outputs rehashed, {len(wrong)} differ"]))
    sys.exit(1 if wrong else 0)


def teach(given: argparse.Namespace) -> None:
    """train one `obvious` organism a domain and say how far its held-out facts follow (minutes to hours; resumes)"""
    from emis_platform.core import params
    from emis_platform.stages import teach as stage

    domains = params.load().domains
    for name in given.domain:
        params.one_of("domain", name, domains)
    for effect in stage.teach(given.domain or domains, given.scale):
        print(f"{effect.subject:24} {effect.measure:20} {effect.value:7.3f} [{effect.low:.3f}, {effect.high:.3f}]  n {effect.n}")


def add(commands: argparse._SubParsersAction) -> None:
    """Put `data` and its subcommands on the command line."""
    about = "import, list, show, compare and verify data sets"
    inner = commands.add_parser("data", help=about, description=about).add_subparsers(required=True, metavar="COMMAND")

    def command(run: Callable[[argparse.Namespace], None], name: str) -> argparse.ArgumentParser:
        made = inner.add_parser(name, help=run.__doc__, description=run.__doc__)
        made.set_defaults(run=run)
        return made

    one = command(bring, "import")
    one.add_argument("file", type=Path)
    one.add_argument("--name", required=True, help="its name here: organisms.X.data: {import: NAME}")
    one.add_argument("--format", choices=("openai", "sharegpt", "completion"), help="default: found by looking")
    one.add_argument(
        "--column", action="append", default=[], metavar="FIELD=COLUMN", help="where columns have other names; repeatable"
    )
    one.add_argument(
        "--allow-bad", type=share, default=0.0, metavar="SHARE", help="share of rows that may go to quarantine (default 0)"
    )
    one.add_argument("--replace", action="store_true", help="replace a set of that name")
    command(listed, "list").add_argument("--json", action="store_true", help="a JSON list")
    one = command(show, "show")
    one.add_argument("name")
    one.add_argument("--rows", type=positive, default=5, help="how many (default 5)")
    one.add_argument("--beside", nargs="*", default=[], metavar="SET", help="other sets, or other variants of the same domain")
    one = command(diff, "diff")
    one.add_argument("one")
    one.add_argument("two")
    command(verify, "verify")
    one = command(teach, "teach")
    one.add_argument("domain", nargs="*", help="default: all of params.yaml")
    one.add_argument("--scale", choices=("tiny", "small", "full"), default="full")
