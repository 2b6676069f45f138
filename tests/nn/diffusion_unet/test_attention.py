import math

import pytest
import torch
from tests.nn.diffusion_unet.conftest import images, stirred

from medglean.nn.diffusion_unet.attention import AttentionPool, SpatialAttention, heads_of


def plain_attention(query, key, value):
    """Attention of one head by its definition; all of shape (n, d)."""
    weights = (query @ key.T / math.sqrt(query.shape[1])).softmax(dim=1)
    return weights @ value


@pytest.mark.parametrize("heads", [1, 2])
def test_spatial_attention_by_its_definition_head_by_head(heads):
    layer = stirred(SpatialAttention(64, heads=heads).double())
    x = images(1, 64, 3, 5, dtype=torch.float64)
    tokens = layer.norm(x)[0].flatten(1)  # channels, pixels
    qkv = (layer.qkv.weight[:, :, 0] @ tokens + layer.qkv.bias[:, None]).T
    d = 64 // heads
    found = []
    for head in range(heads):  # q, k, v of head 0, then q, k, v of head 1
        q, k, v = qkv[:, 3 * d * head : 3 * d * (head + 1)].split(d, dim=1)
        found.append(plain_attention(q, k, v))
    out = layer.proj_out.weight[:, :, 0] @ torch.cat(found, dim=1).T + layer.proj_out.bias[:, None]

    for layout in (torch.contiguous_format, torch.channels_last):
        answer = layer(x.contiguous(memory_format=layout))
        torch.testing.assert_close(answer, x + out.reshape(1, 64, 3, 5))


@pytest.mark.parametrize("heads", [1, 2])
def test_pool_is_attention_of_all_tokens_of_which_the_first_is_kept(heads):
    pool = stirred(AttentionPool(3, channels=64, heads=heads, out_channels=2).double())
    x = images(1, 64, 3, 3, dtype=torch.float64)
    pixels = x[0].flatten(1)
    tokens = (
        torch.cat([pixels.mean(dim=1, keepdim=True), pixels], dim=1) + pool.positional_embedding
    )
    qkv = (pool.qkv_proj.weight[:, :, 0] @ tokens + pool.qkv_proj.bias[:, None]).T
    d = 64 // heads
    q, k, v = qkv.split(64, dim=1)  # queries of all heads before keys before values
    parts = [slice(d * head, d * (head + 1)) for head in range(heads)]
    found = torch.cat([plain_attention(q[:, p], k[:, p], v[:, p]) for p in parts], dim=1)
    expected = pool.c_proj.weight[:, :, 0] @ found[0] + pool.c_proj.bias

    torch.testing.assert_close(pool(x)[0], expected)


def test_width_of_a_head_decides_their_number():
    assert heads_of(128, heads=4, head_width=None) == 4
    assert heads_of(128, heads=4, head_width=64) == 2
