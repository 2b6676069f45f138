import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
from tests.stain.made_pairs import picture, preset, save, write_pairs

from medglean.data.manifest import Manifest
from medglean.errors import DataError, SplitError
from medglean.stain.pairs import (
    NOT_KNOWN,
    choose,
    image_of,
    level_settings,
    levels_of,
    open_pairs,
    target_of,
    white_of,
)
from medglean.stain.white import slides_of

WITHOUT_LEVELS = {
    "generator": {"halvings": 2, "attention": {"kind": "none"}, "level_features": False},
    "discriminator": {"level_head": False},
    "measure": {"judge": False},
}


def opened(manifest, settings=None, **options):
    return open_pairs(manifest, settings or preset(), cache=None, workers=0, **options)


# --- which rows, and their levels ----------------------------------------------------------------


def test_levels_are_places_in_the_list_of_names_and_rows_are_divided(tmp_path):
    chosen = choose(write_pairs(tmp_path, 16), preset())

    assert chosen.names == ("0", "1+", "2+", "3+")
    np.testing.assert_array_equal(chosen.levels, [0, 1, 2, 3] * 4)
    assert chosen.manifest.frame["split"].value_counts().to_dict() == {
        "train": 8, "val": 4, "test": 4,
    }  # fmt: skip
    # stratified: every level in every part
    assert (chosen.manifest.frame.groupby(["split", "label"]).size() > 0).sum() == 12
    assert chosen.problems == ()


def test_a_split_that_stands_is_kept_and_validation_comes_out_of_its_training_part(tmp_path):
    rows = write_pairs(tmp_path, 8, split=["train"] * 6 + ["test"] * 2)

    parts = choose(rows, preset()).manifest.frame["split"].tolist()

    assert parts[6:] == ["test", "test"]
    assert sorted(parts[:6]) == ["train"] * 4 + ["val"] * 2


def test_pairs_of_one_slide_stay_together(tmp_path):
    rows = write_pairs(tmp_path, 16, group=[f"s{number // 2}" for number in range(16)])

    frame = choose(rows, preset()).manifest.frame

    assert (frame.groupby("group")["split"].nunique() == 1).all()


def test_a_slide_that_stands_on_both_sides_is_refused(tmp_path):
    rows = write_pairs(tmp_path, 4, group=["a"] * 4, split=["train", "train", "val", "test"])

    with pytest.raises(SplitError, match="group 'a' is in test and train and val"):
        choose(rows, preset())


def test_rows_that_are_no_pair_are_left_out_and_told_by_name(tmp_path):
    rows = write_pairs(
        tmp_path,
        8,
        target=[None, "he/1.png", "ihc/3.png", *(f"ihc/{number}.png" for number in range(3, 8))],
    )

    chosen = choose(rows, preset())

    assert chosen.manifest.ids == ["i2", "i4", "i5", "i6", "i7"]
    np.testing.assert_array_equal(chosen.levels, [2, 0, 1, 2, 3])
    told = {problem.kind: problem for problem in chosen.problems}
    assert str(told["unpaired"]).startswith("he/0.png, row 2, column 'target': no target")
    assert told["same-file"].file == "he/1.png"
    assert "stands already in row 4" in told["duplicate-target"].found
    assert not any(problem.fatal for problem in chosen.problems)


@pytest.mark.parametrize("target", ["he/0.png", "./he/0.png", "ihc/../he/0.png"])
def test_a_target_that_is_the_image_is_refused_however_it_is_written(tmp_path, target):
    rows = write_pairs(tmp_path, 1, target=[target])

    with pytest.raises(DataError, match=r"(?s)no row is a pair.*he/0\.png.*the image itself"):
        choose(rows, preset())


def test_another_page_of_one_file_is_another_image(tmp_path):
    rows = write_pairs(tmp_path, 4)
    pages = rows.with_columns(
        image=[f"{number}.tif#page=0" for number in range(4)],
        target=[f"{number}.tif#page=1" for number in range(4)],
    )

    assert len(choose(pages, preset()).manifest) == 4


def test_a_manifest_without_targets_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"no column 'target'.*sub-folders are HE and IHC"):
        choose(write_pairs(tmp_path, 4, target=None), preset())


def test_one_image_per_channel_is_refused(tmp_path):
    table = pd.DataFrame({"id": ["a"], "image.t1": ["a.png"], "target": ["b.png"]})

    with pytest.raises(DataError, match="one colour image in the column 'image'"):
        choose(Manifest.from_frame(table, tmp_path), preset())


def test_a_label_that_is_no_level_is_refused_with_a_list(tmp_path):
    rows = write_pairs(tmp_path, 8, label=["0", "1+", "2", "3", "2", None, "1+", "0"])

    with pytest.raises(DataError) as told:
        choose(rows, preset())

    assert "3 rows have a label that is no level: '2' (2), '3' (1)" in str(told.value)
    assert "the first at id 'i2'" in str(told.value)
    assert "The levels are '0', '1+', '2+', '3+'" in str(told.value)
    levels = levels_of(rows, preset(), strict=False)
    np.testing.assert_array_equal(levels, [0, 1, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, -1, 1, 0])


