import numpy as np
import pytest
import torch
from tests.anomaly.baselines.brains import SIDE_PX, brains
from torch import nn

from medglean.anomaly.baselines.vae import VAE, vae_rebuild, vae_step
from medglean.errors import UsageError
from medglean.fitting import FitSettings, Loader, checkpoint, fit, make_optimizer
from medglean.fitting.progress import Silent
from medglean.nn.vae import build_vae, vae_loss


def train(folder, images, *, steps, resume=False, beta=1.0, **changes):
    base = {
        "epochs": 1000,
        "max_steps": steps,
        "batch_size": 4,
        "accelerator": "cpu",
        "log_every_steps": 1,
        "optimizer": {"learning_rate": 5e-3},
    }
    settings = FitSettings.model_validate(base | changes)
    network = build_vae(side_px=SIDE_PX, width=4, latent=8)
    networks: dict[str, nn.Module] = {VAE: network}

    def fetch(indices, epoch):
        return {"image": images[indices], "index": torch.from_numpy(indices)}

    result = fit(
        vae_step(networks, beta=beta),
        networks=networks,
        optimizers={VAE: make_optimizer(network.parameters(), settings.optimizer)},
        loader=Loader(fetch, np.arange(len(images)), batch_size=4, seed=0),
        settings=settings,
        folder=folder,
        resume=resume,
        progress=Silent(),
    )
    return network.eval(), [row for row in result.history if "train.loss" in row]


def test_the_step_hands_over_the_loss_with_the_noise_of_its_generator():
    network = build_vae(side_px=16, width=2, latent=3)
    images, calls = torch.rand(2, 1, 16, 16), []
    step = vae_step({VAE: network}, beta=0.5)

    logged = step(
        {"image": images}, torch.Generator().manual_seed(4), lambda *call: calls.append(call)
    )

    noise = torch.randn(2, 3, generator=torch.Generator().manual_seed(4))
    rebuilt, posterior = network(images, noise)
    wanted = vae_loss(rebuilt, images, posterior, beta=0.5)
    [(loss, name)] = calls
    assert name == "vae"
    assert loss.item() == pytest.approx(wanted.total.item(), rel=1e-6)
    assert logged["loss"].item() == pytest.approx(
        logged["reconstruction"].item() + 0.5 * logged["kl"].item(), rel=1e-6
    )
    assert not any(value.requires_grad for value in logged.values())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_on_brains_lowers_the_loss(tmp_path, precision):
    _, rows = train(tmp_path, brains(lesion=False), steps=30, precision=precision)

    losses = [row["train.loss"] for row in rows]
    assert np.mean(losses[-3:]) < 0.3 * np.mean(losses[:3])


def test_a_resumed_training_ends_with_the_same_bits(tmp_path):
    images = brains(lesion=False)
    train(tmp_path / "whole", images, steps=7, ema_decay=0.9)
    train(tmp_path / "cut", images, steps=4, ema_decay=0.9)
    train(tmp_path / "cut", images, steps=7, ema_decay=0.9, resume=True)

    whole, cut = (checkpoint.latest(tmp_path / n / "checkpoints").tensors for n in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_what_healthy_brains_lack_is_not_rebuilt(tmp_path):
    healthy = brains(lesion=False)
    network, _ = train(tmp_path, healthy, steps=60)
    sick = healthy.clone()
    sick[:, :, 10:16, 10:16] = 1.0

    rebuilt = vae_rebuild(network, sick)

    assert rebuilt.shape == sick.shape
    assert 0 <= rebuilt.min() <= rebuilt.max() <= 1
    assert not rebuilt.requires_grad
    error = (sick - rebuilt).abs()
    outside = torch.ones_like(error, dtype=torch.bool)
    outside[:, :, 10:16, 10:16] = False
    assert error[~outside].mean() > 3 * error[outside].mean()
    own = (healthy - vae_rebuild(network, healthy)).abs().mean()
    assert own < 0.9 * error.mean()


def test_rebuilding_draws_nothing_and_takes_images_one_by_one_alike():
    network = build_vae(side_px=16, width=2, latent=3).eval()
    images = torch.rand(3, 1, 16, 16)

    together = vae_rebuild(network, images)

    torch.testing.assert_close(together, network.decode(network.encode(images).mean))
    torch.testing.assert_close(vae_rebuild(network, images[1:2]), together[1:2])
    with pytest.raises(UsageError, match="this VAE takes"):
        vae_rebuild(network, torch.zeros(1, 2, 16, 16))


def test_another_network_is_refused():
    with pytest.raises(TypeError, match="expected a Vae, got Linear"):
        vae_step({VAE: nn.Linear(1, 1)}, beta=1.0)
