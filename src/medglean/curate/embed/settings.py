"""Settings of the embedding: which encoder, how images are prepared for it, how it is trained."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medglean.data.recipe import Recipe
from medglean.fitting.settings import FitSettings, OptimizerSettings


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MaskSettings(_Settings):
    """What is taken out of an image before it is resized and embedded; by default nothing.

    Masking works on an 8-bit copy of the image at ``working_px``, because thin letters are gone
    once an image is small.
    """

    borders: bool = False
    """Set dark or constant rows and columns at the edge to 0, and crop to what is left."""
    sector: bool = False
    """Set to 0 what lies outside of the largest bright region (the fan of an ultrasound probe)."""
    text: bool = False
    """Take out bright thin marks: letters, calipers, rulers."""
    static: bool = False
    """Take out bright marks that do not change over the frames of a clip (column ``group``)."""
    colour: bool = False
    """Also take out coloured pixels. Not for colour Doppler or pathology."""
    fill: Literal["inpaint", "median", "black"] = "inpaint"
    """What marks are replaced by: a continuation of their surroundings, the median of their
    surroundings, or 0."""
    working_px: int = Field(default=256, ge=64, le=2048)
    """Side of the working copy."""

    @property
    def any(self) -> bool:
        """Whether anything is masked."""
        return self.borders or self.sector or self.text or self.static or self.colour


def _dvae_fit() -> FitSettings:
    return FitSettings(
        epochs=1000,
        max_steps=3000,
        batch_size=64,
        optimizer=OptimizerSettings(name="adam", learning_rate=5e-4),
    )


class DVaeSettings(_Settings):
    """The disentangled VAE of Burgess et al. 2018 and its training."""

    train_images: int = Field(default=5000, ge=2)
    """At most so many images of the training part, drawn by the seed; 5,000 in the paper."""
    latent: int = Field(default=128, ge=1)
    """Numbers per image; 128 in the paper."""
    reconstruction: Literal["bernoulli", "mse"] = "bernoulli"
    """Loss of the rebuilt pixels; see :func:`medglean.nn.dvae.reconstruction_loss`."""
    beta: float = Field(default=1.0, ge=0.0)
    """Weight of the KL divergence."""
    gamma: float | None = Field(default=None, gt=0.0)
    """Weight of |KL - C| in place of beta KL; None: beta."""
    capacity: float = Field(default=25.0, ge=0.0)
    """C at the end of the training, in nats; with ``gamma`` only."""
    sampled: bool = False
    """Embed by a draw from the posterior (the same for the same seed and image) instead of its
    mean."""
    fit: FitSettings = Field(default_factory=_dvae_fit)
    """Its length counts in steps (``max_steps``), so that small sets are trained as long as large
    ones. Its ``seed`` is replaced by that of the run."""


class PcaSettings(_Settings):
    """Principal components of what each thumbnail shows."""

    features: Literal["hog", "pixels"] = "hog"
    """``hog``: histograms of oriented gradients, which tell form and not brightness. ``pixels``:
    grey values, each image brought to mean 0 and standard deviation 1."""
    train_images: int = Field(default=5000, ge=2)
    """At most so many images of the training part, drawn by the seed, give the components."""
    components: int = Field(default=64, ge=1)
    """Numbers per image; fewer where there are fewer images or pixels."""
    whiten: bool = False
    """Divide each component by its standard deviation."""


class BackboneSettings(_Settings):
    """A torchvision network without its last layer."""

    architecture: str = "resnet18"
    """See `medglean.nn.backbones.ARCHITECTURES`."""
    weights: str = ""
    """Path of a weights file, or ``imagenet`` where torchvision has the file on this machine.
    Random weights embed nothing, so it must be given; nothing is downloaded."""


class FileSettings(_Settings):
    """A network in a file."""

    path: str = ""
    """A TorchScript file (``.pt``, ``.ts``) or an ONNX file (``.onnx``; needs the extra ``onnx``).
    It takes float32 (n, c, h, w) and gives (n, d) or (n, d, 1, 1)."""


class ArraySettings(_Settings):
    """Embeddings made elsewhere."""

    path: str = ""
    """``.npz`` with ``ids`` and ``embeddings``; ``.parquet`` with ``id`` and a column of lists or
    columns of numbers; ``.npy`` without ids."""
    in_manifest_order: bool = False
    """Says that the rows of an ``.npy`` are those of the manifest, in its order."""
    allow_extra: bool = False
    """Whether ids that the manifest lacks are left out (and counted) instead of refused."""


class InputSettings(_Settings):
    """From values in [0, 1] to what a backbone or a network from a file sees."""

    mean: tuple[float, ...] = ()
    """Subtracted, one per channel; empty: torchvision's constants for a backbone, else nothing."""
    sd: tuple[float, ...] = ()
    """Divided by, one per channel."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.mean) != len(self.sd):
            raise ValueError(
                f"one mean and one sd per channel, got {len(self.mean)} and {len(self.sd)}."
            )
        if any(sd <= 0 for sd in self.sd):
            raise ValueError(f"each sd must be above 0, got {self.sd}.")
        return self


class EmbeddingSettings(_Settings):
    """How each image becomes a row of numbers."""

    encoder: Literal["dvae", "pca", "backbone", "file", "arrays"] = "dvae"
    """``dvae``: trained on the images themselves. ``pca``: components of thumbnails,
    the cheapest.
    ``backbone``: a torchvision network. ``file``: any network. ``arrays``: made elsewhere."""
    images: Recipe = Field(default_factory=lambda: Recipe(size_px=(64, 64), resize="crop"))
    """How images are prepared: "cropped and resized to 64x64", grey, as in the paper."""
    mask: MaskSettings = Field(default_factory=MaskSettings)
    dvae: DVaeSettings = Field(default_factory=DVaeSettings)
    pca: PcaSettings = Field(default_factory=PcaSettings)
    backbone: BackboneSettings = Field(default_factory=BackboneSettings)
    file: FileSettings = Field(default_factory=FileSettings)
    arrays: ArraySettings = Field(default_factory=ArraySettings)
    inputs: InputSettings = Field(default_factory=InputSettings)
    centre: bool = False
    """Subtract the mean embedding: the remedy where all pairs are alike (similarity above 0.9)."""
    batch_size: int = Field(default=256, ge=1)
    """Images encoded at a time."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        needs = {"file": self.file.path, "arrays": self.arrays.path}
        if needs.get(self.encoder) == "":
            raise ValueError(
                f"encoder {self.encoder!r} needs {self.encoder}.path, the file to read."
            )
        if self.encoder == "backbone" and self.backbone.weights in ("", "none"):
            raise ValueError(
                "encoder 'backbone' needs backbone.weights: the path of a weights file, or "
                "imagenet. A network with random weights says nothing about images."
            )
        if self.encoder == "dvae" and self.images.size_px[0] != self.images.size_px[1]:
            raise ValueError(f"the d-VAE takes square images, got size_px {self.images.size_px}.")
        if self.mask.any and self.images.equalise != "none":
            raise ValueError(
                "mask and images.equalise cannot be used together: equalising spreads what was "
                "masked. Set images.equalise to 'none'."
            )
        if self.mask.any and self.images.channels not in ("grey", "rgb"):
            raise ValueError("mask works on images of one grey or three colour channels.")
        if self.inputs.mean and len(self.inputs.mean) != self.images.channel_count:
            raise ValueError(
                f"inputs.mean has {len(self.inputs.mean)} numbers, the images have "
                f"{self.images.channel_count} channel(s)."
            )
        return self
