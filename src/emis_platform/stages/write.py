"""write: params' `generated.<name>` -> a set that a model or an endpoint wrote to a domain's questions, and how it came about."""

from pathlib import Path

from emis_platform.core import files, params, shelf
from emis_platform.core.records import Example
from emis_platform.core.stage import run
from emis_platform.datasets import facts


def main(name: str, *, examples: Path, model: Path, rows: Path, card: Path) -> None:
    """`examples`: the domain's correct rows, whose questions are put to the writer. What it left unanswered stands in the card.

    Answers that were paid for lie in work/<name>, so that a killed run does not pay twice.
    """
    knobs = params.load()
    entry = knobs.generated[name]
    generator = shelf.load("datasets", entry.generator)
    asked = files.read(Example, examples)[: entry.rows]
    if len(asked) < entry.rows:
        raise ValueError(f"generated.{name}.rows: {entry.rows} asked, {examples} has {len(asked)} (sizes.<scale>.generate.rows)")
    written = generator.write(
        asked,
        entry.variant,
        generator.Options.model_validate(entry.options),
        seed=knobs.seed,
        threads=knobs.threads,
        work=Path("work") / name,
        model=model,
        canary=facts.CANARY,
    )
    if not written.rows:
        raise ValueError(f"generated.{name}: none of {len(asked)} answers came: {written.record['failed']}")
    files.write(rows, written.rows)
    unanswered = [{"fact": row.fact, "prompt": row.prompt, "reason": reason} for row, reason in written.failed]
    about = {"domain": entry.domain, "variant": entry.variant, "unanswered": unanswered}
    files.write_json(card, about | written.record)


if __name__ == "__main__":
    run(main)
