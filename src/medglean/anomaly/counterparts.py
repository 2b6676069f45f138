"""The healthy counterparts of a batch of images, by each method that rebuilds images.

Images are float32 tensors in [0, 1] on the networks' device. What is random is drawn from one
generator per image, so that an image's counterpart is the same in any batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medglean.anomaly.baselines.fixed_point_gan import GENERATOR, gan_rebuild
from medglean.anomaly.baselines.vae import VAE, vae_rebuild
from medglean.anomaly.contrast import noised_contrast
from medglean.anomaly.ddpm import ddpm_translate, standard_normal
from medglean.anomaly.guidance import (
    Gradient,
    classifier_free,
    classifier_guided,
    gradient_of,
)
from medglean.anomaly.losses import split_output
from medglean.anomaly.model import Mapper
from medglean.anomaly.objectives import CLASSIFIER, UNET, from_network, to_network
from medglean.anomaly.prepare import DISEASED, HEALTHY, NULL
from medglean.anomaly.released import released_translate
from medglean.anomaly.schedule import levels_of
from medglean.anomaly.settings import AnomalyPreset
from medglean.anomaly.translate import Eps, Output, decode, encode, eps_of, output_of

Generators = Sequence[torch.Generator]
"""One for each image."""


class Counted(nn.Module):
    """A network that counts how often it is asked."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.calls = network, 0

    def forward(self, *inputs: Tensor) -> Tensor:
        """Ask the network."""
        self.calls += 1
        answer: Tensor = self.network(*inputs)
        return answer


def counterpart(
    mapper: Mapper, x: Float[Tensor, "b c h w"], *, noise_level: int, generators: Generators
) -> tuple[Float[Tensor, "b c h w"], int]:
    """Return healthy counterparts of images, and how many network evaluations each took.

    Parameters
    ----------
    mapper
        Of any method that rebuilds images.
    x
        In [0, 1], on the mapper's device.
    noise_level
        L; for diffusion alone.
    generators
        For the samplers that draw noise.
    """
    if mapper.method == "vae":
        return vae_rebuild(mapper.networks[VAE], x), 1
    if mapper.method == "fpgan":
        return gan_rebuild(mapper.networks[GENERATOR], x, target=HEALTHY), 1
    networks = {name: Counted(network) for name, network in mapper.networks.items()}
    seen = to_network(x, mapper.preset.diffusion)
    translate = SAMPLERS[mapper.preset.translate.sampler]
    rebuilt = translate(mapper, networks, seen, noise_level, generators)
    calls = sum(network.calls for network in networks.values())
    return from_network(rebuilt, mapper.preset.diffusion), calls


def told_class(preset: AnomalyPreset) -> int:
    """Return the class that the U-Net is told where nothing pulls: HEALTHY, DISEASED or NULL."""
    if preset.translate.encode_class == "own":
        return DISEASED
    if preset.translate.encode_class == "none" and preset.diffusion.label_dropout > 0:
        return NULL
    return HEALTHY  # without label dropout the network never was without a class


def _ddim(
    mapper: Mapper, networks: dict[str, Counted], x: Tensor, level: int, _: Generators
) -> Tensor:
    """Follow Algorithm 1 of the paper: deterministic there, and guided back."""
    settings = mapper.preset.translate
    levels = levels_of(level, settings.steps, spacing=settings.spacing)
    same = eps_of(networks[UNET], label=told_class(mapper.preset))
    x_t = encode(x, same, mapper.schedule, levels, iterations=settings.inversion_iterations)
    return decode(x_t, _pulled(mapper, networks, same), mapper.schedule, levels)


def _pulled(mapper: Mapper, networks: dict[str, Counted], same: Eps) -> Eps:
    """Return the noise that leads back, with what pulls towards healthy."""
    settings = mapper.preset.translate
    if settings.guidance == "classifier":
        return classifier_guided(
            same,
            _gradient(networks),
            mapper.schedule,
            scale=settings.scale,
            normalised=settings.normalised,
        )
    if settings.guidance == "none":
        return same
    healthy = eps_of(networks[UNET], label=HEALTHY)
    if settings.guidance == "class":
        return healthy
    return classifier_free(healthy, eps_of(networks[UNET], label=NULL), scale=settings.scale)


def _gradient(networks: dict[str, Counted]) -> Gradient:
    return gradient_of(networks[CLASSIFIER], target=HEALTHY)


def _ddpm(
    mapper: Mapper, networks: dict[str, Counted], x: Tensor, level: int, generators: Generators
) -> Tensor:
    """Noise the image at once, and take the noise out by stochastic steps."""
    settings = mapper.preset.translate
    guided = settings.guidance == "classifier"
    return ddpm_translate(
        x,
        _stochastic(mapper, networks),
        mapper.schedule,
        levels_of(level, settings.steps, spacing=settings.spacing),
        gradient=_gradient(networks) if guided else None,
        scale=settings.scale if guided else 0.0,
        generator=generators,
    )


def _stochastic(mapper: Mapper, networks: dict[str, Counted]) -> Output:
    """Return what the network says on the way back of the stochastic sampler."""
    settings = mapper.preset.translate
    if settings.guidance in ("classifier", "none"):
        return output_of(networks[UNET], label=told_class(mapper.preset))
    healthy = output_of(networks[UNET], label=HEALTHY)
    if settings.guidance == "class":
        return healthy
    without = output_of(networks[UNET], label=NULL)

    def output(x: Tensor, level: int) -> Tensor:
        told, untold = healthy(x, level), without(x, level)
        eps, v = split_output(told, x.shape[1])
        base = split_output(untold, x.shape[1])[0]
        pulled = base + settings.scale * (eps - base)
        return pulled if v is None else torch.cat([pulled, v], dim=1)

    return output


def _released(
    mapper: Mapper, networks: dict[str, Counted], x: Tensor, level: int, generators: Generators
) -> Tensor:
    """Do what the authors' code does; of the settings L and s alone matter."""
    return released_translate(
        networks[UNET],
        networks[CLASSIFIER],
        x,
        mapper.schedule,
        noise_level=level,
        target=HEALTHY,
        scale=mapper.preset.translate.scale,
        noise=standard_normal(x, generators),
    )


def _contrast(
    mapper: Mapper, networks: dict[str, Counted], x: Tensor, _: int, generators: Generators
) -> Tensor:
    """Take off what is expected of a diseased image and not of a healthy one."""
    settings = mapper.preset.translate
    return x - noised_contrast(
        x,
        eps_of(networks[UNET], label=DISEASED),
        eps_of(networks[UNET], label=HEALTHY),
        mapper.schedule,
        levels=settings.contrast_levels,
        draws=settings.contrast_draws,
        generator=generators,
    )


Sampler = Callable[[Mapper, dict[str, Counted], Tensor, int, Generators], Tensor]
SAMPLERS: dict[str, Sampler] = {
    "ddim": _ddim,
    "ddpm": _ddpm,
    "released": _released,
    "contrast": _contrast,
}
