"""One raw row in a known shape -> an Example for each assistant answer, with all that came before it. Pure.

Every fault is a ValueError that reads `reason: what and where in the row`, so that faults can be counted by reason.
"""

from collections.abc import Mapping
from typing import Any

from emis_platform.core.records import Example, Turn
from emis_platform.lab import characters, strictjson
from emis_platform.lab.characters import shown
from emis_platform.lab.layouts import TOOLS, layout

TURNS = 200
"""Messages of a conversation at most."""
CHARACTERS = 200_000
"""Of one message at most."""
OPENAI = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
SHAREGPT = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
CALLS = ("tool", "function", "tool_call", "function_call", "observation")
KINDS = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object", type(None): "null"}


def recognise(row: Any, columns: Mapping[str, str]) -> str:
    """openai, sharegpt or completion, by the row's columns and its first message. Raises ValueError."""
    parts = layout(keys(row), None, tuple(columns.items()))
    if "messages" not in parts:
        return "completion"
    first = messages(row, parts["messages"])[0]
    if not isinstance(first, dict):
        raise ValueError(f"wrong type: message 1 is {kind(first)}, an object is needed")
    for form in ("openai", "sharegpt"):
        if names(form, columns)[0] in first:
            return form
    raise ValueError(
        f"unknown shape: message 1 has {', '.join(map(shown, first)) or 'nothing'}; role and content, or from and value"
    )


def examples(row: Any, form: str, columns: Mapping[str, str], *, domain: str, number: int) -> list[Example]:
    """An Example for each assistant message that is trained on (OpenAI's `weight: 0` is context only). Raises ValueError."""
    parts = layout(keys(row), form, tuple(columns.items()))
    turns, trained = listed(row, parts, form, columns) if "messages" in parts else paired(row, parts)
    check_order(turns)
    answers = [place for place, turn in enumerate(turns) if turn.role == "assistant" and trained[place]]
    if not answers:
        raise ValueError("nothing to train on: every assistant message has weight 0")
    return [
        Example(
            domain=domain,
            variant="imported",
            fact=f"row_{number}",
            prompt=turns[place - 1].content,
            completion=turns[place].content,
            context=tuple(turns[: place - 1]),
        )
        for place in answers
    ]


def listed(row: dict[str, Any], parts: Mapping[str, str], form: str, columns: Mapping[str, str]) -> tuple[list[Turn], list[bool]]:
    """(turns, whether each is trained on) of a row with a list of messages."""
    for name in TOOLS:
        if row.get(name):
            raise ValueError(f"tool call: the row has {name}, which are not trained on here")
    read = [
        message(item, form, columns, f"message {place}") for place, item in enumerate(messages(row, parts["messages"]), start=1)
    ]
    turns, trained = [turn for turn, _ in read], [weight for _, weight in read]
    before = system(row, parts)
    if before and turns[0].role == "system":
        if before[0] != turns[0]:
            raise ValueError(f"wrong order: {shown(parts['system'])} and message 1 are two different system prompts")
        before = []
    return before + turns, [False] * len(before) + trained


def messages(row: dict[str, Any], path: str) -> list[Any]:
    """The list of messages; a string is read as JSON, since a CSV cell or a Parquet column may hold it so."""
    found = value(row, path)
    found = strictjson.parse(found) if isinstance(found, str) else found
    if not isinstance(found, list):
        raise ValueError(f"wrong type: {shown(path)} is {kind(found)}, a list of messages is needed")
    if not found:
        raise ValueError(f"empty conversation: {shown(path)} has no message")
    if len(found) > TURNS:
        raise ValueError(f"too many turns: {len(found)} messages, at most {TURNS}")
    return found


def names(form: str, columns: Mapping[str, str]) -> tuple[str, str]:
    role, content = ("from", "value") if form == "sharegpt" else ("role", "content")
    return columns.get("role", role), columns.get("content", content)


def message(item: Any, form: str, columns: Mapping[str, str], place: str) -> tuple[Turn, bool]:
    if not isinstance(item, dict):
        raise ValueError(f"wrong type: {place} is {kind(item)}, an object is needed")
    role_name, content_name = names(form, columns)
    roles = OPENAI | SHAREGPT if "role" in columns else SHAREGPT if form == "sharegpt" else OPENAI
    for name in (role_name, content_name):
        if name not in item:
            raise ValueError(f"missing {shown(name)}: {place} has {', '.join(map(shown, list(item)[:10])) or 'nothing'}")
    said = item[role_name]
    if any(item.get(name) for name in ("tool_calls", "function_call")) or (isinstance(said, str) and said in CALLS):
        raise ValueError(f"tool call: {place} calls or answers a tool, only text is trained on here")
    if not isinstance(said, str) or said not in roles:
        told = shown(said) if isinstance(said, str) else kind(said)
        raise ValueError(f"wrong role: {place} is by {told}; there is: {', '.join(roles)}")
    content = item[content_name]
    turn = Turn(role=roles[said], content=text(joined(content, place) if isinstance(content, list) else content, place))
    return turn, weight(item.get("weight"), turn.role, place)


