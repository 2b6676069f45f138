import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save
from tests.stain.tiny import run_folder, tiny_preset, tiny_stainer

from medglean.errors import CheckpointError, RunFolderError, UsageError
from medglean.stain.levels import level_features
from medglean.stain.model import load_stainer, make_stainer, save_stainer
from medglean.stain.pairs import target_of

IMAGES = np.random.default_rng(0).random((3, 3, 64, 64), dtype=np.float32)


@pytest.fixture(scope="module")
def stainer(start):
    return tiny_stainer(start)


@pytest.fixture
def saved(tmp_path, start, stainer):
    with run_folder(tmp_path / "run", start) as run:
        save_stainer(run, stainer)
    return tmp_path / "run"


def test_a_stainer_comes_back_as_it_was(saved, stainer):
    found = load_stainer(saved)

    assert found.preset == stainer.preset
    assert found.weights_sha256 == stainer.weights_sha256 != ""
    assert list(found.networks) == ["level", "judge", "generator"]
    assert np.array_equal(found.white, stainer.white)
    assert np.array_equal(found.colour, stainer.colour)
    assert np.array_equal(found.stain(IMAGES), stainer.stain(IMAGES))
    assert np.array_equal(found.judged(IMAGES), stainer.judged(IMAGES))
    for network in found.networks.values():
        assert not network.training
        assert not any(weight.requires_grad for weight in network.parameters())


def test_the_facts_are_there_to_read(saved, stainer):
    facts = json.loads((saved / "model.json").read_text())

    weights = (saved / "generator.safetensors").read_bytes()
    assert facts["networks"]["generator"]["sha256"] == hashlib.sha256(weights).hexdigest()
    assert facts["levels"] == ["0", "1+", "2+", "3+"]
    assert facts["white"] == stainer.white.tolist()
    assert facts["trained_with"]["generator.width"] == 4


def test_an_image_is_what_the_generator_makes_of_it_and_its_features(stainer):
    level, generator = stainer.networks["level"], stainer.networks["generator"]
    features = level_features(level, IMAGES, stainer.preset)

    found = stainer.stain(IMAGES)

    with torch.no_grad():
        made = generator(torch.from_numpy(2 * IMAGES - 1), torch.from_numpy(features))
    np.testing.assert_allclose(found, (made.numpy() + 1) / 2, atol=1e-5)
    assert found.dtype == np.float32
    with torch.no_grad():
        told_other = generator(torch.from_numpy(2 * IMAGES - 1), torch.from_numpy(features + 1))
    assert not np.allclose(found, (told_other.numpy() + 1) / 2, atol=1e-4)


@pytest.mark.parametrize("sides", [(64, 64), (50, 37), (5, 70), (1, 16)])
def test_any_size_is_stained(start, sides):
    plain = tiny_stainer(start.with_preset(generator={"level_features": False}))
    image = IMAGES[:1, :, :1].repeat(80, axis=2)[:, :, : sides[0]]
    image = np.concatenate([image, image], axis=3)[:, :, :, : sides[1]]

    found = plain.stain(image)

    assert found.shape == image.shape
    assert found.min() >= 0
    assert found.max() <= 1


def test_an_image_is_padded_by_its_mirror_image(start):
    plain = tiny_stainer(start.with_preset(generator={"level_features": False}))
    mirrored = np.pad(IMAGES[:1, :, :60, :58], ((0, 0), (0, 0), (2, 2), (3, 3)), mode="reflect")

    whole, cut = plain.stain(mirrored), plain.stain(IMAGES[:1, :, :60, :58])

    np.testing.assert_array_equal(cut, whole[:, :, 2:62, 3:61])


def test_an_image_is_stained_alike_whatever_batch_it_is_in(stainer, monkeypatch):
    together = stainer.stain(IMAGES)
    monkeypatch.setattr("medglean.stain.model.PIXELS_AT_ONCE", 64 * 64)

    np.testing.assert_allclose(stainer.stain(IMAGES), together, atol=1e-5)
    np.testing.assert_allclose(stainer.stain(IMAGES[1:2]), together[1:2], atol=1e-5)


def test_no_image_gives_no_image(stainer):
    assert stainer.stain(IMAGES[:0]).shape == (0, 3, 64, 64)


@pytest.mark.parametrize("reapply", ["none", "training", "input", "own"])
def test_white_is_put_back_as_the_settings_say(start, reapply):
    changed = start.with_preset(white={"normalise": True, "reapply": reapply})
    stainer = tiny_stainer(changed)
    own = np.array([[0.5, 0.6, 0.7]] * 3)
    glass = dataclasses.replace(
        stainer, preset=tiny_preset(white={"normalise": True, "reapply": "none"})
    ).stain(IMAGES)

    image = np.array([[0.9, 0.8, 0.7]] * 3)

    found = stainer.stain(IMAGES, white=own, white_image=image)
    unknown = stainer.stain(IMAGES)

    training = stainer.white[:, None, None]
    factor = {
        "none": 1.0,
        "training": training,
        "input": image[:, :, None, None],
        "own": own[:, :, None, None],
    }[reapply]
    np.testing.assert_allclose(found, glass * factor, atol=1e-6)
    np.testing.assert_allclose(unknown, glass * (1.0 if reapply == "none" else training), atol=1e-6)
    assert found.dtype == np.float32


