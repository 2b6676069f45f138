"""What training every weight and training the last layer alone have in common."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn

from medglean.classify.prepare import Chosen
from medglean.classify.settings import ClassifyPreset
from medglean.data.imageset import ImageSet
from medglean.fitting import FitResult, load_last, load_weights
from medglean.fitting.classification import class_weights


def loss_weights(
    images: ImageSet, chosen: Chosen, preset: ClassifyPreset
) -> Float[Tensor, " k"] | None:
    """Return the weights of the classes in the loss, from the training part; None for none."""
    if preset.labels.weights != "balanced":
        return None
    learn = images.targets[images.positions("train")]
    return class_weights(learn, kind=chosen.kind, classes=len(chosen.classes))


def load_kept(result: FitResult, preset: ClassifyPreset, networks: Mapping[str, nn.Module]) -> None:
    """Load the weights that the preset keeps: of the best validation, or the last ones."""
    if preset.keep == "best" and result.best is not None:
        load_weights(result.best, dict(networks))
    else:
        load_last(result.last, dict(networks))
