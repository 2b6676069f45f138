import numpy as np
import pandas as pd
import pytest

from medglean.curate.embed.arrays import read_arrays
from medglean.errors import EmbeddingError

IDS = ("a", "b", "c")
VALUES = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=np.float32)


def npz(folder, ids=IDS, values=VALUES, **more):
    path = folder / "made.npz"
    np.savez(path, ids=np.array(ids), embeddings=np.asarray(values), **more)
    return path


def parquet(folder, columns):
    path = folder / "made.parquet"
    pd.DataFrame(columns).to_parquet(path)
    return path


def test_npz_is_matched_by_id_and_another_order_is_told(tmp_path):
    found = read_arrays(npz(tmp_path, ("c", "a", "b"), VALUES[[2, 0, 1]]), IDS)

    np.testing.assert_array_equal(found.values, VALUES)
    assert found.values.dtype == np.float32
    (problem,) = found.problems
    assert "another order" in problem.found
    assert "matched by id" in problem.remedy
    assert not problem.fatal


def test_the_same_order_is_not_told(tmp_path):
    assert read_arrays(npz(tmp_path), IDS).problems == ()


def test_numbers_as_ids_are_text(tmp_path):
    found = read_arrays(npz(tmp_path, np.array([7, 8, 9])), ("9", "8", "7"))

    np.testing.assert_array_equal(found.values, VALUES[::-1])


@pytest.mark.parametrize("kind", ["lists", "columns"])
def test_parquet_of_lists_and_of_columns(tmp_path, kind):
    columns = {"id": ["b", "a", "c"]}
    if kind == "lists":
        columns["vector"] = [[3.0, 4.0], [1.0, 2.0], [5.0, 6.0]]
    else:
        columns |= {"x": [3.0, 1.0, 5.0], "y": [4, 2, 6]}

    found = read_arrays(parquet(tmp_path, columns), IDS)

    np.testing.assert_array_equal(found.values, VALUES)


def test_npy_needs_to_be_told_that_it_is_in_the_manifests_order(tmp_path):
    path = tmp_path / "made.npy"
    np.save(path, VALUES)

    with pytest.raises(EmbeddingError, match=r"made\.npy: an .npy has no ids.*in_manifest_order"):
        read_arrays(path, IDS)
    np.testing.assert_array_equal(read_arrays(path, IDS, in_manifest_order=True).values, VALUES)
    with pytest.raises(EmbeddingError, match="3 embeddings, and the manifest has 2 images"):
        read_arrays(path, IDS[:2], in_manifest_order=True)


def test_missing_ids_are_listed_ten_at_most_and_counted(tmp_path):
    wanted = (*IDS, *(f"new{number:02d}" for number in range(12)))

    with pytest.raises(EmbeddingError) as caught:
        read_arrays(npz(tmp_path), wanted)

    text = str(caught.value)
    assert "made.npz: no embedding for 12 of the manifest's 15 images" in text
    assert "'new00', 'new01'" in text
    assert "'new09' and 2 more" in text
    assert "new10" not in text


def test_extra_ids_are_refused_unless_allowed(tmp_path):
    path = npz(tmp_path)

    with pytest.raises(EmbeddingError, match=r"1 embeddings are of ids .* lacks: 'b'.*allow_extra"):
        read_arrays(path, ("a", "c"))
    found = read_arrays(path, ("a", "c"), allow_extra=True)
    np.testing.assert_array_equal(found.values, VALUES[[0, 2]])
    assert "'b'" in found.problems[0].found


