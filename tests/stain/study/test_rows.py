import numpy as np
import pytest
from tests.stain.study.conftest import small_study

from medglean.errors import PresetError
from medglean.stain.settings import StainPreset
from medglean.stain.study.folds import Fold
from medglean.stain.study.rows import cell_key, network_key, rows_of_study


def rows(**study):
    return {row.name: row for row in rows_of_study(small_study(**study))}


def test_the_mean_colour_is_always_a_row():
    assert list(rows())[-1] == "Mean colour"
    assert rows()["Mean colour"].preset.method == "mean-colour"
    own = rows(methods={"GAN": (), "Flat": ("method=mean-colour",)})
    assert list(own) == ["GAN", "Flat"]


def test_the_judge_looks_at_every_row():
    found = rows()

    assert found["GAN"].networks == ("level", "judge", "generator")
    assert found["Mean colour"].networks == ("judge",)
    silent = small_study(methods={"GAN": ("generator.level_features=false",)})
    silent = silent.model_copy(
        update={"measure": silent.measure.model_copy(update={"judge": False})}
    )
    assert [row.networks for row in rows_of_study(silent)] == [("generator",), ()]


def test_rows_share_what_they_train_alike():
    found = {name: row.preset for name, row in rows().items()}

    level = {network_key("level", preset) for preset in found.values()}
    assert len(level) <= 2  # H&E is the same for all; white settings may tell them apart
    assert network_key("generator", found["White U-Net"]) == network_key(
        "generator", found["White U-Net, glass white"]
    )  # they differ only in what is done afterwards
    assert network_key("generator", found["GAN"]) != network_key("generator", found["U-Net"])
    assert network_key("judge", found["GAN"]) == network_key("judge", found["Mean colour"])


def test_a_cell_is_of_a_row_of_its_pairs_and_of_what_was_learnt_from(start):
    found = rows()
    fold = Fold("pair-0", np.array([1, 2]), np.array([0]))
    other = Fold("pair-0", np.array([1]), np.array([0]))

    keys = {cell_key(row, fold, start.pairs) for row in found.values()}

    assert len(keys) == len(found)
    assert cell_key(found["GAN"], other, start.pairs) not in keys
    again = rows(shown=1)["GAN"]
    assert cell_key(again, fold, start.pairs) in keys


@pytest.mark.parametrize(
    ("methods", "told"),
    [
        ({"A": ("images.size_px=[32, 32]",)}, "'A': changes images"),
        ({"A": ("measure.positive_od=0.3",)}, "'A': changes measure"),
        ({"A": ("white.percentile=95",)}, "'A': changes white.percentile"),
        ({"A": ('level.names=["low", "high"]',)}, "'A': changes level.names"),
        ({"A b": (), "A-B": ()}, "two names become 'a-b'"),
        ({"A": ("losses.yellow=1",)}, "losses.yellow"),
    ],
)
def test_rows_that_make_no_study_are_refused(methods, told):
    with pytest.raises(PresetError, match=told):
        rows_of_study(small_study(methods=methods))


def test_the_default_study_has_every_baseline_of_the_report():
    names = [row.name for row in rows_of_study(StainPreset(name="report"))]

    assert names == ["FAVOR+ GAN", "pix2pix", "Pyramid pix2pix", "L1 U-Net", "Mean colour"]
