"""means: what the base reads in misaligned answers and not in aligned ones: by the base alone, so that no weight change is in it."""

from emis_platform.core.records import Direction
from emis_platform.lab import directions
from emis_platform.lab.material import Material


def select(material: Material) -> list[Direction]:
    low, high = list(material.misaligned), list(material.aligned)
    origin = f"difference_of_means:{len(low)} against {len(high)} answers, {material.rule}"
    return [directions.difference_of_means(material.layer, material.base_TD[low], material.base_TD[high], origin)]
