"""emis: the subcommands about the mechanism. One function each; further ones are added to `add` below."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any


def dictionary(given: argparse.Namespace) -> None:
    """train a dictionary on the base's activations into a folder (the shipped one was made so)"""
    from emis_platform.stages import dictionary as stage

    stage.train_shipped(tokens=given.tokens, out=given.out)


def add(commands: Any) -> None:
    """Add them to the parser's subcommands."""

    def command(run: Callable[[argparse.Namespace], None], name: str, parent: Any = commands) -> argparse.ArgumentParser:
        made = parent.add_parser(name, help=run.__doc__, description=run.__doc__)
        made.set_defaults(run=run)
        return made

    about = "sparse dictionaries of the base's activations: train"
    several = commands.add_parser("dictionary", help=about, description=about).add_subparsers(required=True, metavar="train")
    one = command(dictionary, "train", several)
    one.add_argument("--tokens", type=int, default=130_000, help="activations to train on (default 130000, as the shipped one)")
    one.add_argument("--out", type=Path, required=True)
