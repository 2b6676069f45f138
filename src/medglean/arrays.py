"""Names for array shapes, as they stand in signatures.

Images in memory are ``c *spatial``: the channel first, then the axes that the reader documents.
Batches put ``b`` in front. Types are jaxtyping's; they are checked while the tests run and cost
nothing otherwise.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Num, UInt8

Values = Num[np.ndarray, "c *spatial"]
"""An image in its file's own unit, channel first."""

UnitImage = Float[np.ndarray, "c h w"]
"""An image whose values lie in [0, 1], channel first."""

UnitBatch = Float[np.ndarray, "b c h w"]
"""A batch of images whose values lie in [0, 1]."""

Scores = Float[np.ndarray, " n"]
"""One raw score per image; larger means more of the named class."""

ScoreTable = Float[np.ndarray, "n k"]
"""One score per image and class."""

Truth = Bool[np.ndarray, " n"]
"""Whether each image has the named class."""

Indices = Int[np.ndarray, " n"]
"""Positions in a manifest, counted from 0."""

StoredImages = UInt8[np.ndarray, "n c h w"]
"""Images as an 8-bit cache keeps them: 0 is 0.0 and 255 is 1.0."""

Kind = Literal["single", "multi"]
"""What targets mean: one class per image, or any number of findings."""
