"""The section on saliency: what is explained, what is shown, and how it is measured."""

from __future__ import annotations

import copy
import dataclasses

import cv2
import numpy as np
import pytest
import torch

from medglean.classify import saliency, saliency_mass
from medglean.classify.assess import assess
from medglean.classify.model import Classifier, load_classifier
from medglean.classify.parts import Judged
from medglean.classify.prepare import open_images
from medglean.classify.saliency import Answers, answers_of, chosen_examples, saliency_part
from medglean.classify.saliency_maps import SaliencyMaps, saliency_maps, untrained
from medglean.classify.saliency_mass import CAM, INTEGRATED, masks_of, mass_part
from medglean.classify.scores import score_rows
from medglean.data.augment import to_float
from medglean.data.manifest import Manifest
from medglean.nn.attribution import grad_cam
from medglean.nn.backbones import build_backbone
from medglean.nn.ensemble import MeanOfLogits

from .conftest import Trained
from .judged import judge

SIDE = 32


def with_settings(classifier: Classifier, **measure: object) -> Classifier:
    measured = classifier.preset.measure.model_copy(update=measure)
    preset = classifier.preset.model_copy(update={"measure": measured})
    return dataclasses.replace(classifier, preset=preset)


@pytest.fixture(scope="module")
def judged(trained: Trained) -> Judged:
    """The small trained run on its test part; every image has a mask: the left half."""
    classifier = with_settings(
        load_classifier(trained.run), saliency=3, integrated_steps=2, replicates=100
    )
    manifest = Manifest.read(trained.manifest)
    folder = manifest.root / "masks"
    folder.mkdir(exist_ok=True)
    left = np.zeros((64, 64), np.uint8)
    left[:, :32] = 255
    (folder / "left.png").write_bytes(cv2.imencode(".png", left)[1].tobytes())
    manifest = manifest.with_columns(mask=["masks/left.png"] * len(manifest))
    images = open_images(
        manifest,
        classifier.preset,
        column="label",
        classes=classifier.classes,
        cache=trained.cache,
        workers=0,
    )
    rows = images.positions()[::3]
    scores = score_rows(classifier, images, rows)
    groups = images.groups[rows]
    found = assess(
        images.targets[rows],
        scores.probability,
        groups,
        kind="single",
        classes=classifier.classes,
        replicates=100,
    )
    return Judged(classifier, images, scores, found, groups, None, 0)


def test_what_is_called_and_what_was_missed_of_exclusive_classes():
    probability = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3]])

    found = answers_of(judge(probability, np.array([0, 1, 1]), classes=("a", "b", "c")))

    assert found.explained.tolist() == [0, 2, 1]
    assert found.missed.tolist() == [-1, 1, -1]
    assert found.right.tolist() == [True, False, True]


def test_what_is_called_and_what_was_missed_of_several_findings():
    probability = np.array([[0.9, 0.8, 0.1], [0.1, 0.3, 0.2], [0.6, 0.4, 0.3], [0.1, 0.2, 0.3]])
    truth = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1], [0, 0, 1]], dtype=np.float32)

    found = answers_of(judge(probability, truth, classes=("a", "b", "c")))

    assert found.explained.tolist() == [0, 1, 0, 2]  # the most probable, called or not
    assert found.missed.tolist() == [-1, -1, 1, 2]  # of two overlooked ones the more probable
    assert found.right.tolist() == [True, True, False, False]