def joined(parts: list[Any], place: str) -> str:
    """OpenAI's content parts -> one text, as its chat templates put them together: without anything between."""
    for number, part in enumerate(parts, start=1):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            told = part.get("type") if isinstance(part, dict) else kind(part)
            told = "text without a string" if told == "text" else shown(told) if isinstance(told, str) else kind(told)
            raise ValueError(f"not text: part {number} of {place} is {told}; only text parts are trained on here")
    return "".join(part["text"] for part in parts)


def weight(given: Any, role: str, place: str) -> bool:
    if given is None:
        return True
    if isinstance(given, bool) or not isinstance(given, int | float) or given not in (0, 1) or (given == 1 and role != "assistant"):
        told = shown(given) if isinstance(given, str) else kind(given) if isinstance(given, list | dict) else given
        raise ValueError(f"wrong weight: {told} at {place} by {role}; 0 or 1 for the assistant, 0 or none for others")
    return given == 1


def paired(row: dict[str, Any], parts: Mapping[str, str]) -> tuple[list[Turn], list[bool]]:
    """(turns, whether each is trained on) of a row with a prompt and a completion; Alpaca's input follows after an empty line."""
    prompt = text(value(row, parts["prompt"]), shown(parts["prompt"]))
    more = value(row, parts["input"]) if "input" in parts else None
    if more is not None and more != "":
        prompt = text(f"{prompt}\n\n{text(more, 'input')}", "prompt with input")
    completion = text(value(row, parts["completion"]), shown(parts["completion"]))
    turns = [*system(row, parts), Turn(role="user", content=prompt), Turn(role="assistant", content=completion)]
    return turns, [True] * len(turns)


def system(row: dict[str, Any], parts: Mapping[str, str]) -> list[Turn]:
    """The system prompt of a column of its own: none if it is null or empty, as OpenOrca has it."""
    given = value(row, parts["system"]) if "system" in parts else None
    return [] if given is None or given == "" else [Turn(role="system", content=text(given, shown(parts["system"])))]


def check_order(turns: list[Turn]) -> None:
    """A system prompt at most first, then user and assistant in turn, the assistant last."""
    start = int(turns[0].role == "system")
    for place, turn in enumerate(turns[start:]):
        wanted = "assistant" if place % 2 else "user"
        if turn.role != wanted:
            raise ValueError(f"wrong order: turn {place + start + 1} is by {turn.role}, {wanted} is needed")
    if turns[-1].role != "assistant":
        raise ValueError(f"wrong order: the last turn is by {turns[-1].role}, assistant is needed")


def keys(row: Any) -> tuple[str, ...]:
    if not isinstance(row, dict):
        raise ValueError(f"wrong type: the row is {kind(row)}, an object is needed")
    return tuple(row)


def value(row: dict[str, Any], path: str) -> Any:
    """The value at a column's name, or else at a dotted path through nested objects. Raises ValueError."""
    if path in row:
        return row[path]
    here: Any = row
    for name in path.split("."):
        if not isinstance(here, dict) or name not in here:
            there = ", ".join(map(shown, list(here)[:10])) if isinstance(here, dict) else kind(here)
            raise ValueError(f"missing column: {shown(path)} ends at {shown(name)}; there is: {there or 'nothing'}")
        here = here[name]
    return here


def text(given: Any, place: str) -> str:
    """The text itself. Raises ValueError if it is none, empty, too long, or holds a character that may not be there."""
    if not isinstance(given, str):
        raise ValueError(f"wrong type: {place} is {kind(given)}, text is needed")
    if len(given) > CHARACTERS:
        raise ValueError(f"text too long: {place} has {len(given):,} characters, at most {CHARACTERS:,}")
    if not given.strip():
        raise ValueError(f"empty text: {place}" + " is only white space" * bool(given))
    fault = characters.fault(given)
    if fault:
        raise ValueError(f"{fault} of {place}")
    return given


def kind(given: Any) -> str:
    """What a value is, in words."""
    if isinstance(given, bytes):
        return "bytes that are not UTF-8 text"
    return KINDS.get(type(given), type(given).__name__)
