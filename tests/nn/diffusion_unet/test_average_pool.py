import torch

from medglean.nn.diffusion_unet import NoiseClassifier


def test_the_average_pool_takes_the_mean_of_each_feature():
    network = NoiseClassifier(
        side_px=16, in_channels=1, width=32, multipliers=(1,), blocks=1, attention_px=(),
        head_width=32, pool="average",
    ).eval()  # fmt: skip
    seen = []
    network.out[1].register_forward_hook(lambda *given: seen.append(given[2]))

    with torch.no_grad():
        logits = network(torch.rand(3, 1, 16, 16), torch.tensor([5, 50, 500]))
        last = network.out[-1]
        expected = seen[0].mean(dim=(2, 3)) @ last.weight.T + last.bias

    assert logits.shape == (3, 2)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
