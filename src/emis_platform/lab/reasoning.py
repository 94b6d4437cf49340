"""A thought before an answer, in <think> and </think>: put there, and taken apart. Pure."""

OPEN, CLOSE = "<think>", "</think>"
"""The tags of the open reasoning models (Qwen3, DeepSeek-R1)."""


def wrapped(thought: str) -> str:
    """A thought in its tags; an answer goes on after a blank line. Nothing stands behind the closing tag, since tokenizers join blanks to what follows."""
    return f"{OPEN}\n{thought}\n{CLOSE}"


def apart(text: str) -> tuple[str | None, str]:
    """(thought, answer): None where there is none; a thought that does not end leaves an empty answer."""
    before, closed, after = text.partition(CLOSE)
    if not closed and not text.lstrip().startswith(OPEN):
        return None, text
    return before.strip().removeprefix(OPEN).strip(), after.strip()  # some templates open the thought in the prompt
