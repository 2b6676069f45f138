import cv2
import numpy as np
import pandas as pd
import pytest

from medglean.data.glance import glance
from medglean.data.manifest import Manifest
from medglean.data.phantom import write_brain, write_cxr


def manifest_of(table, root):
    return Manifest.from_frame(table, root)


def test_facts_of_a_file(tmp_path):
    image = np.zeros((40, 30), np.uint8)
    image[:, 15:] = 200
    cv2.imwrite(str(tmp_path / "a.png"), image)
    seen = glance(manifest_of(pd.DataFrame({"id": ["a"], "image": ["a.png"]}), tmp_path))

    facts = seen.facts.iloc[0]
    assert facts[["format", "height", "width", "channels", "bits"]].tolist() == [
        "PNG",
        40,
        30,
        1,
        8,
    ]
    assert facts[["low", "high"]].tolist() == [0, 200]
    assert facts["bytes"] == (tmp_path / "a.png").stat().st_size
    assert facts["deviation"] == pytest.approx(100 / 255, abs=1e-5)  # half 0, half 200
    assert seen.thumbnails[0, :, :30].max() == 0
    assert seen.thumbnails[0, :, 34:].min() == 200


def test_same_pixels_in_other_files_have_one_digest(tmp_path):
    image = np.arange(48 * 48, dtype=np.uint16).reshape(48, 48).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image, [cv2.IMWRITE_PNG_COMPRESSION, 0])
    cv2.imwrite(str(tmp_path / "b.png"), image, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    cv2.imwrite(str(tmp_path / "c.png"), image + 1)
    names = ["a.png", "b.png", "c.png"]
    seen = glance(manifest_of(pd.DataFrame({"id": names, "image": names}), tmp_path))
    a, b, c = seen.facts.pixels_sha256
    assert a == b != c
    assert seen.facts.sha256.nunique() == 3


def test_what_cannot_be_read_is_told_and_the_rest_goes_on(tmp_path):
    table = pd.read_csv(
        write_cxr(tmp_path / "set", patients=2, size_px=(48, 48), flaws=["truncated"])
    )
    table = pd.DataFrame({"id": table.path, "image": table.path})
    table.loc[len(table)] = ["gone", "images/gone.png"]
    done = []
    seen = glance(manifest_of(table, tmp_path / "set"), progress=done.append)

    assert seen.ok.tolist() == [*[True] * (len(table) - 2), False, False]
    assert len(seen.problems) == 2
    assert {p.kind for p in seen.problems} == {"unreadable"}
    assert seen.problems[0].file.endswith("_cut.png")
    assert seen.problems[1].file == "images/gone.png"
    assert not seen.thumbnails[-2:].any()
    assert seen.facts[["format", "bytes"]].iloc[-1].isna().all()
    assert done == list(range(1, len(table) + 1))


def test_channels_in_files_of_their_own_show_the_first_and_count_all(tmp_path):
    for name, level in (("a", 100), ("b", 200)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((64, 64), level, np.uint8))
    table = pd.DataFrame({"id": ["x"], "image.t1": ["a.png"], "image.t2": ["b.png"]})
    seen = glance(manifest_of(table, tmp_path))
    assert set(seen.thumbnails[0].ravel()) == {100}
    sizes = [(tmp_path / f"{name}.png").stat().st_size for name in "ab"]
    assert seen.facts["bytes"][0] == sum(sizes)


def test_slices_of_a_volume_are_seen_one_by_one(tmp_path):
    table = pd.read_csv(
        write_brain(tmp_path / "b", patients=2, slices=2, size_px=(64, 64), nifti=True)
    )
    keep = ["id", *(c for c in table if c.startswith("image."))]
    seen = glance(manifest_of(table[keep], tmp_path / "b"))
    assert seen.ok.all()
    assert seen.facts.pixels_sha256.nunique() == 4
    assert (seen.thumbnails.std(axis=(1, 2)) > 10).all()
