import math

import pandas as pd
import pytest
import torch
from tests.classify.study.trees import TINY, tiny_architecture

from medglean.classify.prepare import choose
from medglean.classify.study.cells import (
    cells_of_study,
    check_pretrained,
    chosen_of,
    left_out,
    training_key,
    trainings_of,
)
from medglean.classify.study.settings import CxrStudyPreset
from medglean.data.manifest import Manifest
from medglean.errors import CheckpointError, PresetError
from medglean.nn import backbones
from medglean.runs.preset import load_preset


def divided(counts=(24, 18, 12)):
    labels = [f"class {place}" for place, count in enumerate(counts) for _ in range(count)]
    ids = [f"{number:03}" for number in range(len(labels))]
    frame = pd.DataFrame({"id": ids, "image": [f"{one}.png" for one in ids], "label": labels})
    return Manifest.from_frame(frame, ".")


def study(*overrides):
    ignore = "split.duplicates=ignore"
    return load_preset("cxr2022-radiography", CxrStudyPreset, overrides=[ignore, *overrides])


def planned(*overrides):
    preset = study(*overrides)
    chosen = choose(divided(), preset)
    return preset, chosen, cells_of_study(preset, chosen)


def test_the_tables_are_the_reports_and_what_is_the_same_is_trained_once():
    _, _, cells = planned()

    table = {}
    for cell in cells:
        table.setdefault(cell.theme, []).append(cell.label)
    assert table["networks"] == ["AlexNet", "VGG11", "ResNet50", "VGG11, pretrained"]
    assert table["learning-rate"] == ["0.1", "0.01", "0.0001"]
    assert table["batch-size"] == ["8", "16", "32", "64", "128"]
    assert table["optimizer"] == ["Adam", "SGD"]
    assert table["classes"] == ["2 classes", "3 classes"]
    assert [round(cell.at) for cell in cells if cell.theme == "images"] == [4, 10, 20, 39]  # of 39
    shared = [(one.theme, one.label) for one in cells if one.name == "alexnet"]
    assert shared == [
        ("networks", "AlexNet"),
        ("learning-rate", "0.0001"),
        ("batch-size", "32"),
        ("optimizer", "Adam"),
        ("classes", "3 classes"),
        ("images", "39 images"),
    ]
    names = [cell.name for cell in trainings_of(cells)]
    assert len(names) == len(set(names)) == len(cells) - 5
    assert names[:4] == ["alexnet", "vgg11", "resnet50", "vgg11-pretrained"]
    assert all(math.isnan(one.at) for one in cells if one.theme in ("networks", "optimizer"))


def test_each_cell_changes_one_thing():
    _, _, cells = planned("study.classes=[2]")
    by_name = {cell.name: cell for cell in cells}
    base = by_name["alexnet"].preset

    assert by_name["alexnet-learning-rate-0.01"].preset.fit.optimizer.learning_rate == 0.01
    assert by_name["alexnet-batch-size-128"].preset.fit.batch_size == 128
    sgd = by_name["alexnet-optimizer-sgd"].preset.fit.optimizer
    assert (sgd.name, sgd.learning_rate, sgd.momentum, sgd.weight_decay) == ("sgd", 1e-4, 0.9, 0.5)
    assert by_name["alexnet-classes-2-classes"].preset.labels.classes == ("class 0", "class 1")
    assert by_name["vgg11-pretrained"].preset.model.weights == "imagenet"
    assert by_name["alexnet-images-0.25"].images == 0.25
    for cell in cells:
        assert (cell.preset.task, cell.preset.split, cell.preset.seeds) == (
            "classify", base.split, base.seeds,
        )  # fmt: skip
        assert cell.preset.fit.seed == base.fit.seed


