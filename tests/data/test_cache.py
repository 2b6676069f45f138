import json
import os
import shutil
import subprocess
import sys
import time
from errno import ENOSPC
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medglean.data import cache as cache_module
from medglean.data import decode as decode_module
from medglean.data.cache import decode_to_memory, open_cache
from medglean.data.manifest import Manifest
from medglean.data.prepare import prepare
from medglean.data.readers import read
from medglean.data.recipe import Intensity, Recipe
from medglean.errors import CacheError, DataError

RECIPE = Recipe(size_px=(16, 16))
HERE = Path(__file__).parent


@pytest.fixture
def images(tmp_path, write_images):
    return write_images(tmp_path / "images")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "caches"


@pytest.fixture
def decodes(monkeypatch):
    """The references that were decoded, in order."""
    seen = []

    def counted(reference, **options):
        seen.append(str(reference))
        return read(reference, **options)

    monkeypatch.setattr(decode_module, "read", counted)
    return seen


def opened(manifest, folder, recipe=RECIPE, **options):
    return open_cache(manifest, recipe, folder, **{"workers": 0, **options})


def test_a_second_run_decodes_nothing(images, folder, decodes):
    first = opened(images, folder)
    assert first.rebuilt
    assert len(decodes) == 6
    second = opened(images, folder)
    assert not second.rebuilt
    assert len(decodes) == 6
    np.testing.assert_array_equal(first.array, second.array)
    assert second.array.shape == (6, 1, 16, 16)
    assert second.ok.all()
    assert not second.array.flags.writeable


@pytest.mark.parametrize(
    ("dtype", "off"), [("uint8", 0.5 / 255), ("uint16", 0.5 / 65535), ("float32", 0)]
)
def test_what_is_kept_is_what_was_prepared_within_the_rounding(images, folder, dtype, off):
    recipe = Recipe(size_px=(13, 11), dtype=dtype)
    cached = opened(images, folder, recipe)
    top = 1 if dtype == "float32" else np.iinfo(dtype).max
    for row, name in enumerate(images.frame["image"]):
        exact = prepare(read(name, root=images.root), recipe)
        error = np.abs(cached.array[row].astype(np.float64) / top - exact.astype(np.float64)).max()
        assert error <= off + 1e-9
        assert off == 0 or error > off / 3  # rounding is used to the full: no level is wasted


def test_worker_processes_give_the_same(images, folder):
    (images.root / "1.png").write_bytes(b"this is not a picture")
    with (images.root / "2.png").open("ab") as file:
        file.write(b"more")
    (images.root / "3.png").unlink()
    Image.new("L", (9, 9), 77).save(images.root / "5.png")
    recorded_sizes = images.frame["bytes"].where(images.frame["id"] == "i2")
    manifest = images.with_columns(sha256=None, bytes=recorded_sizes.astype("Int64"))
    recipe = Recipe(size_px=(16, 12), intensity=Intensity(rule="min-max"))
    by_two = opened(manifest, folder, recipe, workers=2)
    by_none = decode_to_memory(manifest, recipe, workers=0)
    np.testing.assert_array_equal(by_two.array, by_none.array)
    assert by_two.failures == by_none.failures
    assert [failure.kind for failure in by_two.failures] == [
        "ReadError",
        "altered-file",
        "ReadError",
    ]
    assert by_two.warnings == by_none.warnings
    assert len(by_two.warnings) == 1


