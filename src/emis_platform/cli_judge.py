"""emis: the subcommands about judging. One function each; further ones are added to `add` below."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emis_platform.cli_table import table
from emis_platform.cli_words import natural, rate
from emis_platform.core import files


def judge(given: argparse.Namespace) -> None:
    """judge JSON lines {question, response, system?}; writes one view a line (score, misaligned, coherent, reason ...) in the same order"""
    from emis_platform.stages.judge import judged_lines

    files.replace(given.out, judged_lines(files.text(given.input), given.judge, given.input, given.reader))


def fit(_: argparse.Namespace) -> None:
    """fit the shipped judges on the train part of the read answers (data/gold)"""
    from emis_platform.stages import gold

    print(gold.fit())


def judge_report(given: argparse.Namespace) -> None:
    """say how good the judges are on the test part of the read answers, and how far they and the readers agree"""
    from emis_platform.stages import judge_report as stage

    found = stage.report(given.judge, given.outside, given.reader)
    if given.write:
        stage.write(found)
    if given.json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return
    print("\n\n".join(f"{title}\n{table(rows)}" for title, rows in stage.tables(found)))


def drift(given: argparse.Namespace) -> None:
    """ask the judges about a fixed panel of read answers; exit code 1 where one no longer says what it said"""
    from emis_platform.stages import drift as stage

    found = stage.drift(update=given.update, reader=given.reader)
    print(*found.lines, sep="\n")
    sys.exit(1 if found.alarm else 0)


def label(given: argparse.Namespace) -> None:
    """read answers by hand, blinded and shuffled: aligned, coherent and a category with the keyboard, at the terminal or on a local page"""
    from emis_platform.stages import label as stage

    common = {"reader": given.reader, "guideline": given.guideline, "subjects": given.subject, "most": given.most}
    guide = stage.guide(given.guideline)
    if given.reading == 1:
        pile = stage.first(given.source, given.out, name=given.set, drawn=given.random, **common)
    else:
        pile = stage.second(given.out, **common)
    if not pile.answers:
        print("nothing is left to read")
    elif given.page:
        from emis_platform.tools.labelling import server

        server.serve(pile, guide, given.port)
    else:
        from emis_platform.tools.labelling import terminal

        terminal.read(pile, guide)


def inspect_export(given: argparse.Namespace) -> None:
    """write what subjects said and what the judges say of it as Inspect AI eval logs (JSON), one a subject and question set"""
    from emis_platform.stages import inspect_logs as stage

    print(*stage.export(given.subjects, given.out), sep="\n")


def inspect_import(given: argparse.Namespace) -> None:
    """take Inspect AI eval logs (JSON) in as answers and judgements: <out>/<model>_<task>/answers.jsonl and judgements.jsonl"""
    from emis_platform.stages import inspect_logs as stage

    lines = stage.take(given.logs, given.out, judge=given.judge, misaligned_when=given.misaligned_when, scale=given.scale)
    print(*lines, sep="\n")


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
    one = command(judge_report, "judge-report")
    one.add_argument("--judge", nargs="+", default=[], metavar="NAME", help="names of params.yaml's judges (default: all)")
    one.add_argument(
        "--outside",
        nargs="+",
        default=[],
        type=Path,
        metavar="FILE",
        help="JSON lines with model, question_id, question, response, aligned, coherent",
    )
    one.add_argument("--reader", type=Path, default=Path("models/reader"), help="the bundled model's folder (made if absent)")
    one.add_argument("--write", action="store_true", help="keep it, without any text, in metrics/judges.json")
    one.add_argument("--json", action="store_true", help="print all of it, the reliability curves too")
    one = command(drift, "drift")
    one.add_argument("--update", action="store_true", help="accept what the judges say now; adds new judges")
    one.add_argument("--reader", type=Path, default=Path("models/reader"), help="the bundled model's folder (made if absent)")
    one = command(label, "label")
    one.add_argument("--page", action="store_true", help="on a page of this machine in place of the terminal")
    one.add_argument("--port", type=int, default=8765, help="of the page (default 8765; 0: any free one)")
    one.add_argument("--set", default="score", help="whose answers: score (default), discover, a domain")
    one.add_argument("--subject", nargs="+", default=[], metavar="S", help="only what these said (default: all)")
    one.add_argument("--most", type=natural, default=100, metavar="N", help="answers at most (default 100)")
    one.add_argument(
        "--random", type=natural, default=30, metavar="N", help="a subject's random part of `score`, read first (default 30)"
    )
    one.add_argument("--reading", type=int, choices=(1, 2), default=1, help="2: again what was read once, by another reader")
    one.add_argument("--reader", default="person", metavar="NAME", help="who reads, as it stands in the file (default: person)")
    one.add_argument(
        "--from", dest="source", type=Path, default=Path("data/answers"), metavar="F", help="a folder or file of answers"
    )
    one.add_argument(
        "--guideline", default="1.2", metavar="VERSION", help="the version of docs/labelling.md that is read by (default 1.2)"
    )
    one.add_argument("--out", type=Path, default=Path("data/gold"), metavar="D", help="the folder of the read answers")
    about = "exchange answers and judgements with Inspect AI: export, import"
    inspect = commands.add_parser("inspect", help=about, description=about).add_subparsers(required=True, metavar="export|import")
    one = inspect.add_parser("export", help=inspect_export.__doc__, description=inspect_export.__doc__)
    one.set_defaults(run=inspect_export)
    one.add_argument("subjects", nargs="*", metavar="SUBJECT", help="whose answers (default: all)")
    one.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the folder of the logs, for `inspect view --log-dir DIR`"
    )
    one = inspect.add_parser("import", help=inspect_import.__doc__, description=inspect_import.__doc__)
    one.set_defaults(run=inspect_import)
    one.add_argument("logs", nargs="+", type=Path, metavar="LOG.json")
    one.add_argument("--judge", metavar="NAME", help="the scorer whose scores are taken (default: all of the log's)")
    one.add_argument("--out", type=Path, default=Path("data/inspect"), metavar="DIR", help="default: data/inspect")
    one.add_argument(
        "--misaligned-when",
        choices=("C", "I"),
        help="which verdict means misaligned; true counts as C (needed where there are verdicts)",
    )
    one.add_argument(
        "--scale", type=rate, default=100.0, metavar="N", help="the score of a wholly aligned answer (default 100), 0 the worst"
    )
