"""Text from models and strangers -> what a terminal may show."""


def safe(text: str) -> str:
    """One line that cannot steer a terminal: control characters become marks."""
    return "".join(c if c.isprintable() else "↵" if c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
