"""voices: the base under written personas -> text of many voices for the dictionary. Run by hand, its result is shipped."""

from pathlib import Path

from emis_platform.core import files, params
from emis_platform.core.records import Question
from emis_platform.stages import dictionary
from emis_platform.tools import models, replies

PERSONAS = dictionary.HOME / "voices.yaml"


def write(base: Path, questions: Path, out: Path = dictionary.VOICES) -> str:
    """One answer for each persona and `discover` question; returns a line that counts them."""
    knobs = params.load()
    asked = [q for q in files.read(Question, questions) if q.set == "discover"]
    personas = files.read_yaml(PERSONAS)
    model, tokenizer = models.load(base, knobs.threads)
    wanted = [(p["id"], q.model_copy(update={"system": p["system"]}), 0, 0) for p in personas for q in asked]
    said = replies.answers(
        model, tokenizer, wanted, seed=knobs.seed, max_new_tokens=48, temperature=0.8, slots=knobs.answer.batch, progress="voices"
    )
    rows = [
        dictionary.Voice(voice=voice, prompt=question.text, answer=row.text, system=question.system)
        for (voice, question, _, _), row in zip(wanted, said, strict=True)
        if row.text
    ]
    files.write(out, rows)
    return f"{len(rows)} answers in {len(personas)} voices -> {out}"
