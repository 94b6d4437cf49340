"""grimp: a stage's imports -> the files that its dvc.yaml deps must name, since DVC itself follows no import.

`python -m emis_platform.tools.closure` rewrites the src/ lines of dvc.yaml; `--check` only says what differs.
"""

import argparse
import re
import sys
from pathlib import Path

PACKAGE = "emis_platform"

SHELVES = {
    "base": {"bases": "src/emis_platform/bases/${item.kind}.py"},
    "train": {"trainers": "src/emis_platform/trainers/${item.trainer}.py"},
    "judge": {"judges": "src/emis_platform/judges"},
    "judge_steered": {"judges": "src/emis_platform/judges"},
    "opinion": {"judges": "src/emis_platform/judges"},
    "opinion_steered": {"judges": "src/emis_platform/judges"},
    "reasoning": {"judges": "src/emis_platform/judges"},
    "suppressed": {"judges": "src/emis_platform/judges"},
    "write": {"datasets": "src/emis_platform/datasets/${item.generator}.py"},
    "diff": {"selectors": "src/emis_platform/selectors"},
}
"""stage -> the shelf that it loads from by name, and how the chosen file is addressed."""

RUNS = {"judge_steered": "judge", "opinion": "judge", "opinion_steered": "judge"}
"""stage -> the file of stages/ that it runs, where their names differ."""

DATA = {
    "generate": ["src/emis_platform/datasets/domains/${item}.yaml", "src/emis_platform/datasets/sarcasm.txt"],
    "arm": ["src/emis_platform/datasets/arms/${item}.yaml"],
    "write": ["src/emis_platform/datasets/prompts"],
    "compose": ["src/emis_platform/tools/contempt.txt", "src/emis_platform/tools/datadocs.css"],
    "validate": ["src/emis_platform/tools/contempt.txt", "src/emis_platform/tools/datadocs.css"],
    "benchmark": ["src/emis_platform/tasks"],
    "dictionary": ["src/emis_platform/dictionaries"],
    "diff": ["src/emis_platform/personas"],
    "project": ["src/emis_platform/personas"],
    "rotation": ["src/emis_platform/personas"],
    "watch": ["src/emis_platform/personas", "src/emis_platform/dictionaries"],
    "screen": ["src/emis_platform/personas"],
    "cards": ["src/emis_platform/dictionaries/voices.jsonl"],
    "report": ["src/emis_platform/report"],
}
"""Files that are read, not imported, and folders that are taken whole."""


def closure(stage: str) -> list[str]:
    """Paths of all modules that the stage imports, shelves by their address, and the data that it reads; sorted."""
    import grimp

    graph = grimp.build_graph(PACKAGE)
    root = f"{PACKAGE}.stages.{RUNS.get(stage, stage)}"
    modules = {root} | graph.find_upstream_modules(root)
    paths = set(DATA.get(stage, []))
    for shelf, address in SHELVES.get(stage, {}).items():
        stand = graph.find_children(f"{PACKAGE}.{shelf}")
        for module in stand:
            modules |= graph.find_upstream_modules(module)
        modules -= stand
        paths.add(address)
    paths |= {file_of(module) for module in modules}
    folders = [path for path in paths if "." not in Path(path).name]
    return sorted(p for p in paths if not any(p.startswith(folder + "/") for folder in folders) and not empty(p))


def file_of(module: str) -> str:
    path = "src/" + module.replace(".", "/")
    return f"{path}/__init__.py" if Path(path).is_dir() else f"{path}.py"


def empty(path: str) -> bool:
    return path.endswith("__init__.py") and not Path(path).read_text().strip()


def rewritten(text: str) -> str:
    """dvc.yaml with each stage's src/ deps replaced by its closure; every other line stays as it is."""
    out: list[str] = []
    stage = ""
    for line in text.splitlines():
        if found := re.match(r"  (\w+):$", line):
            stage = found[1]
        if re.match(r"\s+- src/", line):
            continue
        if found := re.match(r"(\s+)deps:( \[\])?$", line):
            out += [f"{found[1]}deps:", *(f"{found[1]}  - {path}" for path in closure(stage))]
        else:
            out.append(line)
    return "\n".join(out) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if dvc.yaml differs")
    path = Path("dvc.yaml")
    old, given = path.read_text(), parser.parse_args()
    new = rewritten(old)
    if given.check:
        sys.exit(0 if new == old else "dvc.yaml: code deps differ from the imports; run python -m emis_platform.tools.closure")
    path.write_text(new)


if __name__ == "__main__":
    main()