def test_repeated_ids_are_refused(tmp_path):
    with pytest.raises(EmbeddingError, match="1 ids occur more than once: 'a'"):
        read_arrays(npz(tmp_path, ("a", "a", "b")), ("a", "b"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_name_the_file_and_the_id(tmp_path, bad):
    values = VALUES.copy()
    values[1, 0] = bad

    with pytest.raises(EmbeddingError, match=r"made\.npz: 1 of 3 embeddings hold NaN .*: 'b'"):
        read_arrays(npz(tmp_path, IDS, values), IDS)


def test_numbers_beyond_32_bits_are_refused_rather_than_made_infinite(tmp_path):
    values = VALUES.astype(np.float64)
    values[2, 1] = 1e300

    with pytest.raises(EmbeddingError, match=r"32-bit numbers: 1 of 3 .*: 'c'"):
        read_arrays(npz(tmp_path, IDS, values), IDS)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.zeros(3), r"shape \(3,\), expected \(n, d\)"),
        (np.zeros((3, 2, 1)), r"shape \(3, 2, 1\), expected"),
        (np.zeros((3, 0)), r"shape \(3, 0\), expected"),
        (np.array([["x", "y"]] * 3), "of type <U1, expected real numbers"),
        (np.zeros((3, 2), dtype=complex), "complex128, expected real numbers"),
        (np.zeros((4, 2)), r"'ids' has shape \(3,\), expected \(4,\)"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused(tmp_path, values, told):
    with pytest.raises(EmbeddingError, match=told):
        read_arrays(npz(tmp_path, IDS, values), IDS)


def test_pickled_objects_are_never_loaded(tmp_path):
    path = npz(tmp_path, values=np.array([[{"a": 1}, 2]] * 3, dtype=object))
    with pytest.raises(EmbeddingError, match="unpickled are refused"):
        read_arrays(path, IDS)
    alone = tmp_path / "made.npy"
    np.save(alone, np.array([[{"a": 1}]], dtype=object))
    with pytest.raises(EmbeddingError, match="unpickled are refused"):
        read_arrays(alone, IDS, in_manifest_order=True)


@pytest.mark.parametrize("name", ["made.npz", "made.npy", "made.parquet"])
def test_a_damaged_file_is_named(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"not what its name says")

    with pytest.raises(EmbeddingError, match=rf"{name}: not a readable"):
        read_arrays(path, IDS, in_manifest_order=True)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(EmbeddingError, match=r"nothing\.npz: no such file"):
        read_arrays(tmp_path / "nothing.npz", IDS)
    path = tmp_path / "made.csv"
    path.write_text("id,x\n")
    with pytest.raises(EmbeddingError, match=r"from \.npy, \.npz and \.parquet, not from '\.csv'"):
        read_arrays(path, IDS)
    other = tmp_path / "other.npz"
    np.savez(other, features=VALUES)
    with pytest.raises(EmbeddingError, match=r"arrays \['features'\], expected 'ids'"):
        read_arrays(other, IDS)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"name": ["a"], "x": [1.0]}, r"columns \['name', 'x'\], expected 'id'"),
        ({"id": ["a"], "x": [1.0], "site": ["s"]}, r"\['site'\] are not numbers"),
        ({"id": ["a"]}, "none are not numbers"),
        ({"id": ["a"], "u": [[1.0]], "v": [[2.0]]}, r"lists \['u', 'v'\], expected one"),
        (
            {"id": list("abcd"), "v": [[1.0, 2.0], [1.0], [3.0, 4.0], [1.0, 2.0, 3.0]]},
            "lists of 2 numbers, and 2 of another length: 'b', 'd'",
        ),
        ({"id": ["a", "b"], "v": [[1.0, None], [1.0, 2.0]]}, "1 of 2 .*NaN or infinity.*: 'a'"),
        ({"id": ["a", "b"], "x": [1.0, None]}, "1 of 2 .*NaN or infinity.*: 'b'"),
        ({"id": ["a"], "v": [["x"]]}, "expected real numbers"),
    ],
)
def test_parquet_that_does_not_fit(tmp_path, columns, told):
    with pytest.raises(EmbeddingError, match=told):
        read_arrays(parquet(tmp_path, columns), tuple(columns.get("id", ["a"])))
