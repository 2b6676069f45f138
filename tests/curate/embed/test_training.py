import numpy as np
import pytest
import torch
from safetensors.torch import load
from tests.curate.embed.conftest import bar

from medglean.curate.embed import training
from medglean.curate.embed.encoder import draw_training_rows, encode
from medglean.curate.embed.settings import DVaeSettings
from medglean.curate.embed.training import quality, train_dvae
from medglean.errors import DataError, Interrupted
from medglean.fitting.progress import Silent
from medglean.nn.dvae import build_dvae

STORED = np.stack([bar(number) for number in range(24)])[:, None]
ROWS = np.arange(24)


def settings(*, max_steps=20, **changes):
    fit = {
        "batch_size": 8,
        "max_steps": max_steps,
        "accelerator": "cpu",
        "log_every_steps": 1,
        "optimizer": {"learning_rate": 3e-3},
    }
    return DVaeSettings.model_validate({"latent": 4, "fit": fit} | changes)


def train(folder, chosen=None, **options):
    return train_dvae(
        STORED,
        options.pop("rows", ROWS),
        settings=chosen or settings(),
        seed=options.pop("seed", 0),
        folder=folder,
        progress=Silent(),
        **options,
    )


def column(folder, name):
    import pandas as pd

    return pd.read_csv(folder / "log.csv")[name].dropna().to_numpy()


def test_training_lowers_the_loss_and_logs_its_parts(tmp_path):
    train(tmp_path)

    loss = column(tmp_path, "train.loss")
    parts = column(tmp_path, "train.reconstruction") + column(tmp_path, "train.kl")
    np.testing.assert_allclose(loss, parts, rtol=1e-4)
    assert len(loss) == 20
    assert loss[-1] < 0.8 * loss[0]


def test_beta_weighs_the_divergence(tmp_path):
    train(tmp_path / "one", settings(max_steps=2))
    train(tmp_path / "nine", settings(max_steps=2, beta=9.0))

    reconstruction, kl = (column(tmp_path / "nine", f"train.{n}") for n in ("reconstruction", "kl"))
    np.testing.assert_allclose(
        column(tmp_path / "nine", "train.loss"), reconstruction + 9 * kl, rtol=1e-4
    )
    assert column(tmp_path / "one", "train.kl")[0] == pytest.approx(kl[0], rel=1e-4)


def test_the_capacity_rises_with_the_steps(tmp_path):
    chosen = settings(max_steps=6, gamma=10.0, capacity=25.0)

    train(tmp_path, chosen)

    loss, reconstruction, kl = (
        column(tmp_path, f"train.{name}") for name in ("loss", "reconstruction", "kl")
    )
    capacity = np.linspace(0.0, 25.0, 6)
    np.testing.assert_allclose(loss, reconstruction + 10 * np.abs(kl - capacity), rtol=1e-3)


def test_a_stopped_training_ends_as_one_that_was_not(tmp_path, monkeypatch):
    chosen = settings(max_steps=12, gamma=10.0)
    whole = train(tmp_path / "whole", chosen)

    class StopAt(Silent):
        def update(self, *, step, epoch, values):
            if step == 5:
                import signal

                signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        train_dvae(
            STORED, ROWS, settings=chosen, seed=0, folder=tmp_path / "cut", progress=StopAt()
        )
    resumed = train(tmp_path / "cut", chosen)

    assert resumed.weights == whole.weights
    assert resumed.record["training_steps"] == 12


def test_the_embedding_is_the_posteriors_mean(tmp_path):
    encoder = train(tmp_path, settings(max_steps=3))
    network = build_dvae(latent=4, size_px=16)
    network.load_state_dict(load(encoder.weights))

    found = encode(encoder, STORED, ROWS, batch_size=7)

    with torch.no_grad():
        mean = network.encode(torch.from_numpy(STORED / np.float32(255))).mean.numpy()
    np.testing.assert_allclose(found, mean, atol=1e-6)


def test_samples_follow_the_posterior_and_do_not_depend_on_the_batch(tmp_path):
    mean = encode(train(tmp_path / "m", settings(max_steps=3)), STORED, ROWS, batch_size=24)
    sampled = train(tmp_path / "s", settings(max_steps=3, sampled=True))

    one, same = (encode(sampled, STORED, ROWS, batch_size=size) for size in (5, 24))
    other = encode(
        train(tmp_path / "o", settings(max_steps=3, sampled=True), seed=1),
        STORED,
        ROWS,
        batch_size=24,
    )

    np.testing.assert_allclose(one, same, atol=1e-5)
    assert not np.allclose(same, other, atol=0.1)
    network = build_dvae(latent=4, size_px=16)
    network.load_state_dict(load(sampled.weights))
    with torch.no_grad():
        log_variance = network.encode(torch.from_numpy(STORED / np.float32(255))).log_variance
    noise = (same - mean) / np.exp(0.5 * log_variance.numpy())
    assert abs(noise.mean()) < 0.3
    assert 0.75 < noise.std() < 1.25


def test_training_rows_are_drawn_by_the_seed():
    rows = np.arange(10, 40)

    one, same, other = (draw_training_rows(rows, count=8, seed=seed) for seed in (0, 0, 1))

    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert len(np.unique(one)) == 8
    assert np.isin(one, rows).all()
    assert (np.diff(one) > 0).all()
    np.testing.assert_array_equal(draw_training_rows(rows, count=30, seed=0), rows)


def test_one_image_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"1 image\(s\) to train the d-VAE on, expected at least 2"):
        train(tmp_path, rows=ROWS[:1])


def test_a_network_that_learnt_nothing_is_told(tmp_path):
    encoder = train(tmp_path, settings(max_steps=30, beta=1000.0))

    (problem,) = encoder.problems
    assert problem.kind == "collapsed"
    assert "hardly more than the mean image" in problem.found
    assert not problem.fatal
    assert encoder.record["quality"]["active_units"] == 0


def test_one_that_learnt_is_not(tmp_path):
    encoder = train(tmp_path, settings(max_steps=60))

    assert encoder.problems == ()
    assert encoder.record["quality"]["error_share"] < 0.3
    assert encoder.record["quality"]["active_units"] >= 2


def test_quality_by_hand():
    """A network of zeros rebuilds 0.5 everywhere and has the prior as posterior."""
    network = build_dvae(latent=3, size_px=16)
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
    stored = np.zeros((4, 1, 16, 16), dtype=np.uint8)
    stored[2:] = 255

    found = quality(network, stored, np.arange(4))

    # the mean image is 0.5, too: both errors are 0.25 a pixel
    assert found == training.Quality(kl_nats=0.0, active_units=0, error_share=1.0, images=4)
