"""activation: how far fine-tuning moved the same text, organism minus matched control; and in pairs of one voice, callous minus gruff."""

from emis_platform.core.records import Direction
from emis_platform.lab import directions
from emis_platform.lab.material import Material


def select(material: Material) -> list[Direction]:
    moved_D = (material.organism_TD - material.control_TD).mean(0)
    return [
        directions.named("activation", material.layer, "activation_difference", moved_D),
        *(
            directions.named(f"activation_{name}", material.layer, f"activation_difference:{pair}", moved_TD.mean(0))
            for name, (pair, moved_TD) in material.pairs.items()
        ),
    ]
