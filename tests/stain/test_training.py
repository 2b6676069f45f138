import dataclasses
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from tests.stain.tiny import Opened, opened, run_folder, tiny_preset

from medglean.errors import DataError, Interrupted, UsageError
from medglean.fitting import checkpoint
from medglean.fitting.progress import Silent
from medglean.stain.fits import level_statistics
from medglean.stain.levels import level_features
from medglean.stain.networks import build_network
from medglean.stain.pairs import image_of
from medglean.stain.training import check_parts, fit_network, fit_networks, trained_by

ALONE = {"generator": {"level_features": False}, "measure": {"judge": False}}
"""Changes that leave generator and discriminator to train."""


def train(path, start, *, progress=Silent, rows=None, **options):
    with run_folder(path, start, **options) as run:
        return fit_networks(
            run, start.pairs, start.chosen, start.preset, rows=rows, progress=progress
        )


def states(networks):
    return {f"{n}.{k}": v for n, net in networks.items() for k, v in net.state_dict().items()}


def assert_same(found, expected):
    found, expected = states(found), states(expected)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert torch.equal(value, found[key]), key


def log_of(path):
    return pd.read_csv(path / "log.csv")


class Painted:
    """The same images, with some of them white."""

    def __init__(self, images, rows):
        self.images, self.stored = images, images.stored.copy()
        self.stored[rows] = 255

    def __len__(self):
        return len(self.images)

    def __getattr__(self, name):
        return getattr(self.images, name)


def painted(start: Opened, rows) -> Opened:
    """Return the pairs with both images of these rows painted white."""
    images, targets = (Painted(each, rows) for each in (start.pairs.images, start.pairs.targets))
    return start._replace(pairs=dataclasses.replace(start.pairs, images=images, targets=targets))


def with_levels(start: Opened, levels) -> Opened:
    """Return the pairs with other levels."""
    return start._replace(
        chosen=dataclasses.replace(start.chosen, levels=levels),
        pairs=dataclasses.replace(start.pairs, levels=levels),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory, start):
    path = tmp_path_factory.mktemp("whole") / "run"
    return path, *train(path, start)


def test_level_judge_and_gan_are_trained_each_in_its_folder(whole):
    path, networks, results = whole

    assert list(networks) == list(results) == ["level", "judge", "generator"]
    assert not any(network.training for network in networks.values())
    assert [results[name].steps for name in results] == [4, 4, 4]
    level, judge, gan = (log_of(path / name) for name in ("level", "judge", "gan"))
    assert {"train.loss", "val.loss", "val.accuracy"} <= set(level) & set(judge)
    assert {"train.l1", "train.discriminator.level", "val.loss", "val.psnr"} <= set(gan)


def test_the_judge_sees_ihc_and_the_level_classifier_h_and_e(whole, start, tmp_path):
    blank = Painted(start.pairs.images, np.arange(16))
    blinded = start._replace(pairs=dataclasses.replace(start.pairs, images=blank))
    with run_folder(tmp_path / "run", start) as run:
        given = (run, blinded.pairs, start.chosen, start.preset)
        level = fit_network("level", *given, progress=Silent)[0]
        judge = fit_network("judge", *given, progress=Silent)[0]

    assert_same({"judge": judge}, {"judge": whole[1]["judge"]})
    assert not torch.equal(level.backbone.fc.weight, whole[1]["level"].backbone.fc.weight)


def test_generator_and_discriminator_have_an_optimiser_each(whole):
    path, _, results = whole

    tensors = checkpoint.read(results["generator"].last).tensors
    moments = {key.split(".")[1] for key in tensors if key.startswith("optimizer.")}
    assert moments == {"generator", "discriminator"}
    assert {"lr.generator", "lr.discriminator"} <= set(log_of(path / "gan"))


def test_without_an_adversarial_loss_no_discriminator_is_built(tmp_path, start):
    changed = start.with_preset(**ALONE, losses={"adversarial": 0.0})

    _, results = train(tmp_path / "run", changed)

    log = log_of(tmp_path / "run" / "gan")
    assert not [name for name in log if "discriminator" in name]
    assert not [k for k in checkpoint.read(results["generator"].last).tensors if "discrim" in k]
    assert "train.level" not in log


def test_some_steps_bring_images_nearer_to_their_targets(tmp_path, start):
    fit = {"max_steps": 40, "validate_every": 20, "validate_unit": "steps"}
    changed = start.with_preset(**ALONE, fit=fit)

    _, results = train(tmp_path / "run", changed)

    first, last = (row for row in results["generator"].history if "val.loss" in row)
    log = log_of(tmp_path / "run" / "gan")["train.l1"].dropna()
    assert log.tail(5).mean() < 0.6 * log.head(2).mean()
    assert last["val.loss"] < first["val.loss"]
    assert last["val.psnr"] > first["val.psnr"]


