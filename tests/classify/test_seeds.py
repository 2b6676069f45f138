import json
import shutil

import numpy as np
import pandas as pd
import pytest
from tests.classify.conftest import small_preset

from medglean.classify import task
from medglean.classify.model import load_classifier
from medglean.data.manifest import Manifest
from medglean.measure.curves import auroc
from medglean.nn.ensemble import MeanOfLogits, members_of


@pytest.fixture(scope="module")
def three(phantoms, tmp_path_factory):
    out = tmp_path_factory.mktemp("seeds") / "run"
    preset = small_preset("seeds=3", "fit.epochs=1", "predict.flip=false", "measure.saliency=0")
    task.fit(Manifest.read(phantoms / "data.parquet"), preset, out=out, cache=phantoms / "cache")
    return out


def test_each_seed_is_a_training_of_its_own_and_all_are_kept(three):
    network = load_classifier(three).network

    assert isinstance(network, MeanOfLogits)
    first, second, third = (member.conv1.weight for member in members_of(network))
    assert not np.allclose(first.detach(), second.detach())
    assert not np.allclose(second.detach(), third.detach())
    assert [p.name for p in sorted((three / "seeds").iterdir())] == ["0", "1", "2"]
    assert all((three / "seeds" / k / "log.csv").is_file() for k in "012")


def test_the_first_seed_is_the_training_that_one_seed_would_be(three, phantoms, tmp_path):
    preset = small_preset("fit.epochs=1", "predict.flip=false", "measure.saliency=0")
    task.fit(
        Manifest.read(phantoms / "data.parquet"),
        preset,
        out=tmp_path / "one",
        cache=phantoms / "cache",
    )

    alone = load_classifier(tmp_path / "one").network.state_dict()
    first = members_of(load_classifier(three).network)[0].state_dict()

    assert all(np.array_equal(alone[key], first[key]) for key in alone)


def test_the_report_says_mean_and_standard_deviation_of_the_seeds(three):
    stored = json.loads((three / "report.json").read_text())
    table = next(one for one in stored["tables"] if "different seeds" in one["title"])
    row = next(row for row in table["rows"] if row[0] == "AUROC")

    areas = [float(value) for value in row[1:4]]
    mean, spread = (float(part) for part in row[4].split(" ± "))

    assert mean == pytest.approx(np.mean(areas), abs=2e-3)
    assert spread == pytest.approx(np.std(areas, ddof=1), abs=2e-3)
    test = pd.read_parquet(three / "results.parquet").query("split == 'test'")
    together = auroc(
        (test["label"] == "opacity").to_numpy(), test["probability.opacity"].to_numpy()
    )
    assert float(row[5]) == pytest.approx(together, abs=1e-3)


def test_training_goes_on_with_the_seed_that_was_not_finished(three, phantoms, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(three, again)
    for name in ("done", "network.safetensors", "model.json", "results.parquet"):
        (again / name).unlink()
    shutil.rmtree(again / "seeds" / "2")
    preset = small_preset("seeds=3", "fit.epochs=1", "predict.flip=false", "measure.saliency=0")

    task.fit(
        Manifest.read(phantoms / "data.parquet"),
        preset,
        out=again,
        cache=phantoms / "cache",
        resume=True,
    )

    before = (three / "network.safetensors").read_bytes()
    assert (again / "network.safetensors").read_bytes() == before
