import dataclasses
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from tests.anomaly.tiny import Opened, opened, run_folder, tiny_preset

from medglean.anomaly.matching import match_weights
from medglean.anomaly.networks import networks_of
from medglean.anomaly.training import check_parts, fit_networks, rows_to_learn
from medglean.errors import DataError, Interrupted, PresetError
from medglean.fitting import checkpoint
from medglean.fitting.progress import Silent


def train(path, start, *, progress=Silent, **options):
    with run_folder(path, start, **options) as run:
        return fit_networks(run, start.images, start.chosen, start.preset, progress=progress)


def with_preset(start, **changes):
    return Opened(tiny_preset(**changes), start.chosen, start.images)


def states(networks):
    return {f"{n}.{k}": v for n, net in networks.items() for k, v in net.state_dict().items()}


def log_of(path):
    return pd.read_csv(path / "log.csv")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, start):
    path = tmp_path_factory.mktemp("whole") / "run"
    return path, *train(path, start)


def test_unet_and_classifier_are_trained_each_in_its_folder(whole):
    path, networks, results = whole

    assert list(networks) == list(results) == ["unet", "classifier"]
    assert not any(network.training for network in networks.values())
    assert results["unet"].steps == results["classifier"].steps == 4
    unet, classifier = (log_of(path / name) for name in ("unet", "classifier"))
    assert {"train.loss", "train.mse", "train.vb", "val.loss", "val.vb"} <= set(unet)
    assert {"train.accuracy", "val.auroc.51", "val.accuracy.6"} <= set(classifier)


def test_the_average_is_what_is_kept(whole):
    _, networks, results = whole

    kept = states({"unet": networks["unet"]})
    tensors = checkpoint.read(results["unet"].last).tensors
    torch.testing.assert_close(kept["unet.out.2.weight"], tensors["ema.unet.out.2.weight"])
    assert not torch.equal(kept["unet.out.2.weight"], tensors["network.unet.out.2.weight"])


@pytest.mark.parametrize("stopped_in", ["unet", "classifier"])
def test_a_stopped_training_ends_as_one_that_was_not(tmp_path, start, whole, stopped_in):
    class StopAt(Silent):
        count = 0

        def __init__(self):
            self.number = StopAt.count
            StopAt.count += 1

        def update(self, *, step, epoch, values):
            if step == 1 and self.number == ("unet", "classifier").index(stopped_in):
                signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        train(tmp_path / "cut", start, progress=StopAt)
    assert (tmp_path / "cut" / "classifier").exists() == (stopped_in == "classifier")
    resumed, results = train(tmp_path / "cut", start, resume=True)

    expected, found = states(whole[1]), states(resumed)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert torch.equal(value, found[key]), key
    assert results[stopped_in].resumed_from == (2,)


def test_a_longer_training_goes_on_from_a_shorter_one(tmp_path, start, whole):
    fit = start.preset.fit.model_dump() | {"max_steps": 2}
    train(tmp_path / "cut", with_preset(start, fit=fit))

    longer, _ = train(tmp_path / "cut", start, resume=True, may_change={"fit.max_steps"})

    found = states(longer)
    for key, value in states(whole[1]).items():
        assert torch.equal(value, found[key]), key


def test_the_seed_decides_the_weights(tmp_path, start, whole):
    fit = start.preset.fit.model_dump() | {"seed": 1}
    other, _ = train(
        tmp_path / "other", with_preset(start, translate={"guidance": "none"}, fit=fit)
    )

    assert list(other) == ["unet"]  # nothing is guided by a classifier
    assert not torch.equal(*(states(each)["unet.out.2.weight"] for each in (whole[1], other)))


def test_the_released_sampler_needs_the_classifier():
    preset = tiny_preset(translate={"guidance": "none", "sampler": "released"})

    assert networks_of(preset) == ("unet", "classifier")


def test_a_vae_sees_healthy_images_alone(tmp_path, start):
    vae = with_preset(start, method="vae")
    networks, results = train(tmp_path / "vae", vae)
    healthy = start.chosen.targets == 0
    stored = start.images.stored.copy()
    stored[~healthy] = 255

    class Blanked:
        """The same images with every diseased one painted white."""

        def __init__(self, images):
            self.images, self.stored = images, stored

        def __getattr__(self, name):
            return getattr(self.images, name)

    blanked = Opened(vae.preset, start.chosen, Blanked(start.images))
    same, _ = train(tmp_path / "white", blanked)

    assert list(networks) == ["vae"]
    assert {"train.kl", "val.loss"} <= set(log_of(tmp_path / "vae" / "vae"))
    for key, value in states(networks).items():
        assert torch.equal(value, states(same)[key]), key
    assert results["vae"].steps == 4


def test_of_a_gan_the_generator_is_kept(tmp_path, start):
    networks, results = train(tmp_path / "run", with_preset(start, method="fpgan"))

    assert list(networks) == list(results) == ["generator"]
    assert "train.generator.identity" in log_of(tmp_path / "run" / "gan")


def test_a_threshold_learns_nothing(tmp_path, start):
    assert train(tmp_path / "run", with_preset(start, method="threshold")) == ({}, {})


def test_the_best_weights_are_kept_with_patience(tmp_path, start):
    fit = start.preset.fit.model_dump() | {
        "max_steps": 6,
        "patience": 1,
        "validate_unit": "steps",
        "optimizer": {"name": "sgd", "learning_rate": 10.0},
    }
    changed = with_preset(start, fit=fit, translate={"guidance": "none"})

    networks, results = train(tmp_path / "run", changed)

    result = results["unet"]
    assert result.stopped_early
    assert result.best_step < result.steps
    best = checkpoint.read(result.best).tensors["unet.out.2.weight"]
    assert torch.equal(states(networks)["unet.out.2.weight"], best)


def test_images_are_drawn_as_often_as_they_weigh(brains):
    matched = opened(brains, tiny_preset(match_on="slice", translate={"guidance": "none"}))
    rows = rows_to_learn(matched.images, matched.chosen, seed=0)

    learn = matched.images.positions("train", labelled=False)
    targets = matched.chosen.targets[learn]
    weights = match_weights(matched.chosen.match[learn], targets)
    counts = np.array([(rows == row).sum() for row in learn])
    assert (np.abs(counts - weights / weights.sum() * len(rows)) < 1).all()
    shares = [counts[targets == target].sum() / len(rows) for target in (0, 1)]
    assert shares == pytest.approx([0.5, 0.5], abs=0.1)


def test_translating_beyond_the_levels_that_are_trained_on_is_refused(tmp_path, start):
    changed = with_preset(start, diffusion={"train_levels": [1, 40]})

    with pytest.raises(PresetError, match=r"L = 50 lies beyond diffusion\.train_levels"):
        train(tmp_path / "run", changed)


def test_images_that_are_not_square_are_refused(tmp_path, start):
    changed = with_preset(start, images={"size_px": [16, 32]})

    with pytest.raises(PresetError, match=r"images.size_px is \[16, 32\]: .* square"):
        train(tmp_path / "run", changed)


def test_a_part_without_one_class_is_refused(start):
    check_parts(start.images, start.chosen)
    sick = dataclasses.replace(start.chosen, targets=np.ones_like(start.chosen.targets))

    with pytest.raises(DataError, match="training part has no image of 'healthy', of"):
        check_parts(start.images, sick)


def test_nothing_kept_aside_is_refused(brains):
    whole = opened(brains, tiny_preset(split={"train": 1.0, "val": 0.0, "test": 0.0}))

    with pytest.raises(DataError, match="no image is kept aside"):
        check_parts(whole.images, whole.chosen)
