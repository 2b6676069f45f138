import pytest

from medglean.anomaly.settings import AnomalyPreset
from medglean.capabilities import CAPABILITIES, capability, capability_of
from medglean.classify.settings import ClassifyPreset
from medglean.errors import PresetError, RunFolderError, UsageError
from medglean.runs.rundir import RunFolder


def run_of(path, task):
    with RunFolder.create(
        path, preset_toml="", command=[], manifest_hash="m", seed=0, split_hash="s", task=task
    ):
        return path


@pytest.mark.parametrize("name", CAPABILITIES)
def test_every_capability_has_its_three_verbs_and_a_plan(name):
    found = capability(name)

    assert {"fit", "apply", "evaluate"} <= set(dir(found.verbs))
    assert found.verbs.__name__ == f"medglean.{name}.task"


@pytest.mark.parametrize(
    ("name", "preset", "kind"),
    [("classify", "cxr-small", ClassifyPreset), ("anomaly", "brain-small", AnomalyPreset)],
)
def test_a_preset_is_read_as_that_of_its_capability(name, preset, kind):
    settings = capability(name).load_preset(preset, ["fit.seed=7"])

    assert isinstance(settings, kind)
    assert settings.fit.seed == 7


def test_a_preset_of_another_capability_is_refused():
    with pytest.raises(PresetError, match="anomaly"):
        capability("anomaly").load_preset("cxr-small")


def test_an_unknown_capability_is_refused_with_those_that_there_are():
    with pytest.raises(UsageError, match="'segment' cannot be trained; expected one of classify"):
        capability("segment")


@pytest.mark.parametrize("name", CAPABILITIES)
def test_a_run_knows_its_capability(tmp_path, name):
    assert capability_of(run_of(tmp_path / "run", name)).name == name


def test_what_is_no_training_run_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match=r"a run of 'audit', expected one of 'classify'"):
        capability_of(run_of(tmp_path / "run", "audit"))
    with pytest.raises(RunFolderError, match="not a run"):
        capability_of(tmp_path)
