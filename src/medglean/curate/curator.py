"""`Curator`: the choice of images with scikit-learn's conventions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from medglean.curate.budget import Amount, count_of
from medglean.curate.inputs import positions_of
from medglean.curate.methods.table import DEFAULT
from medglean.curate.outliers import OutlierGate
from medglean.curate.select import Selection, select


class Curator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Choose which rows of an embedding to label.

    Rows are chosen, not columns: `transform` returns fewer rows than it is given, so that this is
    no step of a scikit-learn pipeline whose last step needs a target per row.

    Parameters
    ----------
    method
        A name of `medglean.curate.methods.table.METHODS`.
    budget
        How many rows: a number, or a share such as ``"10%"`` or ``0.1`` of all rows.
    max_per_group
        How many rows of one group at most; None: any number.
    start
        ENRICH's random start, a number or a share; None: a tenth of the budget, at most 1,000.
    stop_similarity
        ENRICH: stop where all that is left resembles something taken more than this.
    quotas
        Rows per stratum, as numbers or shares of the budget.
    outlier_gate
        Settings of the outlier gate; None: off.
    centre
        Whether to subtract the mean row first.
    neighbours
        Neighbours per row in the graph of the coverage methods; None: their default.
    random_state
        Seed of everything that is drawn: a whole number, so that it can be written down.

    Attributes
    ----------
    selected_idx_ : numpy.ndarray of shape (m,)
        Positions of the chosen rows, the first to be labelled first.
    ranking_ : numpy.ndarray of shape (k,)
        The whole nested order, of which ``selected_idx_`` is the beginning.
    similarity_ : numpy.ndarray of shape (k,)
        Largest cosine similarity of each to all before it; NaN where nothing was before.
    outliers_ : numpy.ndarray
        Positions of the rows that the gate left out, the most lonely first; empty without a gate.
    selection_ : Selection
        Everything: reasons, warnings, what was set aside.
    n_features_in_ : int
        Number of columns.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 0.0], [0.9, 0.2], [0.8, 0.4], [0.0, 1.0]])
    >>> curator = Curator(method="coverage", budget=2).fit(X)
    >>> curator.get_support().tolist()
    [False, False, True, True]
    >>> curator.transform(X).tolist()
    [[0.8, 0.4], [0.0, 1.0]]
    """

    def __init__(
        self,
        *,
        method: str = DEFAULT,
        budget: Amount = "10%",
        max_per_group: int | None = None,
        start: Amount | None = None,
        stop_similarity: float | None = None,
        quotas: Mapping[str, Amount] | None = None,
        outlier_gate: OutlierGate | None = None,
        centre: bool = False,
        neighbours: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.method = method
        self.budget = budget
        self.max_per_group = max_per_group
        self.start = start
        self.stop_similarity = stop_similarity
        self.quotas = quotas
        self.outlier_gate = outlier_gate
        self.centre = centre
        self.neighbours = neighbours
        self.random_state = random_state

    def fit(
        self,
        X: Any,  # noqa: ANN401 - whatever scikit-learn takes for a table
        y: object = None,
        *,
        groups: Sequence[object] | np.ndarray | None = None,
        patients: Sequence[object] | np.ndarray | None = None,
        strata: Sequence[object] | np.ndarray | None = None,
        preselected: Sequence[int] | np.ndarray = (),
    ) -> Self:
        """Choose rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Embedding. Rows of zeros are set aside.
        y
            Ignored; there for scikit-learn.
        groups, patients, strata : array-like of shape (n_samples,)
            What each row belongs to.
        preselected
            Positions of rows that are labelled already.

        Returns
        -------
        Curator
            Itself.

        Raises
        ------
        ValueError
            If ``X`` is no table of finite numbers (scikit-learn's message).
        UsageError
            As `select`.
        """
        values = validate_data(self, X, dtype=[np.float64, np.float32])
        taken = positions_of(preselected, n=len(values), ids=None)
        self.selection_: Selection = select(
            values,
            budget=count_of(self.budget, len(values)),
            method=self.method,
            groups=groups,
            patients=patients,
            strata=strata,
            quotas=self.quotas,
            max_per_group=self.max_per_group,
            preselected=taken,
            start=self.start,
            stop_similarity=self.stop_similarity,
            outlier_gate=self.outlier_gate,
            centre=self.centre,
            neighbours=self.neighbours,
            draws=0,
            seed=self.random_state,
        )
        self.selected_idx_ = self.selection_.chosen
        self.ranking_ = self.selection_.ranking.order
        self.similarity_ = self.selection_.ranking.similarity
        listed = self.selection_.outliers
        self.outliers_ = np.empty(0, dtype=np.int64) if listed is None else listed.position
        self._rows = len(values)
        return self

    def get_support(self, indices: bool = False) -> np.ndarray:
        """Return which rows were chosen: a mask, or their positions in rising order."""
        check_is_fitted(self)
        if indices:
            return np.sort(self.selected_idx_)
        mask = np.zeros(self._rows, dtype=bool)
        mask[self.selected_idx_] = True
        return mask

    def transform(self, X: Any) -> np.ndarray:  # noqa: ANN401 - as in fit
        """Return the chosen rows of the table that was fitted, in their order in the table.

        Raises
        ------
        ValueError
            If ``X`` has another shape than what was fitted.
        """
        check_is_fitted(self)
        values = validate_data(self, X, dtype=None, reset=False)
        if len(values) != self._rows:
            raise ValueError(
                f"X has {len(values)} rows, and {self._rows} were fitted. Give the same table: "
                "rows were chosen, so that there is nothing to choose in another one."
            )
        chosen: np.ndarray = values[self.get_support()]
        return chosen

    def fit_transform(self, X: Any, y: object = None, **labels: Any) -> np.ndarray:  # noqa: ANN401
        """Fit and return the chosen rows."""
        return self.fit(X, y, **labels).transform(X)