@pytest.mark.parametrize("label", [None, [None] * 8])
def test_without_levels_the_settings_that_need_them_are_named(tmp_path, label):
    rows = write_pairs(tmp_path, 8, label=label)

    with pytest.raises(
        DataError,
        match=r"learns from levels\. Add them \(0, 1\+, 2\+, 3\+\), or set "
        r"generator\.level_features=false discriminator\.level_head=false measure\.judge=false",
    ):
        choose(rows, preset())

    chosen = choose(rows, preset(**WITHOUT_LEVELS))
    np.testing.assert_array_equal(chosen.levels, [NOT_KNOWN] * 8)
    assert chosen.problems == ()


def test_levels_in_the_test_part_alone_teach_nothing(tmp_path):
    parts = ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    rows = write_pairs(tmp_path, 8, label=[None] * 6 + ["0", "1+"], split=parts)

    with pytest.raises(DataError, match="the training part has no level"):
        choose(rows, preset())


def test_some_without_a_level_are_kept_and_counted(tmp_path):
    rows = write_pairs(tmp_path, 8, label=["0", "1+", "2+", "3+"] * 1 + [None] * 4)

    chosen = choose(rows, preset())

    assert (chosen.levels == NOT_KNOWN).sum() == 4
    [told] = [problem for problem in chosen.problems if problem.kind == "unlabelled"]
    assert told.found.startswith("4 of 8 pairs have no level")


def test_what_needs_levels_depends_on_method_and_losses():
    assert level_settings(preset(losses={"adversarial": 0})) == (
        "generator.level_features=false", "measure.judge=false",
    )  # fmt: skip
    assert level_settings(preset(method="mean-colour", measure={"judge": False})) == ()


def test_without_a_training_pair_nothing_is_chosen(tmp_path):
    rows = write_pairs(tmp_path, 4, split=["test"] * 4)

    with pytest.raises(DataError, match="none of 4 pairs is in the training part"):
        choose(rows, preset(split={"train": 1.0, "val": 0.0, "test": 0.0}))


# --- pixels ---------------------------------------------------------------------------------------


def test_images_and_targets_are_those_of_the_files(tmp_path):
    pairs = opened(write_pairs(tmp_path, 3))

    np.testing.assert_allclose(
        image_of(pairs, [2])[0], picture(2).transpose(2, 0, 1) / 255, atol=1e-6
    )
    expected = picture(1001, white=0.8).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(target_of(pairs, [1])[0], expected, atol=1e-6)
    assert pairs.ok.all()
    assert pairs.failures == pairs.warnings == ()
    assert pairs.positions().tolist() == [0, 1, 2]


