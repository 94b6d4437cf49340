"""protective: the latents that fell most, organism minus matched control: added back, they should re-align."""

from emis_platform.core.records import Direction
from emis_platform.lab import directions
from emis_platform.lab.material import Material


def select(material: Material) -> list[Direction]:
    fallen = [row.latent for row in reversed(material.latents) if row.delta < 0][: material.counts.protective]
    return [directions.latent(number, material.layer, material.decoder_FD) for number in fallen]
