import cv2
import numpy as np
import pytest
import torch

from medglean.classify.model import load_classifier
from medglean.classify.prepare import open_images
from medglean.classify.scores import magnified, score_rows
from medglean.data.manifest import Manifest


@pytest.mark.parametrize("zoom", [0.8, 1.25])
def test_magnified_as_opencv_does_it(zoom):
    rng = np.random.default_rng(0)
    image = rng.random((32, 48), dtype=np.float32)
    centre = ((48 - 1) / 2, (32 - 1) / 2)
    matrix = cv2.getRotationMatrix2D(centre, 0, zoom)
    expected = cv2.warpAffine(image, matrix, (48, 32), flags=cv2.INTER_LINEAR)

    found = magnified(torch.from_numpy(image)[None, None], zoom)[0, 0].numpy()

    inside = (slice(4, -4), slice(6, -6))  # OpenCV rounds places to 1/32 pixel
    np.testing.assert_allclose(found[inside], expected[inside], atol=0.05)
    assert abs(found[inside] - expected[inside]).mean() < 0.01
    assert (found[0] == 0).all() == (zoom < 1)


def test_scores_are_the_mean_over_the_zooms(trained):
    classifier = load_classifier(trained.run)
    images = open_images(
        Manifest.read(trained.manifest),
        classifier.preset,
        column=None,
        classes=None,
        cache=trained.cache,
        workers=0,
    )
    rows = images.positions(labelled=False)[:6]

    def logits(*zooms):
        predict = classifier.preset.predict.model_copy(update={"zooms": zooms})
        preset = classifier.preset.model_copy(update={"predict": predict})
        changed = type(classifier)(**{**vars(classifier), "preset": preset})
        return score_rows(changed, images, rows).logits

    small, same, large = logits(0.8), logits(1.0), logits(1.25)

    assert not np.allclose(small, same, atol=1e-3)
    np.testing.assert_allclose(logits(0.8, 1.0, 1.25), (small + same + large) / 3, atol=1e-5)
