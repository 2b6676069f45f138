import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks as checks

from medglean.curate.curator import Curator
from medglean.curate.outliers import OutlierGate
from medglean.curate.select import select
from medglean.errors import UsageError

X = np.random.default_rng(0).normal(size=(60, 8)) + 1
GROUPS = np.arange(60) // 6

# Those that leave out: what predicts, what keeps all rows, what needs a target.
APPLICABLE = [
    checks.check_parameters_default_constructible,
    checks.check_get_params_invariance,
    checks.check_set_params,
    checks.check_no_attributes_set_in_init,
    checks.check_estimators_overwrite_params,
    checks.check_estimators_nan_inf,
    checks.check_estimators_pickle,
    checks.check_estimators_fit_returns_self,
    checks.check_estimators_dtypes,
    checks.check_estimators_unfitted,
    checks.check_estimator_repr,
    checks.check_estimator_cloneable,
    checks.check_dict_unchanged,
    checks.check_fit_check_is_fitted,
    checks.check_n_features_in,
    checks.check_n_features_in_after_fitting,
    checks.check_fit1d,
    checks.check_fit2d_1feature,
    checks.check_complex_data,
    checks.check_estimator_sparse_array,
    checks.check_positive_only_tag_during_fit,
    checks.check_readonly_memmap_input,
]


@pytest.mark.parametrize("check", APPLICABLE, ids=lambda check: check.__name__)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learns_checks(check):
    check("Curator", Curator(method="coverage"))


def test_it_gives_what_select_gives():
    curator = Curator(
        method="enrich", budget="25%", max_per_group=2, random_state=4, outlier_gate=OutlierGate()
    ).fit(X, groups=GROUPS, preselected=[5])

    expected = select(
        X, method="enrich", budget=15, max_per_group=2, seed=4, outlier_gate=OutlierGate(),
        groups=GROUPS, preselected=[5],
    )  # fmt: skip
    np.testing.assert_array_equal(curator.selected_idx_, expected.chosen)
    np.testing.assert_array_equal(curator.ranking_, expected.ranking.order)
    np.testing.assert_array_equal(curator.similarity_, expected.ranking.similarity)
    np.testing.assert_array_equal(curator.outliers_, expected.outliers.position)
    assert curator.n_features_in_ == 8
    assert len(curator.selected_idx_) == 15


def test_support_and_transform_keep_the_tables_order():
    curator = Curator(method="random", budget=7).fit(X)

    support = curator.get_support()
    assert support.sum() == 7
    assert support[curator.selected_idx_].all()
    np.testing.assert_array_equal(curator.get_support(indices=True), np.flatnonzero(support))
    np.testing.assert_array_equal(curator.transform(X), X[support])
    np.testing.assert_array_equal(Curator(method="random", budget=7).fit_transform(X), X[support])


def test_parameters_can_be_read_set_and_cloned():
    curator = Curator(method="coverage", budget=3)

    copy = clone(curator.set_params(neighbours=9))

    assert copy.get_params() == curator.get_params()
    assert copy.get_params()["neighbours"] == 9
    assert not hasattr(copy, "selected_idx_")


def test_nothing_is_checked_before_fit():
    curator = Curator(method="magic", budget=-1)

    with pytest.raises(UsageError, match="budget must be above 0, got -1"):
        curator.fit(X)
    with pytest.raises(UsageError, match="there is no method 'magic'"):
        curator.set_params(budget=1).fit(X)


def test_what_was_not_fitted_has_no_support():
    with pytest.raises(NotFittedError):
        Curator().get_support()
    with pytest.raises(NotFittedError):
        Curator().transform(X)


def test_another_table_is_refused():
    curator = Curator(budget=5).fit(X)

    with pytest.raises(ValueError, match="X has 59 rows, and 60 were fitted"):
        curator.transform(X[:59])
    with pytest.raises(ValueError, match="7 features, but Curator is expecting 8 features"):
        curator.transform(X[:, :7])
