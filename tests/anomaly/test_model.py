import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save, save_file
from tests.anomaly.tiny import Opened, run_folder, tiny_mapper, tiny_preset
from torch import nn

from medglean.anomaly.model import load_mapper, make_mapper, mapper_from_release, save_mapper
from medglean.errors import CheckpointError, RunFolderError, UsageError

IMAGES = np.random.default_rng(0).random((3, 1, 16, 16), dtype=np.float32)


@pytest.fixture
def saved(tmp_path, start):
    mapper = dataclasses.replace(
        tiny_mapper(start.preset), scales={"map": 0.5, "threshold": 0.9}, thresholds={"otsu": 0.25}
    )
    with run_folder(tmp_path / "run", start) as run:
        save_mapper(run, mapper)
    return tmp_path / "run", mapper


def test_a_mapper_comes_back_as_it_was(saved):
    path, mapper = saved

    found = load_mapper(path)

    assert found.preset == mapper.preset
    assert (found.healthy, found.diseased) == ("healthy", ("lesion",))
    assert found.scales == {"map": 0.5, "threshold": 0.9}
    assert found.thresholds == {"otsu": 0.25}
    assert found.weights_sha256 == mapper.weights_sha256 != ""
    assert found.method == "diffusion"
    assert list(found.networks) == ["unet", "classifier"]
    for name, network in found.networks.items():
        assert not network.training
        assert not any(weight.requires_grad for weight in network.parameters())
        for key, value in network.state_dict().items():
            assert torch.equal(value, mapper.networks[name].state_dict()[key])


class Compiled(nn.Module):
    """Shaped as what torch.compile returns, which would take seconds to load."""

    def __init__(self, network):
        super().__init__()
        self._orig_mod = network


def test_compiled_networks_are_saved_as_they_were_before(tmp_path, start):
    mapper = tiny_mapper(start.preset)
    compiled = {name: Compiled(network) for name, network in mapper.networks.items()}
    with run_folder(tmp_path / "run", start) as run:
        save_mapper(run, dataclasses.replace(mapper, networks=compiled))

    assert load_mapper(tmp_path / "run").weights_sha256 == mapper.weights_sha256


def test_the_facts_are_there_to_read(saved):
    facts = json.loads((saved[0] / "model.json").read_text())

    weights = (saved[0] / "unet.safetensors").read_bytes()
    assert facts["networks"]["unet"]["sha256"] == hashlib.sha256(weights).hexdigest()
    assert facts["channels"] == ["flair"]
    assert facts["trained_with"]["unet.width"] == 32


def test_a_threshold_has_no_networks(tmp_path, start):
    preset = tiny_preset(method="threshold")
    with run_folder(tmp_path / "run", Opened(preset, start.chosen, start.images)) as run:
        save_mapper(run, tiny_mapper(preset))

    found = load_mapper(tmp_path / "run")

    assert found.networks == {}
    assert found.device == torch.device("cpu")


def test_a_run_of_another_task_is_refused(tmp_path, start):
    with run_folder(tmp_path / "run", start) as run:
        run.record["task"] = "classify"
        run.write_json("run.json", run.record)

    with pytest.raises(RunFolderError, match="a run of 'classify', expected one of 'anomaly'"):
        load_mapper(tmp_path / "run")


def test_a_run_that_did_not_come_to_an_end_is_refused(tmp_path, start):
    with run_folder(tmp_path / "run", start):
        pass

    with pytest.raises(RunFolderError, match=r"holds no trained networks yet .* --resume"):
        load_mapper(tmp_path / "run")


def test_a_later_layout_is_refused(saved):
    facts = json.loads((saved[0] / "model.json").read_text())
    (saved[0] / "model.json").write_text(json.dumps({**facts, "format": 2}))

    with pytest.raises(RunFolderError, match="has format 2, this medglean reads 1"):
        load_mapper(saved[0])


def test_damaged_or_missing_weights_are_refused(saved):
    file = saved[0] / "classifier.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(CheckpointError, match=r"classifier.safetensors: its SHA-256 is .* damaged"):
        load_mapper(saved[0])
    file.unlink()
    with pytest.raises(CheckpointError, match=r"classifier.safetensors: no such file"):
        load_mapper(saved[0])


def with_hash(path, name, data):
    facts = json.loads((path / "model.json").read_text())
    facts["networks"][name]["sha256"] = hashlib.sha256(data).hexdigest()
    (path / f"{name}.safetensors").write_bytes(data)
    (path / "model.json").write_text(json.dumps(facts))


