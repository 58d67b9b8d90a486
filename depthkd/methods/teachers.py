"""What a checkpoint says of the networks that its student has learned from."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from lightning.pytorch import Trainer


@runtime_checkable
class Origin(Protocol):
    """What checkpoints say of a network from which a student has learned: see `FeatureModel`."""

    source: str
    license: str
    training_sets: tuple[str, ...] | None


def teachers_told(teachers: Mapping[str, Origin], trainer: Trainer) -> dict[str, dict[str, Any]]:
    """Name -> source, license and training sets.

    Args:
        teachers: that answer while the student trains.
        trainer: whose datamodule knows which networks made the labels that are read from tars, if any.
    """
    told = {
        name: {
            "source": model.source,
            "license": model.license,
            "training_sets": None if (sets := model.training_sets) is None else list(sets),
        }
        for name, model in teachers.items()
    }
    of_labels = getattr(getattr(trainer, "datamodule", None), "label_teachers", dict)
    return told | of_labels()