def test_classes_take_turns_and_so_do_wrong_and_right_calls():
    truth = np.zeros((12, 2), dtype=bool)
    truth[:9, 0] = truth[9:, 1] = True
    right = np.array([False] * 2 + [True] * 7 + [True] * 3)
    called = np.where(right, truth[:, 1], truth[:, 0]).astype(np.int64)
    answers = Answers(called, np.where(right, -1, truth.argmax(axis=1)), right)

    shown = chosen_examples(answers, truth, count=8, seed=3)

    kinds = ["ab"[int(truth[k, 1])] + ("+" if right[k] else "-") for k in shown]
    # class b has no wrong call, and three images in all: then only a is left
    assert kinds == ["a-", "b+", "a+", "b+", "a-", "b+", "a+", "a+"]
    assert len(set(shown.tolist())) == 8
    assert sorted(chosen_examples(answers, truth, count=99, seed=3).tolist()) == list(range(12))
    assert chosen_examples(answers, truth, count=8, seed=3).tolist() == shown.tolist()
    assert chosen_examples(answers, truth, count=8, seed=4).tolist() != shown.tolist()


def test_maps_of_one_network_are_those_of_grad_cam(judged):
    classifier, images = judged.classifier, judged.images
    rows = judged.scores.rows[:3]
    batch = classifier.normalise(torch.from_numpy(to_float(images.stored[rows])))
    before = copy.deepcopy(classifier.network.state_dict())

    found = saliency_maps(
        classifier, images, rows, explained=np.array([0, 1, 1]), missed=np.array([1, 1, 0])
    )

    for name, classes in (("cam", [[0], [1], [1]]), ("cam_of_missed", [[1], [1], [0]])):
        expected = grad_cam(
            classifier.network, batch, torch.tensor(classes), layer="layer4", log_odds=True
        ).maps[:, 0]
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-4, atol=1e-6)
    assert found.integrated.shape == (3, SIDE, SIDE)
    assert found.integrated.min() >= 0.0
    # of two exclusive classes what speaks for one speaks against the other
    assert not ((found.cam[0] > 0) & (found.cam_of_missed[0] > 0)).any()
    assert all(torch.equal(value, before[key]) for key, value in
               classifier.network.state_dict().items())  # fmt: skip


def test_maps_of_several_networks_are_their_signed_mean(judged):
    classifier, images = judged.classifier, judged.images
    rows, one = judged.scores.rows[:2], np.array([1, 1])
    other = build_backbone("resnet18", classes=2, seed=8).eval()
    mean = MeanOfLogits([classifier.network, other])
    batch = classifier.normalise(torch.from_numpy(to_float(images.stored[rows])))

    found = saliency_maps(
        dataclasses.replace(classifier, network=mean), images, rows, explained=one
    )

    signed = [
        grad_cam(network, batch, [1], layer="layer4", keep_negative=True, log_odds=True).maps[:, 0]
        for network in mean.members
    ]
    expected = (0.5 * (signed[0] + signed[1])).relu()
    np.testing.assert_allclose(found.cam, expected, rtol=1e-4, atol=1e-6)


def test_of_findings_that_may_meet_the_logit_itself_is_explained(judged):
    several = dataclasses.replace(judged.classifier, kind="multi")
    rows = judged.scores.rows[:2]
    batch = several.normalise(torch.from_numpy(to_float(judged.images.stored[rows])))

    found = saliency_maps(several, judged.images, rows, explained=np.array([1, 0]))

    expected = grad_cam(
        several.network, batch, torch.tensor([[1], [0]]), layer="layer4", log_odds=False
    ).maps[:, 0]
    np.testing.assert_allclose(found.cam, expected, rtol=1e-4, atol=1e-6)


def test_integrated_gradients_come_for_the_first_images_only(judged, monkeypatch):
    monkeypatch.setattr("medglean.classify.saliency_maps.BATCH", 2)
    rows = judged.scores.rows[:5]

    found = saliency_maps(
        judged.classifier,
        judged.images,
        rows,
        explained=np.zeros(5, dtype=np.int64),
        integrated_count=3,
    )

    assert np.isfinite(found.gap).tolist() == [True] * 3 + [False] * 2
    assert (found.integrated.max(axis=(1, 2)) > 0).tolist() == [True] * 3 + [False] * 2