def test_the_split_is_the_studys_in_every_cell():
    preset, chosen, cells = planned("split.anew=true")
    parts = dict(zip(chosen.manifest.ids, chosen.manifest.frame["split"], strict=True))

    for cell in trainings_of(cells):
        own = chosen_of(cell, chosen, group=preset.split.group, seed=preset.fit.seed)
        frame = own.manifest.frame
        assert all(
            parts[one] == part for one, part in zip(frame["id"], frame["split"], strict=True)
        )
        kept = set(frame["label"])
        tested = [one for one, part in parts.items() if part == "test"]
        if cell.theme == "classes":
            assert kept == {"class 0", "class 1"}
        else:
            assert set(frame.loc[frame["split"] == "test", "id"]) == set(tested)


def test_a_split_by_view_may_cross_patients_in_every_cell():
    frame = divided().frame.assign(view=["PA", "AP Supine"] * 27)
    frame["patient"] = [f"p{number // 2}" for number in range(54)]  # each has both
    frame = frame.rename(columns={"label": "labels"})
    preset = load_preset("cxr2022-covid-views", CxrStudyPreset)
    chosen = choose(Manifest.from_frame(frame, "."), preset)
    by_id = dict(zip(frame["id"], frame["view"], strict=True))

    assert any(one.kind == "groups-across-parts" for one in chosen.problems)
    for cell in trainings_of(cells_of_study(preset, chosen)):
        own = chosen_of(cell, chosen, group="patient", seed=0).manifest.frame
        for one, part in zip(own["id"], own["split"], strict=True):
            assert (part == "test") == (by_id[one] == "AP Supine")


def test_where_and_how_often_a_cell_runs_is_no_part_of_its_key():
    _, _, cells = planned()
    moved = planned("fit.accelerator=cpu", "fit.workers=2", "study.jobs=7", "predict.batch_size=1")
    longer = planned("fit.epochs=51")

    keys = [training_key(cell) for cell in cells]
    assert keys == [training_key(cell) for cell in moved[2]]
    assert not set(keys) & {training_key(cell) for cell in longer[2]}


def test_too_few_classes_are_told():
    preset, chosen, _ = planned()

    (problem,) = left_out(preset, chosen)

    assert "the set has 3 classes: the rows of 4 classes are left out" in problem.found
    assert not problem.fatal
    assert left_out(study("study.classes=[2]"), chosen) == []


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ('study.optimizers={"x" = ["model.dropout=0.1"]}', "changes more than the table fit"),
        (
            'study.optimizers={"a b" = ["fit.epochs=2"], "a/b" = ["fit.epochs=3"]}',
            "two different trainings would be called 'alexnet-optimizer-a-b'",
        ),
    ],
)
def test_rows_that_do_not_go_together_are_refused(setting, told):
    with pytest.raises(PresetError, match=told):
        planned(setting)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ('study.networks=["lenet"]', "networks: 'lenet' is no network; expected one of alexnet"),
        ("study.shares=[0.5, 1.5]", "shares: 1.5; expected numbers above 0 and at most 1"),
        ("study.rates=[0.1, 0.1]", "rates names one twice"),
        ("study.classes=[1]", "classes: 1; expected numbers above 1"),
    ],
)
def test_settings_that_make_no_table_are_refused(setting, told):
    with pytest.raises(PresetError, match=told):
        study(setting)


def test_weights_that_cannot_be_had_are_told_before_anything_is_trained(tmp_path, monkeypatch):
    from urllib.error import URLError

    monkeypatch.setitem(backbones.ARCHITECTURES, TINY, tiny_architecture())

    class Offline:
        def get_state_dict(self, **_):
            raise URLError("no network")

    enum = type("Weights", (), {"DEFAULT": Offline()})
    monkeypatch.setattr(backbones.torchvision.models, "get_model_weights", lambda name: enum)
    with pytest.raises(CheckpointError, match=r"VGG11, pretrained.*study\.pretrained=none"):
        check_pretrained(study(), 3)

    file = tmp_path / "tiny.pth"
    torch.save(tiny_architecture().make().state_dict(), file)
    own = [f"study.pretrained_network={TINY}", f"study.pretrained={file}"]
    check_pretrained(study(*own), 3)
    check_pretrained(study("study.pretrained=none"), 3)
    with pytest.raises(CheckpointError, match="no such weights file"):
        check_pretrained(study(own[0], f"study.pretrained={tmp_path}/none.pth"), 3)