def test_the_level_classifier_stays_as_it_is_while_the_gan_learns(tmp_path, start, whole):
    level = build_network("level", start.preset, seed=7)
    before = {key: value.clone() for key, value in level.state_dict().items()}

    with run_folder(tmp_path / "run", start) as run:
        given = (run, start.pairs, start.chosen, start.preset)
        fit_network("generator", *given, level=level, progress=Silent)

    for key, value in level.state_dict().items():
        assert torch.equal(value, before[key]), key
    kept = checkpoint.read(whole[2]["generator"].last).tensors
    assert not [key for key in kept if "backbone" in key]


def test_features_are_those_of_the_whole_image_of_training_pairs(whole, start):
    _, networks, _ = whole
    rows = start.pairs.positions("train")

    features = level_features(networks["level"], image_of(start.pairs, rows), start.preset)

    film, sd = networks["generator"].film, features.std(axis=0)
    np.testing.assert_allclose(film.mean, features.mean(axis=0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(film.sd, np.maximum(sd, 0.1 * np.sqrt((sd**2).mean())), rtol=1e-4)


def test_features_of_a_single_pair_are_only_shifted():
    mean, sd = level_statistics(np.array([[2.0, 0.0]], np.float32))

    assert mean.tolist() == [2, 0]
    assert sd.tolist() == [1, 1]


@pytest.mark.parametrize("stopped_in", [0, 1, 2])
def test_a_stopped_training_ends_as_one_that_was_not(tmp_path, start, whole, stopped_in):
    class StopAt(Silent):
        count = 0

        def __init__(self):
            self.number = StopAt.count
            StopAt.count += 1

        def update(self, *, step, epoch, values):
            if step == 1 and self.number == stopped_in:
                signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        train(tmp_path / "cut", start, progress=StopAt)
    assert (tmp_path / "cut" / "gan").exists() == (stopped_in == 2)
    resumed, results = train(tmp_path / "cut", start, resume=True)

    assert_same(resumed, whole[1])
    name = ("level", "judge", "generator")[stopped_in]
    assert results[name].resumed_from == (2,)


def test_a_longer_training_goes_on_from_a_shorter_one(tmp_path, start, whole):
    train(tmp_path / "cut", start.with_preset(fit={"max_steps": 2}))

    longer, _ = train(tmp_path / "cut", start, resume=True, may_change={"fit.max_steps"})

    assert_same(longer, whole[1])


def test_another_level_classifier_cannot_be_put_under_a_training(tmp_path, start, whole):
    with run_folder(tmp_path / "run", start) as run:
        given = (run, start.pairs, start.chosen, start.preset)
        fit_network("generator", *given, level=whole[1]["level"], progress=Silent)
        other = build_network("level", start.preset, seed=7)
        with pytest.raises(UsageError, match="above"):
            fit_network("generator", *given, level=other, progress=Silent)


def test_a_generator_with_features_needs_their_classifier(tmp_path, start):
    with (
        run_folder(tmp_path / "run", start) as run,
        pytest.raises(ValueError, match="pass the trained classifier"),
    ):
        fit_network("generator", run, start.pairs, start.chosen, start.preset, progress=Silent)


def test_classifiers_learn_from_pairs_with_a_level_alone(tmp_path, start):
    levels = start.chosen.levels.copy()
    train_rows = start.pairs.positions("train")
    hidden = train_rows[:3]
    levels[hidden] = -1
    partly = with_levels(start, levels)

    networks = {}
    for name, each in (("seen", partly), ("painted", painted(partly, hidden))):
        with run_folder(tmp_path / name, start) as run:
            networks[name] = {
                role: fit_network(role, run, each.pairs, each.chosen, each.preset, progress=Silent)[
                    0
                ]
                for role in ("level", "judge")
            }

    assert_same(networks["painted"], networks["seen"])


def test_pairs_without_a_level_teach_the_generator(tmp_path, start):
    levels = np.full_like(start.chosen.levels, -1)
    unknown = with_levels(start.with_preset(**ALONE), levels)

    networks, results = train(tmp_path / "run", unknown)

    log = log_of(tmp_path / "run" / "gan")
    assert (log["train.discriminator.level"].dropna() == 0).all()
    assert list(networks) == ["generator"]
    assert results["generator"].steps == 4


def test_rows_that_are_not_named_are_not_learnt_from(tmp_path, start):
    rows = start.pairs.positions()[::2]
    others = np.setdiff1d(np.arange(len(start.pairs)), rows)

    networks, _ = train(tmp_path / "seen", start, rows=rows)
    same, _ = train(tmp_path / "painted", painted(start, others), rows=rows)

    assert_same(same, networks)
    features = level_features(networks["level"], image_of(start.pairs, rows), start.preset)
    np.testing.assert_allclose(
        networks["generator"].film.mean, features.mean(axis=0), rtol=1e-5, atol=1e-7
    )
    assert not [name for name in log_of(tmp_path / "seen" / "gan") if name.startswith("val")]


@pytest.mark.parametrize(
    ("changes", "network", "remedy"),
    [
        ({}, "level", "generator.level_features=false"),
        ({"generator": {"level_features": False}}, "judge", "measure.judge=false"),
    ],
)
def test_one_level_teaches_a_classifier_nothing(tmp_path, start, changes, network, remedy):
    rows = np.flatnonzero(start.chosen.levels == 2)

    with pytest.raises(DataError, match=rf"classifier '{network}' .* are: 2\+; .* Set {remedy}"):
        train(tmp_path / "run", start.with_preset(**changes), rows=rows)


def test_batches_can_be_accumulated(tmp_path, start):
    changed = start.with_preset(**ALONE, fit={"batch_size": 2, "accumulate": 2, "max_steps": 2})

    networks, results = train(tmp_path / "run", changed)

    assert results["generator"].steps == 2
    fresh = build_network("generator", changed.preset)
    assert not torch.equal(fresh.down[0].weight, networks["generator"].down[0].weight)


def test_several_crops_of_a_pair_make_an_epoch_longer(tmp_path, start):
    fit = {"max_steps": None, "epochs": 1}
    changed = start.with_preset(**ALONE, augment={"crops_per_image": 2}, fit=fit)

    _, results = train(tmp_path / "run", changed)

    assert results["generator"].steps == 2 * len(start.pairs.positions("train")) // 4


def test_whole_images_can_be_learnt_from(tmp_path, start):
    changed = start.with_preset(**ALONE, augment={"crop_px": None}, fit={"max_steps": 1})

    with run_folder(tmp_path / "run", start) as run:  # its preset has a crop, as TOML must
        _, result = fit_network(
            "generator", run, changed.pairs, changed.chosen, changed.preset, progress=Silent
        )

    assert np.isfinite(result.best_value)


def test_mixed_precision_is_in_force(tmp_path, start):
    changed = start.with_preset(fit={"precision": "bf16-mixed", "max_steps": 1})

    networks, _ = train(tmp_path / "run", changed)

    assert {value.dtype for value in networks["generator"].parameters()} == {torch.float32}
    assert np.isfinite(log_of(tmp_path / "run" / "gan")["train.generator"].iloc[0])


def test_the_average_is_what_is_kept(tmp_path, start):
    networks, results = train(tmp_path / "run", start.with_preset(**ALONE, fit={"ema_decay": 0.9}))

    tensors = checkpoint.read(results["generator"].last).tensors
    kept = networks["generator"].up[0].weight
    assert torch.equal(kept, tensors["ema.generator.up.0.weight"])
    assert not torch.equal(kept, tensors["network.generator.up.0.weight"])


def test_the_best_weights_are_kept_with_patience(tmp_path, start):
    fit = {
        "max_steps": 6,
        "patience": 1,
        "validate_unit": "steps",
        "optimizer": {"name": "sgd", "learning_rate": 1.0},
    }
    networks, results = train(tmp_path / "run", start.with_preset(**ALONE, fit=fit))

    result = results["generator"]
    assert result.best_step < result.steps
    best = checkpoint.read(result.best).tensors["generator.up.0.weight"]
    assert torch.equal(networks["generator"].up[0].weight, best)


def test_a_mean_colour_is_not_trained(tmp_path, start):
    assert train(tmp_path / "run", start.with_preset(method="mean-colour")) == ({}, {})


def test_rows_of_a_study_share_what_is_trained_alike():
    paper = tiny_preset()
    plain = tiny_preset(generator={"attention": {"kind": "none"}})
    back = tiny_preset(white={"normalise": True, "reapply": "training"})
    white = tiny_preset(white={"normalise": True})
    longer = tiny_preset(level={"fit": {"max_steps": 3}})

    assert trained_by("level", paper) == trained_by("level", plain)
    assert trained_by("generator", paper) != trained_by("generator", plain)
    assert trained_by("level", paper) != trained_by("judge", paper)
    assert trained_by("judge", paper) != trained_by("judge", white) == trained_by("judge", back)
    assert trained_by("generator", white) == trained_by("generator", back)
    assert trained_by("generator", paper) != trained_by("generator", longer)


def test_an_empty_training_part_is_refused(start):
    check_parts(start.pairs, start.chosen)
    none = dataclasses.replace(start.pairs, ok=start.pairs.ok & False)

    with pytest.raises(DataError, match="none of the 8 pairs of the training part can be used"):
        check_parts(none, start.chosen)


def test_all_pairs_may_be_learnt_from_where_that_is_asked_for(stained):
    everything = opened(stained, tiny_preset(split={"train": 1.0, "val": 0.0, "test": 0.0}))

    check_parts(everything.pairs, everything.chosen)


def test_pairs_kept_aside_of_which_none_can_be_used_are_refused(start):
    train = start.pairs.ok & (start.chosen.manifest.frame["split"] == "train").to_numpy()
    unread = dataclasses.replace(start.pairs, ok=train)

    with pytest.raises(DataError, match="none of the 8 pairs that were kept aside"):
        check_parts(unread, start.chosen)
