import importlib

import pytest

from medglean.errors import UsageError
from medglean.options import Study
from medglean.runs.preset import load_preset
from medglean.studies import STUDIES, run_study


def test_the_command_line_knows_every_study():
    assert [study.value for study in Study] == list(STUDIES)


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_has_a_function_and_a_preset_with_a_seed(name):
    study = STUDIES[name]
    module, kind = study.settings.split(":")
    model = getattr(importlib.import_module(module), kind)

    preset = load_preset(study.preset, model, overrides=[f"{study.seed}=7"])

    assert callable(getattr(importlib.import_module(study.module), name))
    value = preset
    for part in study.seed.split("."):
        value = getattr(value, part)
    assert value == 7


def test_an_unknown_study_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no study 'wolleb'; expected one of floor, enrich"):
        run_study("wolleb", tmp_path / "none.csv", out=tmp_path / "out")
