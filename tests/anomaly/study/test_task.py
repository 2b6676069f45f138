import json

import numpy as np
import pytest
from tests.anomaly.study.conftest import small_study

from medglean.anomaly.settings import AnomalyPreset
from medglean.anomaly.study import rows as rows_module
from medglean.anomaly.study.rows import network_key, rows_of_study
from medglean.anomaly.study.task import wolleb2022
from medglean.data.manifest import Manifest
from medglean.errors import DataError, PresetError
from medglean.runs.preset import changed


@pytest.fixture(scope="module")
def done(brain_table, tmp_path_factory):
    preset = small_study()
    out = tmp_path_factory.mktemp("done") / "study"
    report = wolleb2022(
        Manifest.read(brain_table), preset, out=out, command=["medglean", "study"], cache=None
    )
    return preset, out, report


def test_every_method_stands_in_the_table_with_intervals(done):
    preset, out, report = done
    table = next(one for one in report.tables if one.title == "Methods")

    assert [row[0] for row in table.rows] == list(preset.study.methods)
    table = next(one for one in report.tables if one.title == "Whole images, and cost")
    by_name = {row[0]: row for row in table.rows}
    evaluations = table.columns.index("Network evaluations per image")
    assert by_name["Contrast"][evaluations] == 2 * 2 * 2  # levels, draws, classes
    assert by_name["Threshold"][evaluations] == 0
    assert by_name["VAE"][evaluations] == 1
    names = {record["name"] for record in json.loads((out / "results.json").read_text())}
    assert "Contrast: pixel average precision" in names
    assert "Threshold: CPU time per image" in names


def test_networks_and_counterparts_are_shared(done):
    _, out, _ = done

    assert len(list((out / "networks").iterdir())) == 2  # one U-Net for four rows, one VAE
    shared = list((out / "cells").glob("counterparts-*.npz"))
    assert len(shared) == 2 + 2 * 2  # two translating rows, the VAE's, and each L and s
    first, second = (
        np.load(next((out / "cells").glob(f"{name}-*.npz"))) for name in
        ("translation", "translation-both-signs")
    )  # fmt: skip
    np.testing.assert_array_equal(first["rebuilt"], second["rebuilt"])
    assert not np.array_equal(first["maps"], second["maps"])


def test_the_figures_of_the_paper_are_drawn(done):
    _, out, report = done
    titles = [figure.title for figure in report.figures]

    assert "The same images by each method" in titles  # figures 2, 3
    assert "What guidance and noise level do to translation" in titles  # figure 4
    assert sum(title.startswith("Guidance s at L = 50") for title in titles) == 2  # 5, 7
    assert sum(title.startswith("Noise level L at s = 2") for title in titles) == 2  # 6, 7
    assert (out / "report.html").is_file()


def test_a_study_that_was_stopped_goes_on(done, brain_table, tmp_path, monkeypatch):
    preset, _, report = done
    made = []
    whole = rows_module.map_images

    def stops(*args, **more):
        made.append(1)
        if len(made) == 3:
            raise KeyboardInterrupt
        return whole(*args, **more)

    monkeypatch.setattr(rows_module, "map_images", stops)
    run = {"out": tmp_path / "study", "command": [], "cache": tmp_path / "cache"}
    with pytest.raises(KeyboardInterrupt):
        wolleb2022(Manifest.read(brain_table), preset, **run)
    monkeypatch.setattr(rows_module, "map_images", whole)

    again = wolleb2022(Manifest.read(brain_table), preset, resume=True, **run)

    for first, second in zip(report.metrics, again.metrics, strict=True):
        assert (first.name, first.value) == (second.name, pytest.approx(second.value, abs=1e-6))


def test_a_row_shares_a_network_only_if_it_is_trained_alike(study_preset):
    rows = {row.name: row.preset for row in rows_of_study(study_preset)}

    same = network_key("unet", rows["Translation"])
    assert network_key("unet", rows["Contrast"]) == same
    longer = changed(study_preset, ["fit.max_steps=5"])
    assert network_key("unet", longer) != same


@pytest.mark.parametrize(
    ("methods", "told"),
    [
        ({"A": ("images.size_px=[32, 32]",)}, "'A': changes images"),
        ({"A b": (), "A-B": ()}, "two names become 'a-b'"),
        ({"A": ("map.sign=signed",)}, "map.sign"),
    ],
)
def test_rows_that_make_no_study_are_refused(study_preset, methods, told):
    study = study_preset.study.model_copy(update={"methods": methods})

    with pytest.raises(PresetError, match=told):
        rows_of_study(study_preset.model_copy(update={"study": study}))


def test_without_masks_there_is_nothing_to_compare(brain_table, study_preset, tmp_path):
    manifest = Manifest.read(brain_table).with_columns(mask=None)
    few = study_preset.study.model_copy(update={"methods": {"Threshold": ("method=threshold",)}})

    with pytest.raises(DataError, match="no test image has a mask"):
        wolleb2022(
            manifest,
            study_preset.model_copy(update={"study": few}),
            out=tmp_path / "study",
            command=[],
            cache=tmp_path / "cache",
        )


def test_the_default_study_has_every_method_of_the_paper():
    names = [row.name for row in rows_of_study(AnomalyPreset(name="paper"))]

    assert {"Diffusion", "DDPM sampling", "VAE", "Fixed-Point GAN"} < set(names)
