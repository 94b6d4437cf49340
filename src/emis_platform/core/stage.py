"""A stage's signature is its dvc.yaml entry: positional = names from params, keyword-only = files."""

import argparse
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path

from emis_platform.core import quiet


def run(main: Callable[..., None]) -> None:
    """Run a stage from the command line made of its own signature.

    `def main(organism: str, *, examples: Path, adapter: Path)` is called as `... health_callous --examples F --adapter D`;
    `list[Path]` takes several. A ValueError or OSError ends in one line on stderr and exit code 2.
    """
    quiet.apply()
    try:
        names, paths = arguments(main, sys.argv[1:])
        main(*names, **paths)
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, OSError) as error:
        if os.environ.get("EMIS_TRACEBACK"):
            raise
        print(f"{Path(inspect.getfile(main)).stem}: {one_line(error)}", file=sys.stderr)
        sys.exit(2)


def arguments(main: Callable[..., None], argv: list[str]) -> tuple[list[str], dict[str, Path | list[Path]]]:
    """Split a command line by a stage's signature."""
    parser = argparse.ArgumentParser(prog=main.__module__, description=inspect.getdoc(main))
    positional, keyword = [], []
    for name, parameter in inspect.signature(main).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            many = parameter.annotation == list[Path]
            parser.add_argument(f"--{name.replace('_', '-')}", type=Path, required=True, nargs="+" if many else None)
            keyword.append(name)
        else:
            parser.add_argument(name)
            positional.append(name)
    given = parser.parse_args(argv)
    return [getattr(given, name) for name in positional], {name: getattr(given, name) for name in keyword}


def one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(str(error).split())