def test_weights_of_another_architecture_are_refused_key_by_key(saved):
    path, _ = saved
    state = load_file(path / "unet.safetensors")
    state["out.9.weight"] = state.pop("out.2.weight")
    state["out.2.bias"] = torch.zeros(7)
    with_hash(path, "unet", save(state))

    with pytest.raises(CheckpointError) as refused:
        load_mapper(path)

    told = str(refused.value)
    assert "3 keys differ" in told
    assert "missing: unet.out.2.weight" in told
    assert "not expected: unet.out.9.weight" in told
    assert "unet.out.2.bias: (7,) float32 in the file, (2,) float32 in the network" in told


def test_what_is_no_safetensors_file_is_refused(saved):
    with_hash(saved[0], "unet", b"no weights")

    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_mapper(saved[0])


def test_a_preset_that_was_edited_after_training_is_refused(saved):
    file = saved[0] / "preset.toml"
    text = file.read_text()
    unet = text.index("[unet]")
    file.write_text(text[:unet] + text[unet:].replace("width = 32", "width = 64", 1))

    with pytest.raises(
        CheckpointError, match=r"changed after training.*\n  unet.width: 32 then, 64"
    ):
        load_mapper(saved[0])


def test_how_maps_are_made_may_be_edited(saved):
    file = saved[0] / "preset.toml"
    file.write_text(file.read_text().replace("noise_level = 50", "noise_level = 40"))

    assert load_mapper(saved[0]).preset.translate.noise_level == 40


def test_other_settings_for_the_same_networks():
    mapper = dataclasses.replace(
        tiny_mapper(tiny_preset()), scales={"map": 1.0}, thresholds={"otsu": 0.3}
    )

    weaker = mapper.with_preset(tiny_preset(translate={"guidance": "none"}))
    faster = mapper.with_preset(tiny_preset(predict={"batch_size": 2}))

    assert weaker.networks is mapper.networks
    assert weaker.scales == weaker.thresholds == {}  # the maps are others now
    assert faster.scales == {"map": 1.0}
    assert faster.preset.predict.batch_size == 2


def test_settings_of_other_networks_are_refused():
    mapper = tiny_mapper(tiny_preset(translate={"guidance": "none"}))

    with pytest.raises(UsageError, match="needs a network 'classifier', and there is unet"):
        mapper.with_preset(tiny_preset())
    with pytest.raises(UsageError, match=r"trained with another diffusion.steps: 100 then, 200"):
        mapper.with_preset(tiny_preset(translate={"guidance": "none"}, diffusion={"steps": 200}))


def test_a_mapper_goes_to_a_device():
    mapper = tiny_mapper(tiny_preset())

    assert mapper.on_device("cpu").device == torch.device("cpu")
    with pytest.raises(UsageError, match="device 'abacus'"):
        mapper.on_device("abacus")


def test_the_hash_changes_with_the_weights():
    one, other = (tiny_mapper(tiny_preset(), size=size) for size in (0.1, 0.2))

    assert one.weights_sha256 != other.weights_sha256
    again = make_mapper(one.networks, one.preset, healthy="healthy", diseased=("lesion",))
    assert one.weights_sha256 == again.weights_sha256


def test_checkpoints_of_the_authors_make_a_mapper(tmp_path):
    preset = tiny_preset(labels={"healthy": "none", "diseased": ["tumour"]})
    trained = tiny_mapper(preset)
    torch.save(trained.networks["unet"].state_dict(), tmp_path / "unet.pt")
    save_file(trained.networks["classifier"].state_dict(), tmp_path / "classifier.safetensors")

    found = mapper_from_release(preset, tmp_path / "unet.pt", tmp_path / "classifier.safetensors")

    assert (found.healthy, found.diseased) == ("none", ("tumour",))
    assert found.weights_sha256 == trained.weights_sha256
    with pytest.raises(UsageError, match="guided by a classifier, and none is given"):
        mapper_from_release(preset, tmp_path / "unet.pt")
    with pytest.raises(UsageError, match="for method 'diffusion', the preset's is 'vae'"):
        mapper_from_release(tiny_preset(method="vae"), tmp_path / "unet.pt")
    other = tiny_preset(unet={"multipliers": [1, 2]}, translate={"guidance": "none"})
    with pytest.raises(CheckpointError, match="missing input_blocks"):
        mapper_from_release(other, tmp_path / "unet.pt")
