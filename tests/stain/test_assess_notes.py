import numpy as np

from medglean.measure.intervals import Interval
from medglean.stain import assess as known
from medglean.stain import assess_notes as notes


def value(number):
    return Interval(number, number, number, 0.95, 10, 5, 100)


def test_few_pairs_and_patches_without_a_slide_are_told():
    told = " ".join(notes.on_pairs(["a", "b"], grouped_by="id"))

    assert "Only 2 pairs" in told
    assert "over images" in told
    few = " ".join(notes.on_pairs(["a"] * 20 + ["b"] * 20, grouped_by="patient"))
    assert "only 2 patients or slides" in few
    assert notes.on_pairs([f"p{number}" for number in range(40)], grouped_by="patient") == []
    assert "over images" in " ".join(notes.on_pairs(["a"] * 40, grouped_by="patient+id"))


def test_a_flat_image_with_a_higher_psnr_is_told():
    worse = {known.GAIN: value(-1.5), known.FLAT_PSNR: value(23.5)}
    better = {known.GAIN: value(0.5), known.FLAT_PSNR: value(23.5)}

    (told,) = notes.on_flat(worse)

    assert "23.5 dB, 1.5 dB above" in told
    assert notes.on_flat(better) == []
    assert notes.on_flat({known.GAIN: value(np.nan), known.FLAT_PSNR: value(23.5)}) == []


def test_labels_are_of_slides():
    assert "whole slide" in notes.on_levels(np.array([-1, 2]))[0]
    assert notes.on_levels(np.array([-1, -1])) == []


def test_a_judge_that_is_often_wrong_is_told():
    assert "50 %" in notes.on_judge({known.JUDGE: value(0.5)}, judge=True)[0]
    assert notes.on_judge({known.JUDGE: value(0.9)}, judge=True) == []
    assert "No judge" in notes.on_judge({}, judge=False)[0]


def test_pairs_that_do_not_lie_on_one_another_are_counted():
    assert "3 of 8 pairs" in notes.on_registration(3, 8)[0]
    assert notes.on_registration(0, 8) == []


def test_measures_without_weights_are_told_together():
    told = notes.on_perceptual({"LPIPS": "no folder.", "FID": "no folder.", "IS": "no package."})

    assert told == ["LPIPS, FID not measured: no folder.", "IS not measured: no package."]
