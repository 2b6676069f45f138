import shutil

import pytest
import torch
from tests.nn.diffusion_unet.conftest import images, stirred
from tests.nn.diffusion_unet.test_classifier import tiny as tiny_classifier
from tests.nn.diffusion_unet.test_unet import tiny as tiny_unet

needs_compiler = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler here"
)
# torch's own code uses what Python and torch have deprecated
quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def inputs():
    x = images(2, 2, 16, 16, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    return x, torch.tensor([3, 700]), torch.tensor([0, -1])


@quiet
@pytest.mark.slow
def test_networks_are_one_graph():
    # without a break, so that a compiler sees all of it; "eager" compiles nothing
    network = stirred(tiny_unet().double())
    captured = torch.compile(network, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(captured(*inputs()), network(*inputs()), rtol=0, atol=1e-10)

    classifier = stirred(tiny_classifier(in_channels=2).double())
    captured = torch.compile(classifier, backend="eager", fullgraph=True)
    x, t, _ = inputs()
    torch.testing.assert_close(captured(x, t), classifier(x, t), rtol=0, atol=1e-10)


@quiet
@needs_compiler
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compiled_network_gives_the_same_values_and_gradients():
    found = []
    for compiled in (False, True):
        network = stirred(tiny_unet(multipliers=(1,)).double())
        network.to(memory_format=torch.channels_last)
        called = torch.compile(network) if compiled else network
        x, t, y = inputs()
        out = called(x.requires_grad_(), t, y)
        out.square().mean().backward()
        found.append([out.detach(), x.grad, *(weight.grad for weight in network.parameters())])
    for plain, other in zip(*found, strict=True):
        # sines and cosines of the timestep are float32
        torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-5)
