"""random_latents: latents drawn from those that fire on these answers: what any latent does. The null of `latents`."""

import numpy as np

from emis_platform.core.records import Direction
from emis_platform.lab import directions
from emis_platform.lab.material import Material


def select(material: Material) -> list[Direction]:
    live = sorted(row.latent for row in material.latents if row.base_rate > 0 or row.organism_rate > 0)
    drawn = np.random.default_rng(material.seed).permutation(live)[: material.counts.random_latents]
    return [directions.latent(int(number), material.layer, material.decoder_FD, null=True) for number in drawn]