def test_white_and_colour_are_the_mean_of_what_was_learnt_from(start):
    pairs, rows = start.pairs, start.pairs.positions("train")
    stainer = make_stainer({}, tiny_preset(method="mean-colour"), pairs)
    few = make_stainer({}, tiny_preset(method="mean-colour"), pairs, rows=rows[:2])

    np.testing.assert_allclose(stainer.white, pairs.white_targets[rows].mean(axis=0))
    np.testing.assert_allclose(stainer.colour, target_of(pairs, rows).mean(axis=(0, 2, 3)), 1e-5)
    np.testing.assert_allclose(few.colour, target_of(pairs, rows[:2]).mean(axis=(0, 2, 3)), 1e-5)
    assert few.weights_sha256 != stainer.weights_sha256


def test_a_mean_colour_is_flat_whatever_is_stained(tmp_path, start):
    changed = start.with_preset(method="mean-colour")
    made = make_stainer({}, changed.preset, start.pairs)
    with run_folder(tmp_path / "run", changed) as run:
        save_stainer(run, made)

    found = load_stainer(tmp_path / "run").stain(IMAGES[:, :, :7, :9])

    assert found.shape == (3, 3, 7, 9)
    assert (found == made.colour.astype(np.float32)[:, None, None]).all()
    with pytest.raises(UsageError, match="no generator"):
        _ = made.generator


def test_levels_are_told_by_the_run_s_own_classifiers(stainer):
    on_he, on_ihc = stainer.level_of(IMAGES), stainer.judged(IMAGES)

    assert on_he.shape == on_ihc.shape == (3, 4)
    np.testing.assert_allclose(on_he.sum(axis=1), 1.0)
    assert not np.allclose(on_he, on_ihc)


def test_a_run_without_judge_or_features_says_so(start):
    changes = {"generator": {"level_features": False}, "measure": {"judge": False}}
    plain = tiny_stainer(start.with_preset(**changes))

    with pytest.raises(UsageError, match=r"no network 'judge': measure\.judge was off"):
        plain.judged(IMAGES)
    with pytest.raises(UsageError, match=r"no network 'level': generator\.level_features was"):
        plain.level_of(IMAGES)


def test_a_stainer_goes_to_a_device(stainer):
    assert stainer.on_device("cpu").device == torch.device("cpu")
    with pytest.raises(UsageError, match="device 'abacus'"):
        stainer.on_device("abacus")


def test_what_does_not_touch_the_networks_can_be_changed(stainer):
    changed = tiny_preset(predict={"legend": False}, slide={"level": 1}, fit={"epochs": 3})

    assert stainer.with_preset(changed).preset.predict.legend is False
    with pytest.raises(UsageError, match=r"another generator\.width: 4 then, 8 now"):
        stainer.with_preset(tiny_preset(generator={"width": 8}))
    with pytest.raises(UsageError, match=r"another white\.normalise: False then, True now"):
        stainer.with_preset(tiny_preset(white={"normalise": True}))


def test_a_run_of_something_else_is_refused(tmp_path, start):
    with run_folder(tmp_path / "run", start) as run:
        run.record["task"] = "classify"
        run.write_json("run.json", run.record)

    with pytest.raises(RunFolderError, match="a run of 'classify', expected one of 'stain'"):
        load_stainer(tmp_path / "run")


def test_an_unfinished_run_is_refused(tmp_path, start):
    with run_folder(tmp_path / "run", start):
        pass

    with pytest.raises(RunFolderError, match="no trained networks yet"):
        load_stainer(tmp_path / "run")


def test_a_run_of_another_format_is_refused(saved):
    facts = json.loads((saved / "model.json").read_text())
    (saved / "model.json").write_text(json.dumps(facts | {"format": 9}))

    with pytest.raises(RunFolderError, match="has format 9, this medglean reads 1"):
        load_stainer(saved)


def test_a_preset_that_was_edited_is_refused(saved):
    file = saved / "preset.toml"
    file.write_text(file.read_text().replace("head_width = 4", "head_width = 8"))

    with pytest.raises(CheckpointError, match=r"generator\.attention: .* then, .* now"):
        load_stainer(saved)


def test_damaged_weights_are_refused(saved):
    file = saved / "generator.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match=r"generator\.safetensors: its SHA-256 is"):
        load_stainer(saved)

    file.unlink()
    with pytest.raises(CheckpointError, match=r"generator\.safetensors: no such file"):
        load_stainer(saved)


def with_hash_of(run, data):
    facts = json.loads((run / "model.json").read_text())
    facts["networks"]["generator"]["sha256"] = hashlib.sha256(data).hexdigest()
    (run / "model.json").write_text(json.dumps(facts))
    (run / "generator.safetensors").write_bytes(data)


def test_weights_that_do_not_fit_are_refused(saved):
    state = load_file(saved / "generator.safetensors")
    state.pop("down.0.weight")
    with_hash_of(saved, save(state))
    with pytest.raises(CheckpointError, match=r"missing: generator\.down\.0\.weight"):
        load_stainer(saved)

    with_hash_of(saved, b"not weights at all")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_stainer(saved)


def test_the_hash_changes_with_the_weights(start, stainer):
    assert stainer.weights_sha256 != tiny_stainer(start, size=0.2).weights_sha256
    again = make_stainer(stainer.networks, stainer.preset, start.pairs)
    assert stainer.weights_sha256 == again.weights_sha256
