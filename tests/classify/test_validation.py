import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from medglean.classify.validation import validation_values
from medglean.errors import NonFiniteLossError


def test_loss_and_auroc_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 40)
    logits = rng.normal(size=(40, 2)).astype(np.float32)
    probability = np.exp(logits[:, 1]) / np.exp(logits).sum(axis=1)

    found = validation_values(targets, logits, kind="single")

    assert found["loss"] == pytest.approx(log_loss(targets, probability), rel=1e-5)
    assert found["auroc"] == pytest.approx(roc_auc_score(targets, probability))


def test_infinite_scores_are_a_training_that_diverged():
    logits = np.zeros((3, 2), np.float32)
    logits[1, 0] = np.inf

    with pytest.raises(NonFiniteLossError, match="1 of 3 validation images"):
        validation_values(np.array([0, 1, 1]), logits, kind="single")
