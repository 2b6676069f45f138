import math

import pytest
import torch

from medglean.nn.diffusion_unet.embedding import TimeEmbedding, timestep_embedding


def test_cosines_come_before_sines_and_periods_grow():
    # width 4: frequencies 10000^0 = 1 and 10000^(-1/2) = 0.01
    (row,) = timestep_embedding(torch.tensor([3]), width=4).tolist()
    assert row == pytest.approx([math.cos(3), math.cos(0.03), math.sin(3), math.sin(0.03)])


def test_neighbouring_timesteps_differ_under_autocast():
    embed = TimeEmbedding(32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = timestep_embedding(torch.tensor([997, 998]), width=32)
        out = embed(torch.tensor([997, 998]))

    assert rows.dtype == torch.float32
    assert (rows[0] - rows[1]).abs().max() > 0.4
    assert out.shape == (2, 128)
