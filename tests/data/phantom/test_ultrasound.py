import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medglean.data.phantom import ultrasound_frame, write_ultrasound
from medglean.errors import UsageError

SIZE = (96, 96)


def frames(clip, count, b_lines=False):
    drawn = [ultrasound_frame(0, clip, f, b_lines=b_lines, size_px=SIZE) for f in range(count)]
    return np.stack(drawn).astype(float)


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def test_same_numbers_same_pixels():
    np.testing.assert_array_equal(frames(3, 2), frames(3, 2))
    assert (frames(3, 1) != frames(4, 1)).mean() > 0.3


def test_neighbouring_frames_are_near_duplicates_and_clips_are_not():
    clip = frames(2, 6)
    assert 0.97 < correlation(clip[0], clip[1]) < 0.99999
    assert correlation(clip[0], clip[5]) < correlation(clip[0], clip[1])
    assert correlation(clip[0], frames(5, 1)[0]) < 0.95


def test_the_sector_is_narrow_on_top_and_black_outside():
    image = np.stack([frames(k, 1)[0] for k in range(8)]).max(axis=0)
    assert image[0].max() == 0
    assert image[60:, :].max() > 60
    assert (image[4] > 0).sum() < (image[50] > 0).sum()
    assert image[5, 0] == image[5, -1] == 0


def test_b_lines_run_down_and_a_lines_across():
    def stripes(b_lines):
        across, down = [], []
        for clip in range(12):
            low = frames(clip, 1, b_lines)[0][50:84, 34:62]
            low = low / max(low.mean(), 1.0)
            across.append(low.mean(axis=0).std())
            down.append(low.mean(axis=1).std())
        return np.mean(across) / np.mean(down)

    assert stripes(True) > 1.3 * stripes(False)


def test_written_set_lists_clips_and_patients(tmp_path):
    table = write_ultrasound(tmp_path / "u", patients=4, frames=3, size_px=(48, 64))
    frame = pd.read_csv(table)
    assert (frame.groupby("clip_id").size() == 3).all()
    assert (frame.groupby("clip_id").patient_id.nunique() == 1).all()
    assert set(frame.label) == {"a-lines", "b-lines"}
    with Image.open(table.parent / frame.path[0]) as image:
        assert image.size == (64, 48)
        assert "synthetic" in image.text["Comment"]


def test_too_little_is_refused(tmp_path):
    with pytest.raises(UsageError, match="expected at least 2 patients"):
        write_ultrasound(tmp_path / "u", frames=0)


def test_brightness_and_border_do_not_tell_the_class():
    truth = np.arange(80) % 2 == 1
    drawn = [ultrasound_frame(5, k, 0, b_lines=bool(t), size_px=SIZE) for k, t in enumerate(truth)]
    for score in ([i.mean() for i in drawn], [i[-3:].mean() + i[:, :3].mean() for i in drawn]):
        ill, well = np.array(score)[truth], np.array(score)[~truth]
        auc = ((ill[:, None] > well).mean() + (ill[:, None] >= well).mean()) / 2
        assert 0.33 < auc < 0.67
