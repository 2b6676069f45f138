"""Only the last layer learns: from features that are computed once."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from medglean.classify import frozen_features
from medglean.classify.frozen import (
    _ALWAYS,
    _BEHIND,
    FEATURES,
    check_frozen,
    fit_head,
    frozen_warnings,
)
from medglean.classify.frozen_features import FeatureFetch, features_of
from medglean.classify.prepare import choose, normalisation, open_images
from medglean.classify.settings import ClassifyPreset
from medglean.data.augment_settings import Augment
from medglean.data.fetch import Fetch
from medglean.data.manifest import Manifest
from medglean.errors import Interrupted, UsageError
from medglean.fitting import checkpoint
from medglean.fitting.classification import logits_of
from medglean.fitting.progress import Silent
from medglean.fitting.schedule import factor
from medglean.nn.backbones import ARCHITECTURES, build_backbone
from medglean.randomness import epoch_order
from medglean.runs.preset import load_preset

from .conftest import small_preset

SMALL = {
    "images.size_px": "[32, 32]",
    "model.train": "head",
    "fit.epochs": "3",
    "fit.batch_size": "8",
    "fit.accelerator": "cpu",
    "fit.optimizer.learning_rate": "0.01",
    "fit.ema_decay": "0.9",
    "split.train": "0.6",
    "split.val": "0.2",
}


def head_preset(**changes: object) -> ClassifyPreset:
    """The small preset without augmentation, of which only the last layer is trained."""
    given = SMALL | {name.replace("__", "."): str(value) for name, value in changes.items()}
    preset = load_preset(
        "cxr-small", ClassifyPreset, overrides=[f"{name}={value}" for name, value in given.items()]
    )
    return preset.model_copy(update={"augment": Augment()})


class Ready:
    """Everything that a fit of the last layer asks for."""

    def __init__(self, phantoms: Path, **changes: object) -> None:
        self.preset = head_preset(**changes)
        self.chosen = choose(Manifest.read(phantoms / "data.parquet"), self.preset)
        self.images = open_images(
            self.chosen.manifest,
            self.preset,
            column=self.chosen.column,
            classes=self.chosen.classes,
            cache=phantoms / "cache",
            workers=0,
        )
        self.normalise = normalisation(self.images, self.preset)

    def network(self) -> nn.Module:
        return build_backbone(
            self.preset.model.architecture,
            classes=len(self.chosen.classes),
            dropout=self.preset.model.dropout,
            seed=self.preset.fit.seed,
        )

    def fit(self, folder: Path, network: nn.Module, **options: object):
        return fit_head(
            folder,
            network,
            self.images,
            self.chosen,
            self.preset,
            self.normalise,
            identity={"split": "s"},
            **{"progress": Silent(), **options},
        )

    def batch(self) -> torch.Tensor:

        rows = self.images.positions("train")
        return Fetch(self.images.stored, self.images.targets, normalise=self.normalise)(rows, 0)[
            "image"
        ]


@pytest.fixture(scope="module")
def ready(phantoms: Path) -> Ready:
    return Ready(phantoms)


@pytest.fixture(scope="module")
def whole(ready: Ready, tmp_path_factory: pytest.TempPathFactory):
    """An uninterrupted fit: its folder, the network before and after, and the result."""
    folder, before = tmp_path_factory.mktemp("whole"), ready.network()
    before.train()
    after = copy.deepcopy(before)
    return folder, before, after, ready.fit(folder, after)


def test_only_the_head_changes_and_all_else_is_the_same_bits(whole):
    _, before, after, _ = whole
    then, now = before.state_dict(), after.state_dict()
    changed = {key for key in then if not torch.equal(then[key], now[key])}

    assert changed == {"fc.weight", "fc.bias"}
    assert any("running_mean" in key for key in then)  # BatchNorm's statistics are among the rest
    assert [part.training for part in after.modules()] == [True] * len(list(after.modules()))
    for (name, one), other in zip(before.named_parameters(), after.parameters(), strict=True):
        assert one.stride() == other.stride(), name


def test_the_network_says_what_the_head_makes_of_the_features(ready, whole):
    _, _, network, _ = whole
    batch = ready.batch()
    features = features_of(network, [batch], head="fc")

    expected = features @ network.fc.weight.detach().numpy().T + network.fc.bias.detach().numpy()

    assert features.shape == (len(batch), 512)
    assert features.dtype == np.float32
    np.testing.assert_allclose(logits_of(network, [batch]), expected, rtol=1e-4, atol=1e-5)


def test_features_are_those_of_evaluation_mode_without_augmentation(ready, whole):
    folder, before, _, _ = whole
    network = copy.deepcopy(before).eval()
    network.fc = nn.Identity()
    with torch.no_grad():
        expected = network(ready.batch())

    kept = checkpoint.read(folder / FEATURES).tensors

    torch.testing.assert_close(kept["train"], expected, rtol=1e-4, atol=1e-5)


def test_it_is_the_fit_of_that_layer_on_those_features(ready, whole):
    # what the loop should do, written down: same order, AdamW, one-cycle factors, clipping, EMA
    folder, before, after, result = whole
    fit, rows = ready.preset.fit, ready.images.positions("train")
    features = checkpoint.read(folder / FEATURES).tensors["train"]
    place = {int(row): k for k, row in enumerate(rows)}
    head = copy.deepcopy(before.fc)
    average = [weight.detach().clone() for weight in head.parameters()]
    given = fit.optimizer
    optimizer = torch.optim.AdamW(
        head.parameters(), lr=given.learning_rate, weight_decay=given.weight_decay
    )

    per_epoch = -(-len(rows) // fit.batch_size)
    for step in range(fit.epochs * per_epoch):
        epoch, number = divmod(step, per_epoch)
        order = rows[epoch_order(fit.seed, epoch, len(rows))]
        chosen = order[number * fit.batch_size :][: fit.batch_size]
        rate = factor(
            step,
            schedule=fit.schedule,
            total_steps=fit.epochs * per_epoch,
            steps_per_epoch=per_epoch,
        )
        optimizer.param_groups[0]["lr"] = given.learning_rate * rate
        logits = head(features[[place[int(row)] for row in chosen]])
        target = torch.from_numpy(ready.images.targets[chosen])
        loss = nn.functional.cross_entropy(logits, target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), fit.clip_norm)
        optimizer.step()
        decay = min(fit.ema_decay, (1 + step) / (10 + step))
        for mean, weight in zip(average, head.parameters(), strict=True):
            mean.lerp_(weight.detach(), 1 - decay)

    assert ready.preset.keep == "last"
    assert result.steps == fit.epochs * per_epoch
    torch.testing.assert_close(after.fc.weight, nn.Parameter(average[0]), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(after.fc.bias, nn.Parameter(average[1]), rtol=1e-3, atol=1e-5)


def test_every_epoch_is_judged_by_loss_and_auroc(ready, whole):
    _, _, _, result = whole
    judged = [row for row in result.history if row.get("val.loss") is not None]

    assert len(judged) == ready.preset.fit.epochs
    assert all(0.0 <= float(row["val.auroc"]) <= 1.0 for row in judged)
    assert result.best_value == pytest.approx(max(float(row["val.auroc"]) for row in judged))


def test_the_validation_part_is_averaged_over_mirror_images(ready, whole):
    folder, before, _, _ = whole
    assert ready.preset.predict.flip
    rows = ready.images.positions("val")

    batch = Fetch(ready.images.stored, ready.images.targets, normalise=ready.normalise)(rows, 0)
    logits = logits_of(before, [batch["image"]], flip=True)
    kept = checkpoint.read(folder / FEATURES).tensors["val"]

    with torch.no_grad():
        torch.testing.assert_close(before.fc(kept), torch.from_numpy(logits), rtol=1e-4, atol=1e-5)


def passes(monkeypatch) -> list[int]:
    """Count the batches that go through the backbone."""
    counted: list[int] = []
    original = frozen_features.features_of

    def counting(*args, **options):
        counted.append(1)
        return original(*args, **options)

    monkeypatch.setattr(frozen_features, "features_of", counting)
    return counted


class StopAt(Silent):
    """Sends a signal to this process after a step."""

    def __init__(self, step: int, number: signal.Signals) -> None:
        self.step, self.number = step, number

    def update(self, *, step, epoch, values) -> None:
        if step == self.step:
            os.kill(os.getpid(), self.number)


def test_a_stopped_fit_goes_on_to_the_same_bits_and_computes_no_feature_again(
    ready, whole, tmp_path, monkeypatch
):
    with pytest.raises(Interrupted, match="after step 5 of"):
        ready.fit(tmp_path, ready.network(), progress=StopAt(4, signal.SIGTERM))
    counted = passes(monkeypatch)

    network = ready.network()
    result = ready.fit(tmp_path, network)

    assert counted == []
    assert result.resumed_from == (5,)
    assert torch.equal(network.fc.weight, whole[2].fc.weight)
    assert torch.equal(network.fc.bias, whole[2].fc.bias)


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from tests.classify.test_frozen import Ready, StopAt
torch.set_num_threads(1)
ready = Ready(Path(sys.argv[1]))
ready.fit(Path(sys.argv[2]), ready.network(), progress=StopAt(int(sys.argv[3]), signal.SIGKILL))
"""


