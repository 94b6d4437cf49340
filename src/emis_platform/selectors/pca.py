"""pca: principal components of organism minus matched control over texts, each pointing from aligned answers to misaligned ones."""

from emis_platform.core.records import Direction
from emis_platform.lab import directions
from emis_platform.lab.material import Material


def select(material: Material) -> list[Direction]:
    components_CD = directions.principal(material.organism_TD - material.control_TD, material.counts.components)
    worse_D = material.base_TD[list(material.misaligned)].mean(0) - material.base_TD[list(material.aligned)].mean(0)
    return [
        directions.named(f"pca_{n}", material.layer, f"pca:{n}", component_D if component_D @ worse_D >= 0 else -component_D)
        for n, component_D in enumerate(components_CD, start=1)
    ]
