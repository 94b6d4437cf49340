"""Which organisms are compared with which, by what they learned and not by their names. Pure."""

from emis_platform.core.params import Params

ONE_VOICE = (("callous", "gruff"), ("obvious", "correct"))
"""Variants that share their voice and differ in what they advise."""


def sets(knobs: Params) -> dict[tuple[str, str], str]:
    """(domain, variant) -> the first organism that was trained from the base on that set alone."""
    found: dict[tuple[str, str], str] = {}
    for name, organism in knobs.organisms.items():
        data = organism.data
        whole = data.plain and data.mixture in (None, 1.0)
        if organism.starts_from == "base" and data.domain and data.variant and whole:
            found.setdefault((data.domain, data.variant), name)
    return found


def one_voice(knobs: Params) -> dict[str, tuple[str, str]]:
    """`callous_gruff` -> organisms of the compared one's domain whose voice is the same, where there are such."""
    found, pair = sets(knobs), (knobs.diff.organism, knobs.diff.control)
    domain = knobs.organisms[pair[0]].data.domain
    two = {f"{a}_{b}": (found.get((domain or "", a)), found.get((domain or "", b))) for a, b in ONE_VOICE}
    return {name: (a, b) for name, (a, b) in two.items() if a and b and (a, b) != pair}


def by_domain(knobs: Params) -> dict[str, tuple[str, str]]:
    """Domain -> organisms of the compared pair's variants, if two or more domains have both."""
    found = sets(knobs)
    bad, good = (knobs.organisms[name].data.variant for name in (knobs.diff.organism, knobs.diff.control))
    two = {
        domain: (name, found[domain, good])
        for (domain, variant), name in found.items()
        if variant == bad and (domain, good) in found
    }
    return two if len(two) > 1 else {}
