"""personas: persona vectors of the base's traits (toxic, sarcastic, ...), made without any organism."""

from emis_platform.core.records import Direction
from emis_platform.lab.material import Material


def select(material: Material) -> list[Direction]:
    return list(material.personas())
