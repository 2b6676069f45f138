import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from medglean.errors import UsageError
from medglean.nn import kernel_attention
from medglean.nn.kernel_attention import (
    OFFSET,
    KeySums,
    attend,
    elu_attention,
    exact_attention,
    favor_attention,
    key_sums,
    orthogonal_features,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def tokens(n=64, *, scale=0.5, d=16, e=16, b=2, heads=3, seed=0):
    """Return queries, keys and values whose logits have a standard deviation of scale^2."""
    draw = generator(seed)
    q, k = (scale * torch.randn(b, heads, n, d, generator=draw) for _ in range(2))
    return q, k, torch.randn(b, heads, n, e, generator=draw)


def relative(found, truth):
    return ((found - truth).norm() / truth.norm()).item()


def by_hand(q, k, v, projection):
    """Return equation 5 of Choromanski et al. in float64, with the whole matrix of weights."""
    q, k, v, w = (each.double() for each in (q, k, v, projection))
    q, k = q / q.shape[-1] ** 0.25, k / k.shape[-1] ** 0.25
    of_q = q @ w.t() - (q**2).sum(-1, keepdim=True) / 2
    of_k = k @ w.t() - (k**2).sum(-1, keepdim=True) / 2
    of_q = torch.exp(of_q - of_q.detach().amax(dim=-1, keepdim=True)) + 1e-6
    of_k = torch.exp(of_k - of_k.detach().amax(dim=(-2, -1), keepdim=True)) + 1e-6
    weights = of_q @ of_k.transpose(-2, -1)
    return (weights / weights.sum(dim=-1, keepdim=True)) @ v


def test_exact_attention_by_hand():
    # d = 4: logits 2 q.k / 4 = ln 3 and 0, so weights 3/4 and 1/4
    q = torch.tensor([[[[2.0, 0.0, 0.0, 0.0]]]])
    k = torch.tensor([[[[math.log(3), 0.0, 0.0, 0.0], [0.0, 5.0, 0.0, 0.0]]]])
    v = torch.tensor([[[[1.0], [5.0]]]])
    assert exact_attention(q, k, v).item() == pytest.approx(0.75 * 1 + 0.25 * 5)


def test_elu_attention_by_hand():
    # elu + 1: q (1, -1) -> (2, 1/e); k (0, 0) -> (1, 1), k (2, -2) -> (3, 1/e^2)
    q = torch.tensor([[[[1.0, -1.0]]]])
    k = torch.tensor([[[[0.0, 0.0], [2.0, -2.0]]]])
    v = torch.tensor([[[[10.0], [20.0]]]])
    first, second = 2 + math.exp(-1), 6 + math.exp(-3)
    expected = (10 * first + 20 * second) / (first + second)
    assert elu_attention(q, k, v).item() == pytest.approx(expected, rel=1e-6)


def test_favor_attention_is_the_formula():
    q, k, v = tokens(e=5)
    projection = orthogonal_features(24, 16, generator=generator())
    found = favor_attention(q, k, v, projection)
    torch.testing.assert_close(found.double(), by_hand(q, k, v, projection), rtol=1e-5, atol=1e-6)


def test_favor_attention_approaches_softmax_as_features_grow():
    errors = {}
    for m in (64, 256, 1024):
        each = []
        for seed in range(24):
            q, k, v = tokens(128, b=1, heads=2, seed=seed)
            w = orthogonal_features(m, 16, generator=generator(100 + seed))
            each.append(relative(favor_attention(q, k, v, w), exact_attention(q, k, v)))
        errors[m] = sum(each) / len(each)
    assert 0.12 < errors[256] < 0.2
    # the error of a mean of m falls with the root of m: by half for four times as many, but for
    # the division by a sum that is estimated too
    assert errors[256] == pytest.approx(errors[64] / 2, rel=0.25)
    assert errors[1024] == pytest.approx(errors[256] / 2, rel=0.15)


def test_features_multiply_to_the_exponential_kernel_on_average():
    # E[exp(w.x - |x|^2/2) exp(w.y - |y|^2/2)] = exp(x.y), x and y divided by d^(1/4)
    q, k, v = tokens(1, b=1, heads=1, d=8, scale=0.7)
    w = orthogonal_features(400_000, 8, generator=generator())
    sums = key_sums(k, v, kind="favor", projection=w)
    of_k = sums.k.double() * torch.exp(sums.maximum.double())
    x = q.double() / 8**0.25
    of_q = torch.exp(x @ w.double().t() - (x**2).sum() / 2)
    expected = math.exp((q * k).sum().item() / math.sqrt(8))
    assert (of_q * of_k).mean().item() == pytest.approx(expected, rel=0.01)


def test_orthogonal_directions_give_less_error_than_independent_ones():
    ours, independent = 0.0, 0.0
    for seed in range(12):
        q, k, v = tokens(64, b=1, heads=1, seed=seed)
        truth, draw = exact_attention(q, k, v), generator(50 + seed)
        w = orthogonal_features(64, 16, generator=draw)
        ours += relative(favor_attention(q, k, v, w), truth)
        w = torch.randn(64, 16, generator=draw)
        independent += relative(favor_attention(q, k, v, w), truth)
    assert ours < 0.95 * independent


def test_rows_are_orthogonal_within_a_block_and_as_long_as_gaussian_vectors():
    w = orthogonal_features(4001, 16, generator=generator())
    assert w.shape == (4001, 16)
    for start in range(0, 4001, 16):
        block = w[start : start + 16]
        gram = block @ block.t()
        off = gram - torch.diag(gram.diagonal())
        assert off.abs().max() < 1e-4
    square = w.square().sum(dim=1)  # chi squared with 16 degrees: mean 16, variance 32
    assert square.mean().item() == pytest.approx(16, rel=0.03)
    assert square.var().item() == pytest.approx(32, rel=0.1)
    assert w.mean(dim=0).abs().max() < 0.1  # no direction is preferred, whatever QR's signs
    torch.testing.assert_close(w.t() @ w / 4001, torch.eye(16), atol=0.1, rtol=0)


def test_features_are_a_function_of_the_generator():
    first, again = (orthogonal_features(20, 8, generator=generator(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, orthogonal_features(20, 8, generator=generator(4)))


@pytest.mark.parametrize("kind", ["favor", "elu"])
def test_sums_of_tiles_add_up_to_those_of_the_whole(kind):
    q, k, v = tokens(60, scale=1.0)
    k[:, :, 30:] *= 4  # so that the tiles have very different maxima
    w = orthogonal_features(32, 16, generator=generator())
    whole = key_sums(k, v, kind=kind, projection=w)
    tiles = [
        key_sums(k[:, :, part], v[:, :, part], kind=kind, projection=w)
        for part in (slice(0, 7), slice(7, 30), slice(30, 60))
    ]
    for order in ((0, 1, 2), (2, 0, 1)):
        added = tiles[order[0]] + tiles[order[1]] + tiles[order[2]]
        for name in ("kv", "k", "maximum", "v", "tokens"):
            torch.testing.assert_close(getattr(added, name), getattr(whole, name))
        torch.testing.assert_close(
            attend(q, added, kind=kind, projection=w), attend(q, whole, kind=kind, projection=w)
        )
    if kind == "favor":
        torch.testing.assert_close(
            attend(q, added, kind=kind, projection=w).double(),
            by_hand(q, k, v, w),
            rtol=1e-4,
            atol=1e-5,
        )


def test_pooled_sums_are_those_of_all_images_together():
    q, k, v = tokens(20)
    k[1] *= 3
    w = orthogonal_features(32, 16, generator=generator())
    pooled = key_sums(k, v, kind="favor", projection=w).pooled()
    together = [each.transpose(0, 1).flatten(1, 2)[None] for each in (k, v)]
    truth = key_sums(*together, kind="favor", projection=w)
    torch.testing.assert_close(pooled.kv, truth.kv)
    torch.testing.assert_close(pooled.tokens, truth.tokens)
    found = attend(q, pooled, kind="favor", projection=w)  # one for all images
    for i in range(2):
        torch.testing.assert_close(
            found[i : i + 1], attend(q[i : i + 1], truth, kind="favor", projection=w)
        )


@pytest.mark.parametrize("kind", ["favor", "elu"])
def test_tokens_that_are_not_kept_do_not_count(kind):
    _q, k, v = tokens(40, b=1)
    k[:, :, 1::2] *= 9
    keep = torch.arange(40)[None] % 2 == 0
    w = orthogonal_features(32, 16, generator=generator())
    found = key_sums(k, v, kind=kind, projection=w, keep=keep)
    truth = key_sums(k[:, :, ::2], v[:, :, ::2], kind=kind, projection=w)
    for name in ("kv", "k", "maximum", "v", "tokens"):
        torch.testing.assert_close(getattr(found, name), getattr(truth, name))


@pytest.mark.parametrize("kind", ["favor", "elu"])
def test_no_token_at_all_changes_nothing_and_answers_zero(kind):
    q, k, v = tokens(12, b=1)
    w = orthogonal_features(32, 16, generator=generator())
    some = key_sums(k, v, kind=kind, projection=w)
    nobody = key_sums(k, v, kind=kind, projection=w, keep=torch.zeros(1, 12, dtype=torch.bool))
    empty = key_sums(k[:, :, :0], v[:, :, :0], kind=kind, projection=w)
    for none in (nobody, empty):
        added = none + some
        assert torch.equal(added.kv, some.kv)
        assert torch.equal(added.k, some.k)
        assert attend(q, none, kind=kind, projection=w).abs().max() == 0


@pytest.mark.parametrize("kind", ["favor", "elu"])
def test_parts_of_tokens_change_neither_values_nor_gradients(kind, monkeypatch):
    w = orthogonal_features(32, 16, generator=generator())

    def run():
        q, k, v = (each.requires_grad_() for each in tokens(50))
        found = attend(q, key_sums(k, v, kind=kind, projection=w), kind=kind, projection=w)
        found.square().sum().backward()
        return found.detach(), q.grad, k.grad, v.grad

    whole = run()
    monkeypatch.setattr(kernel_attention, "CPU_PART", 7)
    for found, truth in zip(run(), whole, strict=True):
        torch.testing.assert_close(found, truth)


def test_gradients_are_those_of_the_formula():
    w = orthogonal_features(32, 16, generator=generator())
    given = [each.requires_grad_() for each in tokens(20)]
    favor_attention(*given, w).square().sum().backward()
    truth = [each.detach().clone().requires_grad_() for each in given]
    by_hand(*truth, w).square().sum().backward()
    for found, expected in zip(given, truth, strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-4, atol=1e-5)


def test_values_are_the_same_with_and_without_gradients():
    q, k, v = tokens(40)
    w = orthogonal_features(32, 16, generator=generator())
    before = [each.clone() for each in (q, k, v, w)]
    with torch.no_grad():
        found = favor_attention(q, k, v, w)
    torch.testing.assert_close(found, favor_attention(q, k, v, w))
    for now, then in zip((q, k, v, w), before, strict=True):
        assert torch.equal(now, then)


def test_kernels_are_computed_in_float32_under_autocast():
    q, k, v = tokens()
    w = orthogonal_features(64, 16, generator=generator())
    truth = favor_attention(q, k, v, w)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(favor_attention(q, k, v, w), truth)
        sums = key_sums(k.bfloat16(), v.bfloat16(), kind="favor", projection=w)
        found = attend(q.bfloat16(), sums, kind="favor", projection=w)
    assert sums.kv.dtype == torch.float32
    assert found.dtype == torch.bfloat16
    rounded = favor_attention(*(each.bfloat16().float() for each in (q, k, v)), w)
    assert torch.equal(found, rounded.bfloat16())


def test_large_logits_stay_finite():
    q, k, v = tokens(scale=60.0)
    w = orthogonal_features(64, 16, generator=generator())
    assert favor_attention(q, k, v, w).isfinite().all()
    assert elu_attention(q, k, v).isfinite().all()


class _Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that is made."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else (out,):
            if isinstance(each, torch.Tensor):
                self.numel = max(self.numel, each.numel())
        return out


@pytest.mark.parametrize("kind", ["favor", "elu"])
def test_no_tensor_grows_faster_than_the_tokens(kind):
    found = {}
    w = orthogonal_features(32, 16, generator=generator())
    for n in (1024, 8192):
        q, k, v = tokens(n, b=1, heads=1)
        with torch.no_grad(), _Largest() as largest:
            attend(q, key_sums(k, v, kind=kind, projection=w), kind=kind, projection=w)
        found[n] = largest.numel
    assert found[1024] <= 1024 * 32
    assert found[8192] <= 8192 * 17  # values and the sum of weights; features only in parts


def test_sums_move_to_another_precision():
    _, k, v = tokens(8)
    sums = key_sums(k, v, kind="elu").to(torch.float64)
    assert isinstance(sums, KeySums)
    assert sums.kv.dtype == sums.tokens.dtype == torch.float64


def test_constant_of_features_keeps_far_keys_from_vanishing():
    # a key so far off that its exponential is 0 still has the constant's share of the weights
    q = torch.zeros(1, 1, 1, 4)
    k = torch.tensor([[[[0.0] * 4, [60.0] * 4]]])
    v = torch.tensor([[[[0.0], [1.0]]]])
    w = torch.zeros(2, 4)
    share = (1 + OFFSET) * OFFSET / ((1 + OFFSET) * (1 + 2 * OFFSET))
    assert favor_attention(q, k, v, w).item() == pytest.approx(share, rel=1e-4)


def test_misuse_is_told():
    _, k, v = tokens(4)
    with pytest.raises(UsageError, match="draw one with orthogonal_features"):
        key_sums(k, v, kind="favor")
    with pytest.raises(UsageError, match=r"got 0 x 4\. Set generator\.attention\.features"):
        orthogonal_features(0, 4, generator=generator())
