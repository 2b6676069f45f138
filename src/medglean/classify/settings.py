"""Everything that a classifier's preset can say."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from medglean.data.augment_settings import Augment
from medglean.data.division import SplitSettings
from medglean.data.recipe import Recipe
from medglean.fitting.settings import FitSettings
from medglean.runs.preset import Preset


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _operating_rule(text: str) -> str:
    """Check the name of an operating point: ``youden``, or a rate and its least value."""
    name, _, least = text.partition("=")
    if text == "youden":
        return text
    try:
        share = float(least)
    except ValueError:
        share = float("nan")
    if name in ("sensitivity", "specificity") and 0.0 < share <= 1.0:
        return text
    raise ValueError(
        f"{text!r} is no operating point; expected 'youden', 'sensitivity=0.95' or "
        "'specificity=0.95', with any share above 0 and up to 1."
    )


OperatingRule = Annotated[str, AfterValidator(_operating_rule)]


class LabelSettings(_Settings):
    """What is predicted."""

    kind: Literal["auto", "single", "multi"] = "auto"
    """``single``: one class per image from column ``label`` (cross-entropy). ``multi``: any number
    of findings from column ``labels`` (binary cross-entropy). ``auto``: ``multi`` where the
    manifest has a column ``labels`` and no ``label``."""
    classes: tuple[str, ...] | None = None
    """Names and order of the classes; by default all that occur, sorted. Images of other classes
    are left out, and counted in the report."""
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target spread evenly over all classes."""
    min_images: int = Field(default=2, ge=1)
    """A class with fewer images is refused (``single``): one image cannot be learnt from and
    tested on. 1 lets it pass."""
    weights: Literal["none", "balanced"] = "none"
    """``balanced``: each class counts n / (k n_class) in the loss."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Probability from which a finding counts as present (multi-label)."""


class ModelSettings(_Settings):
    """The network."""

    architecture: str = "resnet18"
    """A torchvision network: see `medglean.nn.backbones.ARCHITECTURES`."""
    weights: str = "none"
    """``none``: from scratch; ``imagenet``: torchvision's; or the path of a weights file."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """In the classifier of AlexNet and VGG11; by default torchvision's 0.5."""
    train: Literal["all", "head"] = "all"
    """``all``: every weight. ``head``: only the last layer; the rest is frozen, each image passes
    through it once, and its features are kept, so that an epoch costs next to nothing. Without
    augmentation, and for weights that have learnt something elsewhere."""


class InputSettings(_Settings):
    """From values in [0, 1] to what the network sees."""

    normalise: Literal["none", "dataset", "image", "imagenet"] = "dataset"
    """``none``: [0, 1] as it is. ``dataset``: minus mean, over standard deviation of the training
    part, per channel. ``image``: the same of each image itself, after augmentation.
    ``imagenet``: torchvision's constants."""


class PredictSettings(_Settings):
    """How a trained network is applied."""

    batch_size: int = Field(default=64, ge=1)
    """Images at a time."""
    flip: bool = False
    """Average the logits of the image and of its mirror image."""
    zooms: tuple[Annotated[float, Field(gt=0.2, lt=5.0)], ...] = Field(default=(1.0,), min_length=1)
    """Average the logits of the image magnified by each of these about its centre: 1 is the image
    itself, below 1 it lies in black. Not while training: an epoch is judged on the image alone."""


class DecideSettings(_Settings):
    """What is chosen on the validation part once the network is trained."""

    calibrate: Literal["temperature", "none"] = "temperature"
    """``temperature``: logits are divided by the number that makes the validation images most
    likely (Guo et al. 2017); the order of the scores stays. Raw logits are written in any case."""
    points: tuple[OperatingRule, ...] = ("youden", "sensitivity=0.95", "specificity=0.95")
    """Thresholds to find: ``youden`` (most sensitivity + specificity), or the one that keeps a rate
    on the validation part."""


class MeasureSettings(_Settings):
    """What a report measures; none of it changes the network."""

    replicates: int = Field(default=2000, ge=100)
    """Resamples of patients behind each interval."""
    subgroups: tuple[str, ...] = ("source", "view", "sex", "age")
    """Columns to measure apart, where the manifest has them; ``age`` in bands, in years."""
    mask: str = "mask"
    """Column of masks of the organ, such as the lungs: how much of the saliency lies inside, and
    what is blacked out for the audit. Where there is none, the audit blacks out the middle."""
    saliency: int = Field(default=8, ge=0)
    """Images of which Grad-CAM and integrated gradients are drawn; 0: none."""
    integrated_steps: int = Field(default=16, ge=2)
    """Steps of integrated gradients."""
    shortcuts: bool = True
    """Set baselines beside the network that cannot see the disease: see `docs/explanation/cxr.md`
    in the documentation."""


class ClassifyPreset(Preset):
    """A recipe for training and applying an image classifier."""

    task: Literal["classify"] = "classify"
    images: Recipe = Field(default_factory=Recipe)
    augment: Augment = Field(default_factory=Augment)
    inputs: InputSettings = Field(default_factory=InputSettings)
    split: SplitSettings = Field(default_factory=SplitSettings)
    labels: LabelSettings = Field(default_factory=LabelSettings)
    model: ModelSettings = Field(default_factory=ModelSettings)
    mixup: float = Field(default=0.0, ge=0)
    """Alpha of the Beta distribution that pairs of images are mixed by (Zhang et al., ICLR 2018);
    0 is off."""
    fit: FitSettings = Field(default_factory=FitSettings)
    keep: Literal["best", "last"] = "best"
    """Whose weights are kept: of the epoch that did best on the validation part, or of the last.
    ``last`` suits an average of weights and a learning rate that ends at 0: choosing among its
    epochs would follow the noise of a small validation part."""
    seeds: int = Field(default=1, ge=1, le=20)
    """Networks trained alike from different seeds on the same split. Their mean logits are the
    classifier; the report says each one's numbers with mean and standard deviation."""
    predict: PredictSettings = Field(default_factory=PredictSettings)
    decide: DecideSettings = Field(default_factory=DecideSettings)
    measure: MeasureSettings = Field(default_factory=MeasureSettings)
