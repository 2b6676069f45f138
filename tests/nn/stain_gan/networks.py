"""Generators whose weights make every part of them matter."""

import torch
from torch import nn

from medglean.nn.stain_gan import StainUNet


def trained(**settings):
    """Return a small generator in evaluation mode with weights as different as after training."""
    network = StainUNet(**{"width": 8, "halvings": 4, "skips": (2, 3), "features": 24} | settings)
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                inputs = module.in_channels * 16 / (4 if module.transposed else 1)
                module.weight.normal_(0, (2 / inputs) ** 0.5, generator=draw)
                if module.bias is not None:
                    module.bias.normal_(0, 0.1, generator=draw)
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.normal_(1, 0.2, generator=draw)
                module.bias.normal_(0, 0.2, generator=draw)
                module.running_mean.normal_(0, 0.3, generator=draw)
                module.running_var.uniform_(0.5, 2, generator=draw)
        for attention in network.attention.values():
            attention.gain.fill_(1.0)
            attention.to_out.weight.mul_(3)
        if network.film is not None:
            network.film.to_scale_and_shift.weight.normal_(0, 0.3, generator=draw)
    return network.eval()


def image(*size, batch=1, seed=0):
    """Return an image of noise in [-1, 1]."""
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, *size, generator=draw) * 2 - 1


def monotone(network):
    """Make a generator in which every output grows with every input that it sees, in float64."""
    network = network.double().eval()
    with torch.no_grad():
        for layer in [*network.down, *network.up]:
            inputs = layer.in_channels * 16
            layer.weight.fill_(1 / inputs)
            if layer.bias is not None:
                layer.bias.zero_()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.fill_(1.0)
    return network
