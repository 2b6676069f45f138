"""What a dry run says, of each kind of method."""

import pandas as pd
import pytest
from tests.anomaly.tiny import tiny_preset

from medglean.anomaly.plan import plan
from medglean.data.manifest import Manifest
from medglean.errors import DataError


def said(brains, **changes):
    return plan(Manifest.read(brains), tiny_preset(**changes))


def test_a_plan_counts_the_images_of_each_part_and_class(brains):
    frame = Manifest.read(brains).frame
    diseased = int((frame["label"] != "healthy").sum())

    lines = said(brains)

    assert lines[2] == "healthy: healthy; diseased: lesion"
    counts = lines[3].removeprefix("images: ").split("; ")[0].split(", ")
    numbers = [[int(word) for word in count.split() if word.isdigit()] for count in counts]
    assert [sum(column) for column in zip(*numbers, strict=True)] == [48 - diseased, diseased]
    assert lines[3].endswith("kept together by patient")
    assert lines[4] == "masks: 48, for measuring alone"


@pytest.mark.parametrize(
    ("changes", "trained", "mapped"),
    [
        (
            {},
            "diffusion; 4 steps of 8 images, and the classifier 4 steps of 8 images",
            "absolute difference from the translated image, L = 50 in 5 + 5 steps, "
            "guidance: classifier, s = 1",
        ),
        (
            {"translate": {"steps": None, "guidance": "none"}, "map": {"noise_levels": [20, 40]}},
            "diffusion; 4 steps of 8 images",
            "absolute difference from the translated image, L = 20, 40 over every level and back, "
            "guidance: none",
        ),
        (
            {
                "translate": {
                    "sampler": "contrast",
                    "contrast_levels": [10, 30],
                    "contrast_draws": 3,
                },
                "map": {"flip": True},
            },
            "diffusion, contrast of the classes; 4 steps of 8 images",
            "what the network expects of a diseased and not of a healthy image, at noise levels "
            "10, 30 of 100, 3 draw(s) of noise each: 24 evaluations an image",
        ),
        (
            {"translate": {"sampler": "ddpm", "guidance": "classifier-free", "scale": 2.0}},
            "diffusion; 4 steps of 8 images",
            "absolute difference from the translated image, L = 50 in 5 stochastic steps, "
            "guidance: classifier-free, s = 2",
        ),
        (
            {"translate": {"sampler": "released", "guidance": "none"}},
            "diffusion; 4 steps of 8 images, and the classifier 4 steps of 8 images",
            "absolute difference from the translated image, L = 50 as the authors' code does",
        ),
        (
            {"method": "vae", "map": {"difference": "positive"}, "fit": {"max_steps": None}},
            "variational autoencoder; 99 epochs of 8 images",
            "positive difference from the healthy counterpart",
        ),
        (
            {"method": "fpgan", "combine": "threshold"},
            "Fixed-Point GAN, averaged with the threshold; 4 steps of 8 images",
            "absolute difference from the healthy counterpart",
        ),
        (
            {"method": "threshold"},
            "threshold without learning: nothing to train",
            "equalised brightness inside the head, median over 9 px",
        ),
    ],
)
def test_a_plan_says_what_is_trained_and_how_maps_are_made(brains, changes, trained, mapped):
    assert said(brains, **changes)[:2] == [f"tiny: {trained}", f"maps: {mapped}"]


def test_a_plan_refuses_what_training_would_refuse(brains):
    manifest = Manifest.read(brains)
    sick = (manifest.frame["label"] != "healthy").to_numpy()
    stands = manifest.with_columns(
        split=pd.Series(["test" if one else "train" for one in sick], dtype="str"),
        group=None, patient=None,
    )  # fmt: skip

    with pytest.raises(DataError, match=r"training part has no diseased image, of \d+; expected"):
        plan(stands, tiny_preset())
    whole = tiny_preset(split={"train": 1.0, "val": 0.0, "test": 0.0})
    with pytest.raises(DataError, match=r"no image is kept aside.*split\.test above 0"):
        plan(manifest, whole)


def test_a_manifest_without_masks_has_none_to_count(brains):
    bare = Manifest.read(brains).with_columns(mask=None)

    assert "masks: 0, for measuring alone" in plan(bare, tiny_preset())
