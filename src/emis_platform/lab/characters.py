"""A text -> what is wrong with its characters, or None: controls, halves of a pair, marks that reorder or hide what is read. Pure."""

import re
import unicodedata

SUSPECT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""All that may never stand in a text, or only where a script or an emoji needs it."""

JOINING = re.compile(
    "[\u0600-\u08ff\u0900-\u0dff\u0e00-\u109f\u1700-\u18af\u1900-\u1cff\ua800-\uabff\ufb50-\ufdff\ufe70-\ufefc"
    "\U00010a00-\U00010fff\U00011000-\U00011fff\U0001e900-\U0001e95f]"
)
"""Scripts whose letters join: Arabic and its kin, the Indic and South-East Asian ones, Mongolian, Adlam (Unicode 16, chapters 9 to 14)."""
SPACELESS = re.compile("[\u0e00-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u1b00-\u1b7f\ua980-\ua9ff\uaa00-\uaa7f]")
"""Scripts written without spaces, where a zero-width space marks the end of a word: Thai, Lao, Tibetan, Burmese, Khmer, Javanese."""
MONGOLIAN = re.compile("[\u1800-\u18af]")
EMOJI = re.compile(
    "[\u00a9\u00ae\u203c\u2049\u20e3\u2100-\u214f\u2190-\u21ff\u2300-\u23ff\u2460-\u24ff\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff"
    "\u3030\u303d\u3297\u3299\ufe0f\U0001f000-\U0001faff]"
)
FLAG = re.compile("\U0001f3f4[\U000e0020-\U000e007e]{2,6}\U000e007f")
"""The flags of England, Scotland, Wales: the only place for tag characters, which else hide a text from its reader."""


def fault(text: str) -> str | None:
    """`reason: code point, name and place` of the first character that may not be there; None for a sound text."""
    for match in SUSPECT.finditer(text):
        if not needed(text, match.start()):
            mark = match.group()
            name = unicodedata.name(mark, "")
            return f"{reason(mark)}: U+{ord(mark):04X}{' ' * bool(name)}{name} at character {match.start() + 1}"
    return None


def needed(text: str, at: int) -> bool:
    """Whether the script or the emoji around it needs the character at `at`."""
    mark, before, after = text[at], text[at - 1 : at] if at else "", text[at + 1 : at + 2]
    beside = {"\u200c": JOINING, "\u200d": JOINING, "\u200b": SPACELESS, "\u180e": MONGOLIAN}.get(mark)
    if beside and (beside.match(before) or beside.match(after)):
        return True
    if mark == "\u200d":
        return bool(EMOJI.match(before) and EMOJI.match(after))
    if "\U000e0000" <= mark <= "\U000e007f":
        return any(flag.start() < at < flag.end() for flag in FLAG.finditer(text, max(0, at - 7), at + 8))
    return False


def reason(mark: str) -> str:
    if mark < "\xa0":
        return "control character"
    if "\ud800" <= mark <= "\udfff":
        return "unpaired surrogate"
    if mark in "\u061c\u200e\u200f" or "\u202a" <= mark <= "\u202e" or "\u2066" <= mark <= "\u206f":
        return "direction mark"
    return "invisible character"


def shown(text: str, length: int = 60) -> str:
    """A stranger's text for a message: quoted, in plain letters, cut."""
    return ascii(text if len(text) <= length else text[:length] + "...")
