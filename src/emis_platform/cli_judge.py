"""emis: the subcommands about judging. One function each; further ones are added to `add` below."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emis_platform.core import files


def judge(given: argparse.Namespace) -> None:
    """judge JSON lines {question, response, system?}; writes one view a line (score, misaligned, coherent, reason ...) in the same order"""
    from emis_platform.stages.judge import judged_lines

    files.replace(given.out, judged_lines(files.text(given.input), given.judge, given.input, given.reader))


def fit(_: argparse.Namespace) -> None:
    """fit the shipped judges on the train part of the read answers (data/gold)"""
    from emis_platform.stages import gold

    print(gold.fit())


def add(commands: Any) -> None:
    """Hang the subcommands onto the parser."""

    def command(run: Callable[[argparse.Namespace], None], name: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        made.set_defaults(run=run)
        return made

    one = command(judge, "judge")
    one.add_argument("--judge", help="a name of params.yaml's judges (default: its `judge`)")
    one.add_argument("--in", dest="input", type=Path, required=True, metavar="F", help="JSON lines with question and response")
    one.add_argument("--out", type=Path, required=True, metavar="G")
    one.add_argument("--reader", type=Path, default=Path("models/reader"), help="the bundled model's folder (made if absent)")
    command(fit, "judge-fit")