def test_parts_are_those_of_the_split_without_what_failed(tmp_path):
    rows = write_pairs(tmp_path, 4, split=["train", "train", "val", "test"])
    (tmp_path / "ihc" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")

    pairs = opened(rows)

    assert pairs.positions("train").tolist() == [1]
    assert pairs.positions("test").tolist() == [3]
    assert [problem.file for problem in pairs.failures] == ["ihc/0.png"]
    assert np.isnan(pairs.white_targets[0]).all()


def test_pairs_of_different_sizes_are_listed_by_name(tmp_path):
    rows = write_pairs(tmp_path, 3)
    save(tmp_path / "ihc" / "1.png", picture(5, height=40))

    pairs = opened(rows)

    assert pairs.ok.tolist() == [True, False, True]
    [told] = pairs.failures
    assert (told.kind, told.row) == ("pair-size", 3)
    assert "32 x 32 pixels, and its target 'ihc/1.png' has 40 x 32" in str(told)


def test_a_pair_that_would_be_surrounded_with_black_is_refused(tmp_path):
    rows = write_pairs(tmp_path, 2)
    for folder in ("he", "ihc"):
        save(tmp_path / folder / "0.png", picture(len(folder), height=32, width=20))

    pairs = opened(rows)

    assert [problem.kind for problem in pairs.failures] == ["too-small"]
    assert "32 x 20 pixels, fewer than the 32 x 32" in pairs.failures[0].found
    stretched = preset(images={"size_px": (32, 32), "channels": "rgb", "resize": "crop"})
    assert opened(rows, stretched).ok.all()


def test_all_bad_is_an_error_that_lists_them(tmp_path):
    rows = write_pairs(tmp_path, 2)
    for number in range(2):
        save(tmp_path / "ihc" / f"{number}.png", picture(5, height=40))

    with pytest.raises(DataError, match=r"(?s)none of 2 pairs can be used\..*he/0\.png.*he/1"):
        opened(rows)


def test_a_copy_of_the_image_under_another_name_is_no_target(tmp_path):
    rows = write_pairs(tmp_path, 2)
    shutil.copy(tmp_path / "he" / "1.png", tmp_path / "ihc" / "1.png")

    pairs = opened(rows)

    assert [(problem.kind, problem.row) for problem in pairs.failures] == [("same-picture", 3)]
    assert pairs.ok.tolist() == [True, False]


def test_without_targets_only_images_are_opened_and_any_label_passes(tmp_path):
    rows = write_pairs(tmp_path, 2, target=None, label=["tumour", "3+"])

    pairs = opened(rows, need_targets=False)

    assert pairs.targets is None
    np.testing.assert_array_equal(pairs.levels, [NOT_KNOWN, 3])
    assert np.isnan(pairs.white_targets).all()
    with pytest.raises(ValueError, match="opened without targets"):
        target_of(pairs, [0])


def test_a_row_without_target_is_told_where_targets_are_needed(tmp_path):
    pairs = opened(write_pairs(tmp_path, 2, target=["ihc/0.png", None]))

    assert pairs.ok.tolist() == [True, False]
    assert [problem.kind for problem in pairs.failures] == ["unpaired"]


def test_what_the_manifest_records_is_of_the_image_not_of_its_target(tmp_path):
    rows = write_pairs(tmp_path, 2)
    sizes = [(tmp_path / text).stat().st_size for text in rows.frame["image"]]

    assert opened(rows.with_columns(bytes=sizes)).ok.all()


def test_the_cache_hash_follows_the_targets(tmp_path):
    rows = write_pairs(tmp_path, 2)
    before = opened(rows).cache_hash

    save(tmp_path / "ihc" / "1.png", picture(77))

    assert opened(rows).cache_hash != before


# --- white ----------------------------------------------------------------------------------------


def test_the_white_point_is_that_of_the_slide_over_all_its_images(tmp_path):
    rows = write_pairs(tmp_path, 3, group=["s", "s", None])
    bright = np.full((32, 32, 3), (200, 190, 180), np.uint8)
    bright[0] = 0
    dark = (bright * 0.5).astype(np.uint8)
    for number, pixels in enumerate((bright, dark, dark)):
        save(tmp_path / "ihc" / f"{number}.png", pixels)

    pairs = opened(rows, preset(white={"percentile": 99}))

    expected = np.array([[200, 190, 180], [200, 190, 180], [100, 95, 90]]) / 255
    np.testing.assert_allclose(pairs.white_targets, expected, atol=1e-6)
    np.testing.assert_allclose(pairs.white_images, 1.0, atol=1e-6)


def test_images_are_divided_by_white_only_where_the_preset_says(tmp_path):
    pairs = opened(write_pairs(tmp_path, 2), preset(white={"normalise": True}))

    raw = picture(1000, white=0.8).transpose(2, 0, 1) / 255
    expected = np.minimum(raw / pairs.white_targets[0][:, None, None], 1)
    np.testing.assert_allclose(target_of(pairs, [0])[0], expected, atol=1e-6)
    np.testing.assert_allclose(white_of(pairs, [0, 1]), 1.0)
    plain = dataclasses.replace(pairs, white=preset().white)
    np.testing.assert_allclose(target_of(plain, [0])[0], raw, atol=1e-6)
    np.testing.assert_allclose(white_of(plain, [0]), pairs.white_targets[:1])
    assert pairs.white_targets[0, 0] == pytest.approx(204 / 255)


def test_white_points_are_kept_and_measured_anew_when_an_image_changes(tmp_path, monkeypatch):
    rows = write_pairs(tmp_path, 2)

    def run():
        return open_pairs(rows, preset(), cache=tmp_path / "cache", workers=0)

    first = run()
    with monkeypatch.context() as patched:
        patched.setattr("medglean.stain.white.white_point", None)  # would fail if it were called
        np.testing.assert_allclose(run().white_targets, first.white_targets)
    save(tmp_path / "ihc" / "1.png", picture(9, white=0.6))

    assert run().white_targets[1, 0] == pytest.approx(153 / 255)
    for file in (tmp_path / "cache").glob("white-*.json"):
        file.write_text("[[1")  # damaged: measured again
    assert run().white_targets[1, 0] == pytest.approx(153 / 255)


def test_a_black_image_has_no_white_point(tmp_path):
    rows = write_pairs(tmp_path, 2)
    save(tmp_path / "ihc" / "0.png", np.zeros((32, 32, 3), np.uint8))

    pairs = opened(rows)

    assert [(p.kind, p.row, p.column) for p in pairs.failures] == [("no-light", 2, "target")]
    assert pairs.ok.tolist() == [False, True]


def test_a_slide_without_glass_is_told_where_white_is_divided_by(tmp_path):
    rows = write_pairs(tmp_path, 2)
    save(tmp_path / "ihc" / "0.png", np.full((32, 32, 3), (120, 80, 60), np.uint8))

    assert opened(rows).warnings == ()
    [told] = opened(rows, preset(white={"normalise": True})).warnings

    assert (told.kind, told.file) == ("dark-white", "ihc/0.png")
    assert "0.47, 0.31, 0.24 of full scale" in told.found


def test_slides_are_told_apart_by_group_and_else_by_row(tmp_path):
    rows = write_pairs(tmp_path, 4, group=["a", None, "a", None])

    slides = slides_of(rows)

    assert slides[0] == slides[2]
    assert len(set(slides.tolist())) == 3
