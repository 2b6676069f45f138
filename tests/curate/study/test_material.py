import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.curate.study.conftest import small_preset

from medglean.curate.study.material import REST, open_material, usable_rows
from medglean.curate.study.settings import EnrichStudyPreset, LabelSettings
from medglean.data.manifest import Manifest
from medglean.errors import DataError
from medglean.runs.preset import load_preset


def segmentation(*overrides):
    chosen = ["learner.images.size_px=[16, 16]", "embedding.images.size_px=[16, 16]", *overrides]
    return load_preset("enrich-segment", EnrichStudyPreset, overrides=chosen)


def opened(manifest, preset, folder):
    rows, classes, _ = usable_rows(manifest, preset)
    return open_material(rows, preset, classes, cache=None, folder=folder, workers=1)


def test_one_class_against_the_rest(clips, tmp_path):
    manifest = Manifest.read(clips)
    material, rows, problems = opened(manifest, small_preset(), tmp_path)

    assert material.classes == (REST, "b-lines")
    assert problems == []
    truth = (rows.frame["label"] == "b-lines").to_numpy()
    assert material.targets.tolist() == truth.astype(int).tolist()
    assert material.images.stored.shape == (len(manifest), 1, 32, 32)
    with pytest.raises(DataError, match="'c-lines' in column 'label'; found a-lines, b-lines"):
        usable_rows(manifest, small_preset("labels.positive=c-lines"))


def test_rows_of_other_classes_and_without_a_label_are_left_out_and_told(clips):
    manifest = Manifest.read(clips)
    labels = manifest.frame["label"].astype(object).to_numpy(copy=True)
    labels[0], labels[1] = None, "other"
    changed = manifest.with_columns(label=pd.Series(labels))
    labels = LabelSettings(classes=("b-lines", "a-lines"))
    preset = small_preset().model_copy(update={"labels": labels})
    rows, classes, problems = usable_rows(changed, preset)

    assert len(rows) == len(manifest) - 2
    assert classes == ("b-lines", "a-lines")
    assert f"2 of {len(manifest)} images have no label that is asked for" in str(problems[0])


def test_a_column_that_is_missing_or_has_one_class_is_refused(clips):
    manifest = Manifest.read(clips)
    with pytest.raises(DataError, match="there is no column 'diagnosis' to learn from"):
        usable_rows(manifest, small_preset("labels.column=diagnosis"))
    with pytest.raises(DataError, match="column 'format' has 1 class"):
        usable_rows(manifest, small_preset("labels.column=format", "labels.positive=PNG"))
    with pytest.raises(DataError, match="needs a column 'mask' with at least one mask"):
        usable_rows(manifest, segmentation())


def test_masks_lie_on_their_images_and_a_missing_one_is_empty(tmp_path):
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 4:12] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    for name in ("a", "b"):
        Image.fromarray(np.full((32, 32), 9, np.uint8)).save(tmp_path / f"{name}.png")
    table = pd.DataFrame(
        {"id": ["a", "b"], "image": ["a.png", "b.png"], "mask": ["mask.png", None]}
    )
    material, _, _ = opened(Manifest.from_frame(table, tmp_path), segmentation(), tmp_path / "work")

    assert material.structures == ("mask",)
    both = material.masks_of(np.array([0, 1]))
    assert both.shape == (2, 1, 16, 16)
    assert np.array_equal(both[0, 0], mask[::2, ::2] > 0)
    assert not both[1].any()
