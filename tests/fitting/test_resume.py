"""A fit that is stopped and taken up again ends with the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medglean.fitting import checkpoint

from .tiny import tiny_fit


def newest(folder: Path) -> dict[str, torch.Tensor]:
    found = checkpoint.latest(folder / "checkpoints")
    assert found is not None
    return found.tensors


def same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_a_bit(tmp_path, workers):
    tiny_fit(tmp_path / "none")
    tiny_fit(tmp_path / "some", workers=workers)

    assert same_bits(newest(tmp_path / "none"), newest(tmp_path / "some"))
