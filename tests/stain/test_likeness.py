"""LPIPS, FID and inception score are taken where weights are, and told to be missing where not."""

import numpy as np
import pytest
import torch
from tests.stain.standins import known_stainer
from tests.stain.tiny import tiny_preset
from torch import nn

from medglean.nn.perceptual import FID, INCEPTION_SCORE, LPIPS, InceptionFeatures
from medglean.stain import assess as known
from medglean.stain import likeness as module
from medglean.stain import measured
from medglean.stain.likeness import Features, Likeness, of_all, open_likeness, together, why_not


class Brightness(nn.Module):
    """As features: the mean of each channel; as distance: how far the means are apart."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(3, 1, 1))

    def forward(self, images, other=None):
        mean = images.float().mean(dim=(2, 3))
        if other is not None:
            return (mean - other.float().mean(dim=(2, 3))).abs().mean(dim=1)
        return InceptionFeatures(mean, mean)


def test_without_a_folder_every_measure_says_why():
    reasons = why_not(tiny_preset())

    assert set(reasons) == {LPIPS, FID, INCEPTION_SCORE}
    assert "measure.perceptual_weights" in reasons[LPIPS]
    opened = open_likeness(tiny_preset(), torch.device("cpu"))
    assert opened.of_pair(*np.zeros((2, 8, 8, 3), np.uint8)) == {}
    assert opened.features(*np.zeros((2, 8, 8, 3), np.uint8)) is None
    assert of_all(None) == {}


def test_a_folder_without_the_files_names_them(tmp_path):
    reasons = why_not(tiny_preset(measure={"perceptual_weights": str(tmp_path)}))

    assert "alexnet" in reasons[LPIPS]
    assert reasons[LPIPS].endswith(".")


def test_a_pair_is_compared_in_the_range_that_the_network_takes():
    found = Likeness(lpips=Brightness())
    black, white = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)

    assert found.of_pair(black, white) == {"lpips": 2.0}  # from -1 to 1
    assert found.of_pair(white, white) == {"lpips": 0.0}


def test_fid_of_two_sets_whose_means_differ():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(50, 3))
    features = Features(real + 2.0, real, np.zeros((50, 4)))

    found = of_all(features)

    assert found[FID][0] == pytest.approx(3 * 2.0**2, abs=1e-6)
    assert found[INCEPTION_SCORE][0] == pytest.approx(1.0)  # no image is told from another
    assert "of 50 images" in found[FID][1]
    assert "far too large" in found[FID][1]


def test_features_of_folds_count_together():
    one = Features(np.zeros((2, 3)), np.ones((2, 3)), np.zeros((2, 4)))

    both = together([one, one])

    assert both.generated.shape == (4, 3)
    assert together([]) is None


def test_measures_with_weights_stand_in_the_report(start, monkeypatch):
    full = Likeness(Brightness(), Brightness(), {})
    monkeypatch.setattr(measured, "open_likeness", lambda preset, device: full)
    monkeypatch.setattr(measured, "why_not", lambda preset: {})
    monkeypatch.setattr(measured, "check_pairs", lambda pairs, rows: [])
    rows = start.pairs.positions("test")

    found = measured.measure(known_stainer(start, judge=True), start.pairs, rows)

    assert found.assessment.metrics[known.LPIPS].value == 0.0
    assert found.assessment.metrics[known.FID].value == pytest.approx(0.0, abs=1e-6)
    assert known.INCEPTION in found.assessment.metrics
    assert not any("not measured" in note for note in found.notes)
    assert module.MANY == 2048