def test_a_killed_fit_goes_on_to_the_same_bits(phantoms, ready, whole, tmp_path):
    steps_per_epoch = -(-len(ready.images.positions("train")) // ready.preset.fit.batch_size)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, phantoms, tmp_path, str(steps_per_epoch + 2)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr

    network = ready.network()
    result = ready.fit(tmp_path, network)

    assert result.resumed_from == (steps_per_epoch,)  # the last checkpoint was at the validation
    assert torch.equal(network.fc.weight, whole[2].fc.weight)


def test_a_damaged_file_is_told_and_made_anew(ready, whole, tmp_path, monkeypatch, caplog):
    content = (whole[0] / FEATURES).read_bytes()
    (tmp_path / FEATURES).write_bytes(content[: len(content) // 2])
    counted = passes(monkeypatch)

    ready.fit(tmp_path, ready.network())

    assert len(counted) == 2  # training and validation part
    assert "The features are computed again" in caplog.text
    then, now = (checkpoint.read(at / FEATURES).tensors for at in (whole[0], tmp_path))
    assert all(torch.equal(then[part], now[part]) for part in ("train", "val"))


@pytest.mark.parametrize("other", ["backbone", "statistics", "normalise", "split"])
def test_features_of_something_else_are_not_taken(ready, phantoms, tmp_path, monkeypatch, other):
    features = tmp_path / FEATURES
    ready.fit(tmp_path / "first", ready.network(), features=features)
    network, again = ready.network(), ready
    if other == "backbone":
        with torch.no_grad():
            network.layer4[1].conv2.weight[0, 0, 0, 0] += 1e-3
    elif other == "statistics":
        network.bn1.running_mean[0] = 0.5
    elif other == "normalise":
        again = Ready(phantoms, inputs__normalise="dataset")
    else:
        again = Ready(phantoms, split__train=0.5, split__test=0.3)
    counted = passes(monkeypatch)

    again.fit(tmp_path / "second", network, features=features)

    assert len(counted) == 2


def test_another_head_on_the_same_backbone_takes_the_features(ready, tmp_path, monkeypatch):
    features = tmp_path / FEATURES
    ready.fit(tmp_path / "first", ready.network(), features=features)
    network = ready.network()
    nn.init.zeros_(network.fc.weight)
    counted = passes(monkeypatch)

    ready.fit(tmp_path / "second", network, features=features)

    assert counted == []


def test_dropout_before_the_head_is_off():
    network = build_backbone("alexnet", classes=2, dropout=0.5)
    network.train()
    images = torch.rand(2, 1, 64, 64)
    head = ARCHITECTURES["alexnet"].head

    first = features_of(network, [images], head=head)
    batched = features_of(network, [images[:1], images[1:]], head=head)

    assert first.shape == (2, 4096)
    np.testing.assert_allclose(first, batched, rtol=1e-4, atol=1e-5)
    assert network.training
    assert network.classifier[0].training
    expected = network.eval()(images).detach().numpy()
    last = network.get_submodule(head)
    np.testing.assert_allclose(
        first @ last.weight.detach().numpy().T + last.bias.detach().numpy(),
        expected,
        rtol=1e-4,
        atol=1e-5,
    )


def test_without_validation_images_the_last_weights_are_kept(phantoms, tmp_path):
    ready = Ready(phantoms, split__train=0.8, split__val=0.0, fit__patience=1, fit__epochs=2)
    network = ready.network()
    start = network.fc.weight.detach().clone()

    result = ready.fit(tmp_path, network)

    assert result.best is None
    assert result.epochs == 2
    assert not torch.equal(network.fc.weight, start)


def test_balanced_weights_and_smoothing_reach_the_loss(ready, whole, phantoms, tmp_path):
    other = Ready(phantoms, labels__weights="balanced", labels__smoothing=0.1, fit__epochs=1)
    network = other.network()

    first = other.fit(tmp_path, network).history[0]["train.loss"]

    features = features_of(whole[1], [ready.batch()], head="fc")
    assert np.isfinite(float(first))
    assert len(features) == len(ready.images.positions("train"))
    assert float(first) != float(whole[3].history[0]["train.loss"])


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"augment.flip_horizontal": "0.5"}, r"Set augment\.flip_horizontal=0\.0; or"),
        ({"augment.jpeg_quality": "[30, 90]"}, r"augment\.jpeg_quality=none"),
        ({"augment.quarter_turns": "true"}, r"augment\.quarter_turns=false"),
        ({"augment.scale": "[0.9, 1.1]"}, r"augment\.scale=\[1\.0, 1\.0\]"),
        ({"augment.erase_count": "1"}, r"augment\.erase_count=0"),
        ({"mixup": "0.2"}, r"mixup=0"),
    ],
)
def test_what_changes_from_epoch_to_epoch_is_refused_by_name(change, remedy):

    preset = load_preset(
        "cxr2022-alexnet",
        ClassifyPreset,
        overrides=["model.train=head", *(f"{key}={value}" for key, value in change.items())],
    )
    plain = preset.model_copy(update={"augment": Augment()}) if "mixup" in change else preset

    with pytest.raises(UsageError, match=remedy):
        check_frozen(plain)