def given_maps(monkeypatch, make) -> None:
    """Let maps be what ``make(n)`` returns for both methods."""

    def instead(_classifier, _images, rows, *, integrated_count, **_asked):
        maps = make(len(rows))
        return SaliencyMaps(maps, maps, maps, np.zeros(len(rows)))

    monkeypatch.setattr(saliency_mass, "saliency_maps", instead)


def measured(judged: Judged):
    return mass_part(judged, answers_of(judged).explained)


def test_maps_inside_the_mask_have_all_their_mass_there(judged, monkeypatch):
    inside = np.zeros((SIDE, SIDE), np.float32)
    inside[5:9, 3:11] = 2.0
    given_maps(monkeypatch, lambda n: np.stack([inside] * n))

    part = measured(judged)

    many = len(judged.scores.rows)
    assert [(m.name, m.value, m.n) for m in part.metrics] == [
        (f"{CAM}: share inside the mask", 1.0, many),
        (f"{INTEGRATED}: share inside the mask", 1.0, many),
    ]
    assert "covers 0.500 of the picture" in part.metrics[0].note
    row = part.tables[0].rows[0]
    assert row[1:3] == [many, 0]
    assert row[3:] == ["1.000 (1.000-1.000)", "0.500", "2.000 (2.000-2.000)", "1.000"]
    assert part.warnings == ()


def test_a_map_that_misses_the_mask_or_knows_nothing_is_warned_of(judged, monkeypatch):
    even = np.ones((SIDE, SIDE), np.float32)
    beside = even.copy()
    beside[:, :24] = 0.0
    for maps in (even, beside):
        given_maps(monkeypatch, lambda n, maps=maps: np.stack([maps] * n))
        part = measured(judged)
        assert len(part.warnings) == 2
        assert "not more than a map without any knowledge would have" in part.warnings[0]
        assert part.metrics[0].value == pytest.approx(float(maps is even) / 2)


