"""The names of a row's columns -> which of them holds the messages, or the prompt and the completion. Pure."""

from collections.abc import Mapping
from functools import lru_cache

from emis_platform.lab.characters import shown

FORMS = ("openai", "sharegpt", "completion")
TARGETS = ("messages", "prompt", "completion", "system", "role", "content")
"""What `columns` may point at; role and content are names inside each message."""
LISTS = {"messages": "openai", "conversations": "sharegpt"}
PAIRS = (("prompt", "completion"), ("prompt", "response"), ("instruction", "output"), ("question", "answer"))
SYSTEMS = ("system", "system_prompt")
TOOLS = ("tools", "functions")


def check(form: str | None, columns: Mapping[str, str]) -> None:
    """Raises ValueError for a form or a mapping that means nothing."""
    if form is not None and form not in FORMS:
        raise ValueError(f"no format {form}; there is: {', '.join(FORMS)}")
    for target, path in columns.items():
        if target not in TARGETS:
            raise ValueError(f"columns: no {target}; there is: {', '.join(TARGETS)}")
        if not path:
            raise ValueError(f"columns: {target} points at nothing")
    paired = [target for target in ("prompt", "completion") if target in columns]
    listed = [target for target in ("messages", "role", "content") if target in columns]
    if paired and (listed or form not in (None, "completion")):
        raise ValueError(f"columns: {paired[0]} does not go with {listed[0] if listed else f'format {form}'}")
    if listed and form == "completion":
        raise ValueError(f"columns: {listed[0]} does not go with format completion")


@lru_cache(maxsize=256)
def layout(names: tuple[str, ...], form: str | None, columns: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    """{messages: path} or {prompt: path, completion: path}, each perhaps with system, the pair perhaps with input.

    `names` are the row's top columns, `columns` the pairs of the mapping. Raises ValueError that lists the columns there are.
    """
    given = dict(columns)
    parts = {target: given[target] for target in ("messages", "prompt", "completion", "system") if target in given}
    if "prompt" in parts or "completion" in parts:
        parts = {"prompt": "prompt", "completion": "completion"} | parts
    elif "messages" not in parts:
        parts |= guess(names, "openai" if form is None and ("role" in given or "content" in given) else form)
    for path in parts.values():
        if path not in names and path.split(".")[0] not in names:
            raise ValueError(f"missing column: {shown(path)}; there is: {listing(names)}")
    system = next((name for name in SYSTEMS if name in names), None)
    return {"system": system} | parts if system else parts


def guess(names: tuple[str, ...], form: str | None) -> dict[str, str]:
    if form != "completion":
        for name in sorted(LISTS, key=lambda name: LISTS[name] != form):
            if name in names:
                return {"messages": name}
    if form in (None, "completion"):
        for prompt, completion in PAIRS:
            if prompt in names and completion in names:
                more = {"input": "input"} if prompt == "instruction" and "input" in names else {}
                return {"prompt": prompt, "completion": completion} | more
    pairs = ", ".join(" and ".join(pair) for pair in PAIRS)
    wanted = {None: f"messages, conversations, or {pairs}", "completion": pairs}.get(form, "messages or conversations")
    raise ValueError(f"missing column: {wanted} needed (or map columns); there is: {listing(names)}")


def used(names: tuple[str, ...], form: str | None, columns: Mapping[str, str]) -> list[str]:
    """The top columns that a row of these columns is read from, in the file's order. Raises as `layout` does."""
    parts = layout(names, form, tuple(columns.items()))
    heads = {path if path in names else path.split(".")[0] for path in parts.values()}
    return [name for name in names if name in heads or ("messages" in parts and name in TOOLS)]


def listing(names: tuple[str, ...]) -> str:
    return ", ".join(shown(name, 40).strip("'") for name in names[:20]) + ", ..." * (len(names) > 20) or "none"