def test_the_remedy_of_the_message_helps():
    with pytest.raises(UsageError) as caught:
        check_frozen(small_preset("model.train=head"))
    asked = str(caught.value).partition("Set ")[2].partition("; or")[0]
    overrides = [f"augment.{one.rstrip(', ')}" for one in asked.split("augment.") if one]

    check_frozen(small_preset("model.train=head", *overrides))

    assert len(overrides) > 10


def test_a_change_that_is_never_met_is_not_refused():
    preset = head_preset().model_copy(
        update={"augment": Augment(rotation_deg=10.0, geometry_probability=0.0)}
    )

    check_frozen(preset)


def test_every_setting_of_augmentation_is_looked_at():

    known = {*_ALWAYS, *_BEHIND, *(name for names in _BEHIND.values() for name in names)}
    how = {"fill", "border_fill", "erase_fill", "erase_size"}  # how, where it is met at all

    assert known | how == set(Augment.model_fields)


def test_random_features_and_dropout_without_effect_are_told(ready, whole):
    assert any("random weights" in text for text in whole[3].warnings)
    preset = ready.preset

    given = preset.model.model_copy(update={"weights": "imagenet", "dropout": 0.3})
    told = frozen_warnings(preset.model_copy(update={"model": given}))

    assert len(told) == 1
    assert "model.dropout=0.3 had no effect" in told[0]


def test_a_row_without_features_is_never_served_as_another():
    fetch = FeatureFetch(np.array([3, 1]), np.eye(2, dtype=np.float32), np.arange(5))

    batch = fetch(np.array([1, 3]), 7)

    assert batch["image"].tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert batch["target"].tolist() == [1, 3]
    with pytest.raises(IndexError, match="row 2"):
        fetch(np.array([2]), 0)