def test_maps_that_are_zero_everywhere_are_counted_and_never_a_share_of_0(judged, monkeypatch):
    def some(n):
        maps = np.zeros((n, SIDE, SIDE), np.float32)
        maps[: n // 2, :, :8] = 1.0
        return maps

    given_maps(monkeypatch, some)
    part = measured(judged)
    many = len(judged.scores.rows)
    assert part.tables[0].rows[0][1:3] == [many // 2, many - many // 2]
    assert part.metrics[0].value == 1.0

    given_maps(monkeypatch, lambda n: np.zeros((n, SIDE, SIDE), np.float32))
    part = measured(judged)
    assert all(np.isnan(metric.value) for metric in part.metrics)
    assert part.tables[0].rows[0][1:3] == [0, many]
    assert part.tables[0].rows[0][3] == "n/a"
    assert "no map can be measured" in part.warnings[0]


def test_a_sample_is_drawn_where_masks_are_many(judged, monkeypatch):
    asked = []

    def instead(_classifier, _images, rows, *, integrated_count, **_asked):
        asked.append((rows.tolist(), integrated_count))
        maps = np.ones((len(rows), SIDE, SIDE), np.float32)
        return SaliencyMaps(maps, maps, maps, np.zeros(len(rows)))

    monkeypatch.setattr(saliency_mass, "saliency_maps", instead)
    monkeypatch.setattr(saliency_mass, "MOST_MEASURED", 5)
    monkeypatch.setattr(saliency_mass, "LEAST_INTEGRATED", 2)
    monkeypatch.setattr(saliency_mass, "INTEGRATED_PIXELS", 4 * SIDE * SIDE)

    part = measured(judged)
    measured(judged)
    measured(dataclasses.replace(judged, seed=1))

    (first, count), (again, _), (other, _) = asked
    assert len(set(first)) == 5
    assert count == 4
    assert set(first) <= set(judged.scores.rows.tolist())
    assert again == first
    assert other != first
    assert [row[1] for row in part.tables[0].rows] == [5, 4]
    assert (
        f"{len(judged.scores.rows):,} judged images name a mask; at most 5" in part.tables[0].note
    )


def test_each_image_is_compared_with_the_mask_of_another_patient():
    groups = np.array(["p3", "p1", "p1", "p2", "p3", "p2"])

    partner = saliency_mass._others(groups)

    assert sorted(partner.tolist()) == list(range(6))
    assert all(groups[k] != groups[partner[k]] for k in range(6))


def test_a_mask_that_cannot_be_read_is_told(judged, monkeypatch):
    frame = judged.images.manifest.frame
    references = list(frame["mask"])
    references[int(judged.scores.rows[0])] = "masks/gone.png"
    references[int(judged.scores.rows[1])] = None
    images = copy.copy(judged.images)
    images.manifest = judged.images.manifest.with_columns(mask=references)
    other = dataclasses.replace(judged, images=images)
    given_maps(monkeypatch, lambda n: np.ones((n, SIDE, SIDE), np.float32))

    part = measured(other)

    assert len(masks_of(other, judged.scores.rows)[0]) == len(judged.scores.rows) - 2
    assert part.tables[0].rows[0][1] == len(judged.scores.rows) - 2
    assert part.warnings[0].startswith("1 masks of column 'mask' could not be read")
    assert "gone.png" in part.warnings[0]


def test_without_masks_nothing_is_measured_against_them(judged):
    classifier = with_settings(judged.classifier, mask="lung_mask")

    part = measured(dataclasses.replace(judged, classifier=classifier))

    assert part.metrics == part.tables == part.warnings == ()


def test_the_section_shows_and_measures(judged):
    part = saliency_part(judged)

    (figure,) = part.figures
    assert figure.kind == "png"
    picture = cv2.imdecode(np.frombuffer(figure.data, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[0] > picture.shape[1] * 0.8  # three rows of three or four pictures
    assert "outline of the mask" in figure.caption
    assert "no proof" in figure.caption
    assert [table.title for table in part.tables] == [
        "Do the maps depend on what was learnt?",
        "How much of what the answers come from lies inside the mask",
    ]
    assert [metric.name.partition(":")[0] for metric in part.metrics] == [CAM, INTEGRATED]
    for metric in part.metrics:
        assert 0.0 <= metric.value <= 1.0
        assert metric.low <= metric.value <= metric.high


def test_nothing_is_drawn_where_none_is_asked_for(judged):
    none = with_settings(judged.classifier, saliency=0)

    assert saliency_part(dataclasses.replace(judged, classifier=none)) == saliency.Part()


def test_a_method_that_shows_the_same_without_learning_is_warned_of(judged, monkeypatch):
    monkeypatch.setattr(saliency, "untrained", lambda classifier: classifier)

    part = saliency_part(judged)

    row = part.tables[0].rows[0]
    assert row[0] == CAM
    assert row[2] == pytest.approx(1.0)
    assert any("a network that has learnt nothing" in told for told in part.warnings)


def test_the_untrained_network_is_another_than_the_one_training_began_with(judged):
    blank = untrained(judged.classifier).network
    start = build_backbone("resnet18", classes=2, seed=judged.classifier.preset.fit.seed)

    assert not torch.equal(blank.conv1.weight, start.conv1.weight)
    assert not torch.equal(blank.conv1.weight, judged.classifier.network.conv1.weight)
    assert not blank.training


def test_likeness_is_a_rank_correlation_and_undefined_for_an_even_map():
    ranks = np.arange(6, dtype=np.float32).reshape(2, 3)

    assert saliency._alike(ranks, ranks**3) == pytest.approx(1.0)
    assert saliency._alike(ranks, -ranks) == pytest.approx(-1.0)
    assert np.isnan(saliency._alike(ranks, np.zeros((2, 3))))
    assert saliency._mean([1.0, float("nan"), 0.0]) == 0.5
