"""The U-Net that predicts the noise in an image, given the timestep and maybe the class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from medglean.errors import UsageError
from medglean.nn.diffusion_unet.blocks import zeroed
from medglean.nn.diffusion_unet.embedding import TimeEmbedding
from medglean.nn.diffusion_unet.encoder import Plan, build_encoder
from medglean.nn.diffusion_unet.norm import Norm
from medglean.randomness import key_of


class DiffusionUNet(nn.Module):
    """The U-Net of Dhariwal and Nichol 2021, with the parameters' names of its release.

    Parameters
    ----------
    side_px
        Side of the images it is meant for. It decides only at which levels there is attention:
        ``forward`` takes any sides that can be halved often enough.
    in_channels
        Channels of the image.
    out_channels
        As many as the image has, for the noise; twice as many where the variance is learnt too.
    width
        Channels of the first level; times each multiplier a multiple of 32.
    multipliers
        Channels of each level, times ``width``; every level but the first halves the side.
    blocks
        Residual blocks of each level, and one more on the way back.
    attention_px
        Sides of the feature maps at which there is self-attention, beside the middle; a side
        that no level has is passed over, as in the release.
    heads, head_width
        Heads of attention, or the channels of each.
    scale_shift
        Time and class scale and shift normalised features; otherwise they are added to features.
    block_resampling
        Residual blocks change the side; otherwise convolutions do.
    classes
        Number of classes that the network can be told; None: none.
    dropout
        In every residual block.
    checkpointing
        Compute activations again in the backward pass: less memory, a third more time.
    seed
        Of the initialisation; no global random state is changed.

    Raises
    ------
    UsageError
        If sides, channels, heads and levels do not go together.

    References
    ----------
    .. [1] Ho, Jain, Abbeel. Denoising Diffusion Probabilistic Models. NeurIPS 2020.
    .. [2] Dhariwal, Nichol. Diffusion Models Beat GANs on Image Synthesis. NeurIPS 2021.

    Examples
    --------
    >>> network = DiffusionUNet(
    ...     side_px=16,
    ...     in_channels=1,
    ...     out_channels=2,
    ...     width=32,
    ...     multipliers=(1, 1),
    ...     blocks=1,
    ...     attention_px=(),
    ... )
    >>> out = network(torch.zeros(1, 1, 16, 16), torch.tensor([7]), torch.tensor([0]))
    >>> out.shape, out.abs().max().item()
    (torch.Size([1, 2, 16, 16]), 0.0)
    """

    def __init__(
        self,
        *,
        side_px: int,
        in_channels: int,
        out_channels: int,
        width: int,
        multipliers: Sequence[int],
        blocks: int,
        attention_px: Sequence[int],
        heads: int = 1,
        head_width: int | None = None,
        scale_shift: bool = False,
        block_resampling: bool = False,
        classes: int | None = 2,
        dropout: float = 0.0,
        checkpointing: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.plan = Plan(
            side_px=side_px,
            width=width,
            multipliers=tuple(multipliers),
            blocks=blocks,
            attention_px=tuple(attention_px),
            heads=heads,
            head_width=head_width,
            scale_shift=scale_shift,
            block_resampling=block_resampling,
            dropout=dropout,
            checkpointing=checkpointing,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key_of(seed, "initialisation"))
            self.time_embed = TimeEmbedding(width)
            self.label_emb = None if classes is None else nn.Embedding(classes, 4 * width)
            encoder = build_encoder(self.plan, in_channels=in_channels)
            self.input_blocks, self.middle_block = encoder.stages, encoder.middle
            self.output_blocks = _decoder(self.plan, encoder.channels)
            first = self.plan.channels(0)
            self.out = nn.Sequential(
                Norm(first), nn.SiLU(), zeroed(nn.Conv2d(first, out_channels, 3, padding=1))
            )

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        t: Int[Tensor, " b"],
        y: Int[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b o h w"]:
        """Return the predicted noise and, where it is learnt, what its variance comes from.

        Parameters
        ----------
        x
            Noisy images.
        t
            Timesteps, 0 the least noisy.
        y
            Class indices; -1 withholds the class of that image, None of all.

        Raises
        ------
        UsageError
            If the sides cannot be halved often enough, or a class is given to a network that takes
            none.
        """
        self.plan.check_side(*x.shape[-2:])
        embedding = self.time_embed(t)
        if y is not None:
            embedding = embedding + self._told(y).to(embedding.dtype)
        kept, h = [], x
        for stage in self.input_blocks:
            h = stage(h, embedding)
            kept.append(h)
        h = self.middle_block(h, embedding)
        for stage in self.output_blocks:
            h = stage(torch.cat([h, kept.pop()], dim=1), embedding)
        out: Tensor = self.out(h)
        return out

    def _told(self, y: Int[Tensor, " b"]) -> Float[Tensor, "b e"]:
        """Return the embedding of the class, zeros where it is withheld."""
        if self.label_emb is None:
            raise UsageError(
                "this network takes no class (classes = None), and one was given. Give y = None."
            )
        embedding: Tensor = self.label_emb(y.clamp(min=0))
        return torch.where((y >= 0)[:, None], embedding, 0.0)


def _decoder(plan: Plan, channels: Sequence[int]) -> nn.ModuleList:
    """Return the stages from the middle to the image; each takes what the encoder kept."""
    kept, now = list(channels), channels[-1]
    stages = []
    for level in reversed(range(len(plan.multipliers))):
        for number in range(plan.blocks + 1):
            layers: list[nn.Module] = [plan.block(now + kept.pop(), plan.channels(level))]
            now = plan.channels(level)
            if plan.attends(level):
                layers.append(plan.attention(now))
            if level > 0 and number == plan.blocks:
                layers.append(plan.resampling(now, "up"))
            stages.append(plan.stage(*layers))
    return nn.ModuleList(stages)
