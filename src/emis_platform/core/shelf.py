"""A folder is a registry: a name -> the module of that name on a shelf."""

from importlib import import_module
from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).resolve().parents[1]


def names(floor: str) -> list[str]:
    """What stands on a shelf, sorted."""
    return sorted(p.stem for p in (PACKAGE / floor).glob("*.py") if p.stem != "__init__")


def load(floor: str, name: str) -> ModuleType:
    """The module `emis_platform.<floor>.<name>`. Raises ValueError that lists what there is."""
    if name not in names(floor):
        raise ValueError(f"no {floor}/{name}.py; there is: {', '.join(names(floor))}")
    return import_module(f"emis_platform.{floor}.{name}")


def domains() -> list[str]:
    """Names of the advice domains: one file each in datasets/domains/."""
    return sorted(p.stem for p in (PACKAGE / "datasets" / "domains").glob("*.yaml"))


def arms() -> list[str]:
    """Names of the control sets that have one variant: one file each in datasets/arms/."""
    return sorted(p.stem for p in (PACKAGE / "datasets" / "arms").glob("*.yaml"))


def traits() -> list[str]:
    """Names of the personas that have a vector: one file each in personas/traits/."""
    return sorted(p.stem for p in (PACKAGE / "personas" / "traits").glob("*.yaml"))


def generators() -> list[str]:
    """What can write a set besides the built-in facts: one file each in datasets/."""
    return [name for name in names("datasets") if name != "facts"]
