import importlib

import pytest

from medglean.errors import UsageError
from medglean.options import ReportSet, Study
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
    with pytest.raises(
        UsageError, match=r"no study 'wolleb'; expected one of floor, cxr2022, enrich"
    ):
        run_study("wolleb", tmp_path / "none.csv", out=tmp_path / "out")


def test_the_sets_of_a_study_are_those_of_the_command_line_and_of_its_layouts():
    from medglean.classify.study.sets import LAYOUTS
    from medglean.classify.study.settings import CxrStudyPreset

    study = STUDIES["cxr2022"]
    assert [one.value for one in ReportSet] == list(study.datasets) == list(LAYOUTS)
    for preset in study.datasets.values():
        assert load_preset(preset, CxrStudyPreset).task == "classify-study"


@pytest.mark.parametrize(
    ("name", "dataset", "told"),
    [
        ("cxr2022", None, "no --dataset; expected --dataset with one of radiography, pneumonia"),
        ("cxr2022", "covid", "--dataset covid; expected --dataset with one of radiography"),
        ("floor", "radiography", "the study 'floor' takes any images. Leave --dataset out"),
    ],
)
def test_a_set_is_named_where_it_is_asked_for_and_nowhere_else(tmp_path, name, dataset, told):
    with pytest.raises(UsageError, match=told):
        run_study(name, tmp_path / "none.csv", out=tmp_path / "out", dataset=dataset)

    assert not (tmp_path / "out").exists()
