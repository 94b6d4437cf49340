"""random: directions drawn from the sphere, of equal norm: what any push does."""

from emis_platform.core.records import Direction
from emis_platform.lab import directions
from emis_platform.lab.material import Material


def select(material: Material) -> list[Direction]:
    return directions.random(material.counts.random, material.base_TD.shape[1], material.layer, material.seed)
