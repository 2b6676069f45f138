"""The README's way on real lung ultrasound clips, where they are at hand."""

import pandas as pd
import pytest

from medglean import api
from medglean.data.index import index


@pytest.fixture(scope="module")
def clips(real_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pocus")
    index(real_data("us_pocus_clips"), out=folder / "pocus.parquet")
    return folder


def test_forty_five_frames_are_of_forty_five_clips_and_cover_more_than_random(clips):
    report = api.curate(clips / "pocus.parquet", budget=45, out=clips / "run")

    chosen = pd.read_csv(clips / "run" / "selected.csv")
    assert chosen["group"].nunique() == 45
    assert chosen["patient"].nunique() > 30
    beside = next(table for table in report.tables if table.title.startswith("Beside"))
    mine, random = beside.rows[0][1], float(str(beside.rows[0][2]).split()[0])
    assert mine > random + 0.02
    assert len(pd.read_csv(clips / "run" / "outliers.csv")) <= 0.02 * 1820


def test_neighbouring_frames_are_redundant_and_clips_are_not(clips):
    pairs = pd.read_csv(clips / "run" / "duplicates.csv")

    assert pairs["same_group"].mean() > 0.95
    assert (pairs["similarity"] >= 0.95).all()
