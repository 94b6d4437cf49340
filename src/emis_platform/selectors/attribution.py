"""attribution: the latents that raise log p(misaligned) - log p(aligned) most to first order, one by one, and their weighted sum."""

import numpy as np

from emis_platform.core.records import Direction
from emis_platform.lab import directions
from emis_platform.lab.material import Material


def select(material: Material) -> list[Direction]:
    effects_F = material.attributions()
    best = [int(n) for n in np.argsort(-effects_F, kind="stable")[: material.counts.attribution] if effects_F[n] > 0]
    if not best:
        return []
    together_D = effects_F[best] @ material.decoder_FD[best]
    return [
        directions.named("attribution", material.layer, "attribution", together_D),
        *(directions.latent(number, material.layer, material.decoder_FD) for number in best),
    ]
