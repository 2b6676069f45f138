"""What the shortcut probe looks at: facts about an image that have nothing to do with disease."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

HEADER_FIELDS = (
    "source", "manufacturer", "model", "modality", "view", "body_part", "photometric",
    "transfer_syntax", "laterality", "sex", "age",
)  # fmt: skip
_MANY_VALUES = 50

Features = Float[np.ndarray, "n f"]


def feature_families(
    facts: pd.DataFrame, thumbnails: UInt8[np.ndarray, "n 64 64"], columns: pd.DataFrame
) -> dict[str, Features]:
    """Return the facts to probe, by family; a family that is the same everywhere is left out.

    Parameters
    ----------
    facts
        As :class:`~medglean.data.glance.Glances` has them.
    thumbnails
        Of the same images.
    columns
        The manifest's table; those of its columns that ``HEADER_FIELDS`` names are used.
    """
    pictures = {
        "border": border_features(thumbnails),
        "brightness": brightness_features(thumbnails),
    }
    pictures = {name: x for name, x in pictures.items() if (x != x[:1]).any()}
    written = metadata_families(facts, columns)
    before = {name: x for name, x in written.items() if name in ("file size", "dimensions")}
    return before | pictures | written


def metadata_families(
    facts: pd.DataFrame, columns: pd.DataFrame, *, fields: Sequence[str] = HEADER_FIELDS
) -> dict[str, Features]:
    """Return what is known of images without looking at them, by family.

    A family that is the same everywhere is left out.

    Parameters
    ----------
    facts
        With the columns ``bytes``, ``height``, ``width``, ``format``, ``channels`` and ``bits``;
        a fact that is missing stays NaN.
    columns
        The manifest's table for the same images.
    fields
        Columns to use where they are there.
    """
    size = np.log(facts["bytes"].to_numpy(float))
    area = np.log(facts["height"].to_numpy(float) * facts["width"].to_numpy(float))
    height, width = facts["height"].to_numpy(float), facts["width"].to_numpy(float)
    parts = facts[["format", "channels", "bits"]].itertuples(index=False)
    encoding = [" ".join(map(str, part)) for part in parts]
    families = {
        "file size": np.stack([size, size - area], axis=1),
        "dimensions": np.stack([height, width, height / width], axis=1),
        "encoding": _one_hot(pd.Series(encoding)),
    }
    for name in fields:
        if name in columns:
            families[name] = _header(columns[name])
    return {name: x for name, x in families.items() if _differs(x)}


def _differs(x: Features) -> bool:
    """Whether an image has anything that another has not; what is missing everywhere is not."""
    gone = np.isnan(x)
    same: np.ndarray = (x == x[:1]) | (gone & gone[:1])
    return not bool(same.all())


def border_features(thumbnails: UInt8[np.ndarray, "n 64 64"]) -> Features:
    """Return the mean of 32 stretches of the outermost two pixels, and their spread; 0..1."""
    values = thumbnails.astype(np.float64) / 255
    edges = (
        values[:, :2, :].mean(axis=1),
        values[:, -2:, :].mean(axis=1),
        values[:, :, :2].mean(axis=2),
        values[:, :, -2:].mean(axis=2),
    )
    means = [edge.reshape(len(edge), 8, 8).mean(axis=2) for edge in edges]
    spread = [edge.std(axis=1)[:, None] for edge in edges]
    return np.concatenate([*means, *spread], axis=1)


def brightness_features(thumbnails: UInt8[np.ndarray, "n 64 64"]) -> Features:
    """Return mean, standard deviation and five percentiles of all pixels; 0..1."""
    values = thumbnails.reshape(len(thumbnails), 64 * 64).astype(np.float64) / 255
    parts = [
        values.mean(axis=1),
        values.std(axis=1),
        *np.percentile(values, [1, 25, 50, 75, 99], axis=1),
    ]
    return np.stack(parts, axis=1)


def _header(column: pd.Series) -> Features:
    """Return numbers as they are with a column for "missing", and text as one column per value."""
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.notna().sum() >= 0.9 * column.notna().sum() and numbers.nunique() > 2:
        values = numbers.to_numpy(float)
        missing = np.isnan(values)
        return np.stack([np.where(missing, 0.0, values), missing], axis=1).astype(float)
    return _one_hot(column)


def _one_hot(column: pd.Series) -> Features:
    """Return one column per value, the rare ones together; missing is a value, too."""
    text = column.astype(object).where(column.notna(), "(missing)").astype(str)
    common = text.value_counts().index[:_MANY_VALUES]
    text = text.where(text.isin(common), "(other)")
    return np.asarray(pd.get_dummies(text).to_numpy(float))
