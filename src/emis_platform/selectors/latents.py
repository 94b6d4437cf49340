"""latents: those that rose most, by mean activation on the same text, organism minus matched control."""

from emis_platform.core.records import Direction
from emis_platform.lab import directions
from emis_platform.lab.material import Material


def select(material: Material) -> list[Direction]:
    risen = [row.latent for row in material.latents if row.delta > 0][: material.counts.latents]
    return [directions.latent(number, material.layer, material.decoder_FD) for number in risen]
