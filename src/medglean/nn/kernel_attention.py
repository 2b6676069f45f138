r"""Attention whose cost grows with the number of tokens, not with its square, and the exact one.

Softmax attention weights the value of token j for the query i by
:math:`\exp(q_i \cdot k_j / \sqrt d)`. Where this is written as :math:`\phi(q_i) \cdot \phi(k_j)`,
the sums :math:`\sum_j \phi(k_j) v_j^T` and :math:`\sum_j \phi(k_j)` serve all queries, and
sums over parts of an image add up to those over the whole: `KeySums`.

Shapes throughout: queries and keys (b, heads, n, d), values (b, heads, n, e). What is computed
with kernels is in float32 whatever comes in, also under autocast: exponentials of bfloat16 numbers
have two digits.

References
----------
.. [1] Choromanski et al. Rethinking Attention with Performers. ICLR 2021.
.. [2] Katharopoulos, Vyas, Pappas, Fleuret. Transformers are RNNs: Fast Autoregressive
   Transformers with Linear Attention. ICML 2020.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from medglean.errors import UsageError

Kernel = Literal["favor", "elu"]
"""``favor``: random features of [1]_; ``elu``: elu + 1, of [2]_."""

OFFSET = 1e-6
"""Added to every random feature, so that no key is without any weight (as in [1]_'s release)."""
LEAST = 1e-12
"""Least sum of weights that is divided by: without any token the answer is 0, not NaN."""

CPU_PART, GPU_PART = 2048, 65536
"""Tokens whose features are made at once."""


@dataclass(frozen=True)
class KeySums:
    r"""What a set of keys and values has to say to any query.

    Features of keys are held relative to the largest exponent that was met. Adding two brings
    both to the larger one, so the sum over tiles is that over the whole, up to rounding; the
    constant that is added to every feature is kept apart, for it is not relative to anything.

    Attributes
    ----------
    kv
        Shape (b, heads, m, e): :math:`\sum_j \exp(x_j - x_{max})\, v_j^T`, x the exponents.
    k
        Shape (b, heads, m): :math:`\sum_j \exp(x_j - x_{max})`.
    maximum
        Shape (b, heads): :math:`x_{max}` over tokens and features. 0 for ``elu``.
    v
        Shape (b, heads, e): the sum of the values.
    tokens
        Shape (b, heads): how many tokens were summed.
    """

    kv: Float[Tensor, "b heads m e"]
    k: Float[Tensor, "b heads m"]
    maximum: Float[Tensor, "b heads"]
    v: Float[Tensor, "b heads e"]
    tokens: Float[Tensor, "b heads"]

    def __add__(self, other: KeySums) -> KeySums:
        """Return the sums over the tokens of both."""
        maximum = torch.maximum(self.maximum, other.maximum)
        ours, theirs = (torch.exp(each.maximum - maximum) for each in (self, other))
        return KeySums(
            kv=self.kv * ours[..., None, None] + other.kv * theirs[..., None, None],
            k=self.k * ours[..., None] + other.k * theirs[..., None],
            maximum=maximum,
            v=self.v + other.v,
            tokens=self.tokens + other.tokens,
        )

    def pooled(self) -> KeySums:
        """Return the sums over all images of the batch, of shape (1, ...): tiles of one slide."""
        maximum = self.maximum.amax(dim=0, keepdim=True)
        scale = torch.exp(self.maximum - maximum)
        return KeySums(
            kv=(self.kv * scale[..., None, None]).sum(dim=0, keepdim=True),
            k=(self.k * scale[..., None]).sum(dim=0, keepdim=True),
            maximum=maximum,
            v=self.v.sum(dim=0, keepdim=True),
            tokens=self.tokens.sum(dim=0, keepdim=True),
        )

    def to(self, target: torch.device | torch.dtype) -> KeySums:
        """Return the sums on another device or in another precision."""
        parts = (self.kv, self.k, self.maximum, self.v, self.tokens)
        return KeySums(*(part.to(target) for part in parts))


def orthogonal_features(
    features: int, width: int, *, generator: torch.Generator
) -> Float[Tensor, "m d"]:
    """Draw directions for `favor_attention`: orthogonal in blocks, as long as Gaussian vectors.

    Each block of ``width`` rows is a random orthogonal basis; each row is then given the length of
    an independent Gaussian vector, so that every row for itself is Gaussian (section 2.4 and
    appendix B.2 of [1]_).

    Parameters
    ----------
    features
        Number of rows, m. A last block may be cut.
    width
        Length of a query or key, d.
    generator
        Of the random numbers; the features are on its device.
    """
    if features < 1 or width < 1:
        raise UsageError(
            f"random features need at least 1 row of at least 1 number, got {features} x {width}. "
            "Set generator.attention.features and head_width."
        )
    blocks = math.ceil(features / width)
    shape, device = (blocks, width, width), generator.device
    basis, upper = torch.linalg.qr(torch.randn(shape, generator=generator, device=device))
    # the signs that QR leaves open depend on the library; with these every direction is as likely
    basis = basis * torch.diagonal(upper, dim1=-2, dim2=-1).sgn().unsqueeze(-2)
    directions = basis.transpose(-2, -1).reshape(blocks * width, width)[:features]
    lengths = torch.randn(features, width, generator=generator, device=device).norm(dim=1)
    drawn: Tensor = directions * lengths[:, None]
    return drawn


def exact_attention(
    q: Float[Tensor, "b heads n d"],
    k: Float[Tensor, "b heads t d"],
    v: Float[Tensor, "b heads t e"],
) -> Float[Tensor, "b heads n e"]:
    """Return softmax attention, with logits q.k / sqrt(d)."""
    return F.scaled_dot_product_attention(q, k, v)


def elu_attention(
    q: Float[Tensor, "b heads n d"],
    k: Float[Tensor, "b heads t d"],
    v: Float[Tensor, "b heads t e"],
) -> Float[Tensor, "b heads n e"]:
    """Return attention with the kernel elu(q) + 1 times elu(k) + 1, equation 7 of [2]_."""
    return attend(q, key_sums(k, v, kind="elu"), kind="elu")


def favor_attention(
    q: Float[Tensor, "b heads n d"],
    k: Float[Tensor, "b heads t d"],
    v: Float[Tensor, "b heads t e"],
    projection: Float[Tensor, "m d"],
) -> Float[Tensor, "b heads n e"]:
    r"""Return an estimate of softmax attention by positive random features, FAVOR+ of [1]_.

    .. math:: \phi(x) = \exp(w \cdot x - |x|^2 / 2 - \max) + 10^{-6}

    with x the query or key divided by :math:`d^{1/4}` and w the rows of ``projection``. The
    maximum is that of the rest of the exponent, per query and over all keys: it cancels, but for
    the constant. Its error falls with the number of rows and grows steeply with the logits.

    Parameters
    ----------
    q, k, v
        As for `exact_attention`.
    projection
        From `orthogonal_features`.
    """
    sums = key_sums(k, v, kind="favor", projection=projection)
    return attend(q, sums, kind="favor", projection=projection)


def key_sums(
    k: Float[Tensor, "b heads n d"],
    v: Float[Tensor, "b heads n e"],
    *,
    kind: Kernel,
    projection: Float[Tensor, "m d"] | None = None,
    keep: Bool[Tensor, "b n"] | None = None,
) -> KeySums:
    """Sum up keys and values for `attend`.

    Parameters
    ----------
    k, v
        Keys and values.
    kind
        The kernel.
    projection
        Of ``favor``.
    keep
        Which tokens count; all, where it is not given.
    """
    found: KeySums | None = None
    with torch.autocast(k.device.type, enabled=False):
        for part in _parts(k):
            kept = None if keep is None else keep[:, part]
            each = _sums_of_part(k[:, :, part], v[:, :, part], kind, projection, kept)
            found = each if found is None else found + each
    assert found is not None
    return found


def attend(
    q: Float[Tensor, "b heads n d"],
    sums: KeySums,
    *,
    kind: Kernel,
    projection: Float[Tensor, "m d"] | None = None,
) -> Float[Tensor, "b heads n e"]:
    """Ask keys and values that were summed up.

    Parameters
    ----------
    q
        Queries.
    sums
        From `key_sums`, of as many images or of one for all.
    kind, projection
        As the sums were made with.

    Returns
    -------
    Tensor
        In the precision of ``q``. 0 where the sums are of no token.
    """
    with torch.autocast(q.device.type, enabled=False):
        kv, k = sums.kv.float(), sums.k.float()
        if kind == "favor":
            kv = kv + OFFSET * sums.v.float()[..., None, :]
            k = k + OFFSET * sums.tokens.float()[..., None]
        table = torch.cat([kv, k[..., None]], dim=-1)
        # what the constant in a query's features adds is the same for all queries
        common = table.sum(dim=-2, keepdim=True) * (OFFSET if kind == "favor" else 0.0)
        found = []
        for part in _parts(q):
            features = _query_features(q[:, :, part].float(), kind, projection)
            answer = features @ table + common
            found.append(answer[..., :-1] / answer[..., -1:].clamp_min(LEAST))
        return torch.cat(found, dim=2).to(q.dtype)


def _parts(x: Float[Tensor, "b heads n d"]) -> list[slice]:
    """Cut the tokens into parts whose features fit into the processor's cache.

    Without parts 128 x 128 tokens take twice as long, and 256 x 256 three times; on a GPU they
    only bound the memory.
    """
    most = CPU_PART if x.device.type == "cpu" else GPU_PART
    return [slice(start, start + most) for start in range(0, max(x.shape[2], 1), most)]


def _sums_of_part(
    k: Float[Tensor, "b heads n d"],
    v: Float[Tensor, "b heads n e"],
    kind: Kernel,
    projection: Float[Tensor, "m d"] | None,
    keep: Bool[Tensor, "b n"] | None,
) -> KeySums:
    k, v = k.float(), v.float()
    count = k.new_full((), k.shape[2]) if keep is None else keep.sum(dim=1).to(k.dtype)[:, None]
    kept = None if keep is None else keep[:, None, :, None]
    if kind == "elu":
        features = F.elu(k) + 1
        maximum = features.new_zeros(features.shape[:2])
        if kept is not None:
            features = features * kept
    else:
        exponent = _minus(_projected(k, projection), _half_square(k))
        if kept is not None:
            exponent = exponent.masked_fill(~kept, -math.inf)
        maximum = _largest(exponent)
        features = _exponential(exponent, maximum[..., None, None])
    return KeySums(
        kv=features.transpose(-2, -1) @ v,
        k=features.sum(dim=-2),
        maximum=maximum,
        v=(v if kept is None else v * kept).sum(dim=-2),
        tokens=count.expand(k.shape[:2]),
    )


def _query_features(
    q: Float[Tensor, "b heads n d"], kind: Kernel, projection: Float[Tensor, "m d"] | None
) -> Float[Tensor, "b heads n m"]:
    """Return the features of queries; those of FAVOR+ without the constant."""
    if kind == "elu":
        return F.elu(q) + 1
    # |q|^2 / 2 is the same for all features of a query, so their maximum takes it away
    exponent = _projected(q, projection)
    return _exponential(exponent, exponent.detach().amax(dim=-1, keepdim=True))


def _exponential(exponent: Tensor, maximum: Tensor) -> Tensor:
    """Return exp(exponent - maximum)."""
    lower = _minus(exponent, maximum)
    return torch.exp(lower) if torch.is_grad_enabled() else lower.exp_()


def _minus(exponent: Tensor, other: Tensor) -> Tensor:
    """Return the difference, in the place of the exponent where no gradient needs it."""
    return exponent - other if torch.is_grad_enabled() else exponent.sub_(other)


def _projected(
    x: Float[Tensor, "b heads n d"], projection: Float[Tensor, "m d"] | None
) -> Float[Tensor, "b heads n m"]:
    """Return w.x of x divided by the fourth root of its length."""
    if projection is None:
        raise UsageError("FAVOR+ needs a projection: draw one with orthogonal_features.")
    product: Tensor = x @ (projection.float() * x.shape[-1] ** -0.25).t()
    return product


def _half_square(x: Float[Tensor, "b heads n d"]) -> Float[Tensor, "b heads n 1"]:
    """Return |x|^2 / 2 of x divided by the fourth root of its length."""
    half: Tensor = x.square().sum(dim=-1, keepdim=True) * (0.5 / math.sqrt(x.shape[-1]))
    return half


def _largest(exponent: Float[Tensor, "b heads n m"]) -> Float[Tensor, "b heads"]:
    """Return the largest over tokens and features; of no token a finite number below all."""
    lowest = torch.finfo(exponent.dtype).min
    found = exponent.detach().flatten(2)
    if not found.shape[2]:
        return found.new_full(found.shape[:2], lowest)
    return found.amax(dim=-1).clamp_min(lowest)