def test_memory_only_writes_nothing(images, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    kept = decode_to_memory(images, RECIPE, workers=0)
    assert sorted(tmp_path.rglob("*")) == before
    assert kept.array.shape == (6, 1, 16, 16)
    assert not kept.array.flags.writeable


def test_the_key_is_content_and_recipe_and_nothing_else(images, folder):
    key = opened(images, folder).hash
    assert opened(images.with_columns(label=["a"] * 6, split=["test"] * 6), folder).hash == key
    assert opened(images, folder, Recipe(size_px=(16, 15))).hash != key
    assert opened(images.select([1, 0, 2, 3, 4, 5]), folder).hash != key
    moved = images.root / "moved.png"
    shutil.copy(images.root / "0.png", moved)
    names = ["moved.png", *images.frame["image"][1:]]
    assert opened(images.with_columns(image=names), folder).hash == key


def test_without_recorded_hashes_content_still_decides(images, folder, decodes):
    bare = images.with_columns(sha256=None, bytes=None)
    opened(bare, folder)
    assert not opened(bare, folder).rebuilt
    assert len(decodes) == 6
    shutil.copy(images.root / "1.png", images.root / "0.png")
    changed = opened(bare, folder)
    assert changed.rebuilt
    np.testing.assert_array_equal(changed.array[0], changed.array[1])


def test_the_same_reference_twice_is_decoded_once(images, folder, decodes):
    twice = images.select([0, 1, 0]).with_columns(id=["a", "b", "c"])
    cached = opened(twice, folder)
    assert len(decodes) == 2
    np.testing.assert_array_equal(cached.array[0], cached.array[2])


def test_unreadable_images_are_told_and_the_rest_goes_on(images, folder):
    (images.root / "1.png").write_bytes(b"this is not a picture")
    (images.root / "3.png").unlink()
    half = (images.root / "4.png").read_bytes()[:60]
    (images.root / "4.png").write_bytes(half)
    cached = opened(images.with_columns(bytes=None, sha256=None), folder)
    assert cached.ok.tolist() == [True, False, True, False, False, True]
    assert [(problem.file, problem.row) for problem in cached.failures] == [
        ("1.png", 3),
        ("3.png", 5),
        ("4.png", 6),
    ]
    assert "no such file" in cached.failures[1].found
    assert (cached.array[1] == 0).all()
    assert (cached.array[2] != 0).any()


def test_a_fault_that_no_reader_foresaw_costs_one_image(images, folder, monkeypatch):
    def faulty(reference, **options):
        if str(reference) == "2.png":
            raise ZeroDivisionError("division by zero")
        return read(reference, **options)

    monkeypatch.setattr(decode_module, "read", faulty)
    cached = opened(images, folder)
    assert cached.ok.sum() == 5
    assert "ZeroDivisionError: division by zero" in cached.failures[0].found


def test_a_failed_image_is_tried_again_when_its_file_is_back(images, folder, decodes):
    hidden = images.root / "hidden"
    (images.root / "3.png").rename(hidden)
    assert not opened(images, folder).ok[3]
    decodes.clear()
    assert not opened(images, folder).ok[3]
    assert decodes == []  # nothing changed, so nothing is tried
    hidden.rename(images.root / "3.png")
    mended = opened(images, folder)
    assert decodes == ["3.png"]
    assert mended.ok.all()
    assert mended.failures == ()
    np.testing.assert_array_equal(mended.array, decode_to_memory(images, RECIPE, workers=0).array)


def test_a_failed_image_is_tried_again_with_another_decoder(images, folder, decodes, monkeypatch):
    (images.root / "3.png").unlink()
    opened(images, folder)
    decodes.clear()
    monkeypatch.setattr("medglean.data.cache_index.decoders", lambda: {"pillow": "99"})
    opened(images, folder)
    assert decodes == ["3.png"]


def test_an_altered_file_is_told_with_what_was_found_and_expected(images, folder, recorded):
    same_size = images.root / "2.png"
    data = bytearray(same_size.read_bytes())
    data[-20] ^= 1
    same_size.write_bytes(data)
    with (images.root / "5.png").open("ab") as file:
        file.write(b"more")
    cached = opened(images, folder)
    assert cached.ok.tolist() == [True, True, False, True, True, False]
    by_hash, by_size = cached.failures
    assert by_hash.kind == by_size.kind == "altered-file"
    assert by_hash.file == "2.png"
    expected = images.frame["sha256"].iloc[2]
    found = recorded(images).frame["sha256"].iloc[2]
    assert f"found SHA-256 {found}, expected {expected}" in by_hash.found
    size = int(images.frame["bytes"].iloc[5])
    assert f"found {size + 4:,} bytes, expected {size:,}" in by_size.found


def test_a_file_altered_after_it_was_cached_is_told_and_the_cache_is_kept(images, folder, decodes):
    first = np.array(opened(images, folder).array)
    decodes.clear()
    os.utime(images.root / "0.png", ns=(1, 1))  # touched, not altered
    assert opened(images, folder).warnings == ()
    shutil.copy(images.root / "4.png", images.root / "0.png")
    (images.root / "5.png").unlink()  # gone: the cache may outlive its sources
    cached = opened(images, folder)
    [warning] = cached.warnings
    assert (warning.kind, warning.file, warning.fatal) == ("altered-file", "0.png", False)
    assert "altered after it was cached" in warning.found
    np.testing.assert_array_equal(cached.array, first)
    assert decodes == []


def test_warnings_of_images_are_kept_with_the_cache(images, folder, recorded):
    recipe = Recipe(size_px=(16, 16), intensity=Intensity(rule="min-max"))
    Image.new("L", (9, 9), 77).save(images.root / "1.png")
    manifest = recorded(images)
    for _ in range(2):
        [warning] = opened(manifest, folder, recipe).warnings
        assert warning.file == "1.png"
        assert warning.row == 3
        assert "constant" in warning.found


def only_cache(folder):
    [place] = (path for path in folder.iterdir() if path.is_dir())
    return place


@pytest.mark.parametrize("damage", ["done", "images.raw", "index.json", "shorter", "garbled"])
def test_half_a_cache_is_rebuilt_not_read(images, folder, decodes, damage):
    expected = np.array(opened(images, folder).array)
    place = only_cache(folder)
    if damage == "shorter":
        with (place / "images.raw").open("r+b") as file:
            file.truncate(700)
    elif damage == "garbled":
        (place / "index.json").write_text('{"shape": [6, 1')
    else:
        (place / damage).unlink()
    decodes.clear()
    cached = opened(images, folder)
    assert cached.rebuilt
    assert len(decodes) == 6
    np.testing.assert_array_equal(cached.array, expected)


def test_a_process_killed_at_any_file_operation_leaves_no_wrong_cache(images, tmp_path):
    images.select([0, 1]).write(images.root / "manifest.csv")
    done = subprocess.run(
        [sys.executable, str(HERE / "kill_cache.py"), str(images.root)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    trials = [json.loads(line) for line in done.stdout.splitlines()]
    killed = [trial for trial in trials if not trial["lived"]]
    assert len(killed) > 15
    assert all(trial["right"] for trial in trials)
    assert sum(trial["rebuilt"] for trial in killed) > 10
    lasting = {"done", "images.raw", "index.json"}
    for trial in trials:
        others = set(trial["files"]) - lasting
        assert all(name.endswith(".lock") for name in others), trial
    by_operation = [trial for trial in trials if "operation" in trial]
    assert by_operation[-1]["lived"]
    assert not by_operation[-1]["rebuilt"]


BUILD = """
import sys, time
from pathlib import Path
from medglean.data import decode
from medglean.data.cache import open_cache
from medglean.data.manifest import Manifest
from medglean.data.recipe import Recipe
read = decode.read
def slow(reference, **options):
    with open(sys.argv[3], "a") as log:
        log.write(f"{reference}\\n")
    time.sleep(0.05)
    return read(reference, **options)
decode.read = slow
cache = open_cache(
    Manifest.read(sys.argv[1]), Recipe(size_px=(16, 16)), Path(sys.argv[2]), workers=0
)
print(cache.rebuilt, int(cache.array.astype(int).sum()))
"""


def test_two_processes_build_one_cache_once(images, folder, tmp_path):
    images.write(images.root / "manifest.csv")
    log = tmp_path / "decoded"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", BUILD, str(images.root / "manifest.csv"), str(folder), str(log)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=60)[0].split() for process in both]
    assert len(log.read_text().splitlines()) == 6
    assert sorted(rebuilt for rebuilt, _ in answers) == ["False", "True"]
    assert answers[0][1] == answers[1][1]


def test_too_little_room_is_told_before_anything_is_decoded(images, folder, decodes, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    need = 6 * 16 * 16 + cache_module.SPARE_BYTES
    with pytest.raises(CacheError, match=rf"6 images needs {need:,} bytes, and 1,000 are free"):
        opened(images, folder)
    assert decodes == []
    assert not [path for path in folder.iterdir() if path.is_dir()]


def test_a_disk_that_fills_up_meanwhile_leaves_nothing_half(images, folder):
    def full(done, total):
        if done == 4:
            raise OSError(ENOSPC, os.strerror(ENOSPC))

    with pytest.raises(CacheError, match=r"No space left on device.*nothing half is left"):
        opened(images, folder, progress=full)
    assert not [path for path in folder.iterdir() if path.is_dir()]
    assert opened(images, folder).ok.all()


def test_a_disk_that_is_full_in_earnest(images, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    images.write(images.root / "manifest.csv")
    script = (
        "from medglean.data import cache; cache.SPARE_BYTES = -10**9\n"
        "from medglean.data.manifest import Manifest\n"
        "from medglean.data.recipe import Recipe\n"
        "from pathlib import Path\nimport sys\n"
        "try:\n"
        "    cache.open_cache(Manifest.read(sys.argv[1]), Recipe(size_px=(512, 512)),\n"
        "                     Path(sys.argv[2]), workers=0)\n"
        "except cache.CacheError as error:\n"
        "    print(error)\n"
        "    print([path.name for path in Path(sys.argv[2]).iterdir() if path.is_dir()])\n"
    )
    mounted = 'mount -t tmpfs -o size=1m tmpfs "$1" && exec "$2" -c "$3" "$4" "$1"'
    command = ["unshare", "-rm", "sh", "-c", mounted, "sh"]
    arguments = [str(small), sys.executable, script, str(images.root / "manifest.csv")]
    if shutil.which("unshare") is None:
        pytest.skip("no way to mount a small file system here")
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip("no right to mount a small file system here")
    assert "No space left on device" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_folder_that_may_not_be_written_is_told(images, folder):
    folder.mkdir()
    folder.chmod(0o555)
    root = os.geteuid() == 0  # whom no permission stops
    try:
        if root:
            os.seteuid(65534)
        with pytest.raises(CacheError, match=r"cannot be written.*you may write to"):
            opened(images, folder)
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_a_whole_cache_in_a_read_only_folder_is_read(images, folder):
    opened(images, folder)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert not opened(images, folder).rebuilt
    folder.chmod(0o755)
    only_cache(folder).chmod(0o755)


def test_a_file_in_place_of_the_folder_is_told(images, folder):
    folder.write_text("in the way")
    with pytest.raises(CacheError, match="cannot be written"):
        opened(images, folder)


def test_spaces_and_other_letters_in_paths(tmp_path, write_images):
    images = write_images(tmp_path / "Röntgen bilder %23", 2)
    assert opened(images, tmp_path / "キャッシュ mit Raum").ok.all()


def test_one_image_per_channel(images, folder):
    frame = pd.DataFrame(
        {"id": ["a", "b"], "image.t1": ["0.png", "1.png"], "image.t2": ["2.png", "gone.png"]}
    )
    manifest = Manifest.from_frame(frame, images.root)
    recipe = Recipe(size_px=(8, 8), channels=("t2", "t1"))
    cached = opened(manifest, folder, recipe)
    assert cached.array.shape == (2, 2, 8, 8)
    single = decode_to_memory(images, Recipe(size_px=(8, 8)), workers=0).array
    np.testing.assert_array_equal(cached.array[0, 0], single[2, 0])
    np.testing.assert_array_equal(cached.array[0, 1], single[0, 0])
    assert cached.ok.tolist() == [True, False]
    assert "gone.png" in cached.failures[0].file
    with pytest.raises(DataError, match=r"one image per channel \(t1, t2\).*images\.channels"):
        opened(manifest, folder)
    with pytest.raises(DataError, match=r"no column 'image.flair'; its images are"):
        opened(manifest, folder, Recipe(channels=("t1", "flair")))


BY_VOLUME = Recipe(
    size_px=(8, 8), dtype="float32", intensity=Intensity(rule="min-max", scope="volume")
)


def test_slices_share_the_range_of_their_file(tmp_path, folder, decodes):
    volume = np.zeros((8, 8, 3), np.float32)
    volume[2:, :, :] = [-100, 0, 100]
    volume[:2] = [-100, -100, 50]
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "scan.nii.gz")
    frame = pd.DataFrame(
        {"id": list("abc"), "image": [f"scan.nii.gz#axis=2,index={number}" for number in range(3)]}
    )
    cached = opened(Manifest.from_frame(frame, tmp_path), folder, BY_VOLUME)
    assert cached.failures == ()
    assert cached.array.max(axis=(1, 2, 3)).tolist() == pytest.approx([0, 0.5, 1])
    assert decodes.count("scan.nii.gz") == 1  # the range is found once for all slices


def test_pages_have_no_volume(images, tmp_path, folder):
    page = Image.new("L", (8, 8), 50)
    page.save(tmp_path / "stack.tif", save_all=True, append_images=[page])
    frame = pd.DataFrame({"id": ["a"], "image": ["stack.tif#page=1"]})
    manifest = Manifest.from_frame(frame, tmp_path)
    [failure] = opened(manifest, folder, BY_VOLUME).failures
    assert "pages of a TIFF need not be of one volume" in failure.found


def test_an_empty_manifest_is_refused(images, folder):
    with pytest.raises(DataError, match="no rows"):
        opened(images.select([]), folder)


def test_progress_counts_to_the_end(images, folder):
    seen = []
    opened(images, folder, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 6) for number in range(1, 7)]


def test_opening_is_quick(images, folder):
    opened(images, folder)
    began = time.perf_counter()
    opened(images, folder)
    assert time.perf_counter() - began < 0.5
