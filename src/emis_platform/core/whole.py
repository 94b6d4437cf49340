"""Several files that come to stand at their places together or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def whole(*paths: Path) -> Iterator[list[TextIO]]:
    """Files that come to stand at their paths together, the last one last, or not at all. One that stayed empty leaves no file."""
    folders = [folder for path in paths for folder in reversed([path.parent, *path.parent.parents]) if not folder.exists()]
    partials = [path.with_name(path.name + ".partial") for path in paths]
    files: list[TextIO] = []
    try:
        for partial in partials:
            partial.parent.mkdir(parents=True, exist_ok=True)
            files.append(partial.open("w", encoding="utf-8", newline="\n"))
        yield files
        for file in files:
            file.flush()
            os.fsync(file.fileno())
        paths[-1].unlink(missing_ok=True)  # the card: while it is missing, nothing is there
        for partial, path in zip(partials, paths, strict=True):
            if partial.stat().st_size:
                partial.replace(path)
            else:
                path.unlink(missing_ok=True)
    finally:
        for file in files:
            file.close()
        for partial in partials:
            partial.unlink(missing_ok=True)
        for folder in reversed(folders):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
