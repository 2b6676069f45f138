"""Everything that a preset for curation can say."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medglean.curate.embed.settings import EmbeddingSettings
from medglean.curate.methods.table import DEFAULT, method_named
from medglean.errors import UsageError
from medglean.runs.preset import Preset


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SelectionSettings(_Settings):
    """By what rule images are chosen, and what may be chosen."""

    method: str = DEFAULT
    """A name of `medglean.curate.methods.table.METHODS`."""
    start: int | str | None = None
    """``enrich`` alone: images drawn at random to begin with, as a number or a share such as
    "2.2%"; by default a tenth of the budget, at most 1,000, and none where some are taken
    beforehand."""
    group: str = "group"
    """Column of what is alike by making: clip, volume, slide. Not used where it is absent."""
    patient: str = "patient"
    """Column of whom an image shows. Not used where it is absent."""
    stratum: str | None = None
    """Column (site, view, manufacturer) that quotas are for."""
    quotas: dict[str, int | str] = Field(default_factory=dict)
    """For each stratum how many images of the budget: a number, or a share such as "50%"."""
    max_per_group: int | None = Field(default=None, ge=1)
    """Images of one group at most."""
    preselected: Literal["none", "labelled"] = "none"
    """``labelled``: images with a label count as taken, and others are chosen beside them."""
    stop_similarity: float | None = Field(default=None, gt=-1.0, le=1.0)
    """``enrich`` alone: end where all that is left resembles something taken more than this."""
    neighbours: int | None = Field(default=None, ge=1)
    """Of each image in the graph of the coverage methods; by default theirs."""
    draws: int = Field(default=5, ge=1)
    """Random selections that the selection is compared with."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            method_named(self.method)
        except UsageError as error:
            raise ValueError(str(error)) from error
        if bool(self.quotas) != (self.stratum is not None):
            raise ValueError(
                "quotas and stratum belong together: stratum names the column, quotas say how "
                "many images of each of its values."
            )
        return self


class OutlierSettings(_Settings):
    """The gate that keeps junk out of the selection, on a list of its own."""

    gate: bool = True
    """Whether images that look like nothing else are left out of the choice."""
    neighbour: int = Field(default=1, ge=1)
    """The similarity to the how-many-th nearest image counts."""
    deviations: float = Field(default=3.0, ge=0.0)
    """How many robust standard deviations below the median is too far."""
    least_deviation: float = Field(default=0.05, ge=0.0)
    """What that deviation is at least, as a similarity."""
    most_share: float = Field(default=0.02, gt=0.0, le=1.0)
    """At most this share of the images is listed for looking like nothing else."""
    least_contrast: float = Field(default=0.01, ge=0.0, le=1.0)
    """An image whose thumbnail varies less than this is nearly constant, and listed too."""


class DuplicateSettings(_Settings):
    """Which pairs are listed as near-duplicates."""

    min_similarity: float = Field(default=0.95, gt=0.0, le=1.0)
    """Cosine similarity of the embeddings from which on."""
    most: int = Field(default=20_000, ge=1)
    """Pairs that are listed; the most similar ones, where there are more."""
    structural: bool = True
    """Order the pairs by the structural similarity of their thumbnails (SSIM)."""


class ReportSettings(_Settings):
    """What the page says."""

    seconds_per_image: float = Field(default=1.0, gt=0.0)
    """Time to give one image its class; 1 s in the paper."""
    minutes_per_mask: float = Field(default=5.0, gt=0.0)
    """Time to outline one image; 5 min in the paper."""
    thresholds: tuple[float, ...] = (0.5, 0.7, 0.9)
    """Similarities above which pairs are counted as redundant."""


class CuratePreset(Preset):
    """A recipe for choosing the images to label."""

    task: Literal["curate"] = "curate"
    seed: int = Field(default=0, ge=0)
    """Of everything that is drawn: the images that the encoder learns from, its weights, the
    random start."""
    embedding: EmbeddingSettings = Field(default_factory=EmbeddingSettings)
    selection: SelectionSettings = Field(default_factory=SelectionSettings)
    outliers: OutlierSettings = Field(default_factory=OutlierSettings)
    duplicates: DuplicateSettings = Field(default_factory=DuplicateSettings)
    report: ReportSettings = Field(default_factory=ReportSettings)
