import json

import numpy as np
import pytest

from medglean.errors import Problem, UsageError
from medglean.runs import tables


def test_json_has_neither_nan_nor_numpy():
    value = {"a": np.float32("nan"), "b": np.arange(2), "c": [float("inf"), None, True, 3]}

    assert json.dumps(tables.json_ready(value), allow_nan=False) == (
        '{"a": null, "b": [0, 1], "c": [null, null, true, 3]}'
    )


def test_problems_are_rows_with_quotes_where_needed():
    text = tables.problems_csv([Problem('a "b",c.png', "found,", "do", row=2, column="x")])

    assert text == (
        'file,row,column,kind,found,remedy,fatal\n"a ""b"",c.png",2,x,problem,"found,",do,True\n'
    )


def test_numbers_for_people():
    assert tables.format_value(0.98765) == "0.988"
    assert tables.format_value(12345) == "12,345"
    assert tables.format_value(None) == "n/a"
    assert tables.format_interval(0.1234, 0.5678, digits=2) == "0.12-0.57"
    assert tables.format_interval(-0.1, 0.2) == "-0.100 to 0.200"
    assert tables.format_interval(float("nan"), 0.2) == "n/a"


def test_results_carry_their_command():
    table = tables.results_table(
        [
            {
                "name": "AUROC | test",
                "value": 0.99123,
                "low": 0.984,
                "high": 0.9961,
                "n": 1320,
                "groups": 268,
                "command": "medglean study x",
                "machine": "2 CPU cores",
            },
            {"name": "Rate", "value": 12.0, "unit": "images/s", "command": "bench"},
        ]
    )

    rows = table.splitlines()
    assert rows[1] == "|---|---|---|---:|---:|---:|---|---|---|"
    assert rows[2] == (
        "| AUROC \\| test | 0.991 |  | 0.984-0.996 | 1,320 | 268 | `medglean study x` "
        "| 2 CPU cores |  |"
    )
    assert rows[3] == "| Rate | 12.000 images/s |  | n/a | n/a | n/a | `bench` |  |  |"


def test_a_number_without_its_command_is_refused():
    with pytest.raises(UsageError, match="result 'AUROC': command missing"):
        tables.results_table([{"name": "AUROC", "value": 0.99}])


def test_a_block_is_added_then_replaced_and_the_rest_is_kept(tmp_path):
    page = tmp_path / "results.md"
    page.write_text("# Results\n\nText.\n")
    tables.update_block(page, "one", "first")
    tables.update_block(page, "two", "second")
    page.write_text(page.read_text() + "\nAfter.\n")
    tables.update_block(page, "one", "changed\n")

    assert page.read_text() == (
        "# Results\n\nText.\n\n<!-- results:one -->\n\nchanged\n\n<!-- /results:one -->\n\n"
        "<!-- results:two -->\n\nsecond\n\n<!-- /results:two -->\n\nAfter.\n"
    )
    before = page.read_text()
    tables.update_block(page, "one", "changed")
    assert page.read_text() == before


def test_a_new_page_holds_the_block_alone(tmp_path):
    tables.update_block(tmp_path / "new.md", "a", "x")

    assert (tmp_path / "new.md").read_text() == "<!-- results:a -->\n\nx\n\n<!-- /results:a -->\n"


@pytest.mark.parametrize(
    "text",
    ["<!-- results:a -->", "<!-- /results:a -->\n<!-- results:a -->", "<!-- results:a -->\n" * 2],
)
def test_broken_markers_are_told_and_nothing_is_written(tmp_path, text):
    page = tmp_path / "results.md"
    page.write_text(text)

    with pytest.raises(UsageError, match="Mend the markers by hand"):
        tables.update_block(page, "a", "x")
    assert page.read_text() == text


def test_names_and_content_that_break_markers_are_refused(tmp_path):
    with pytest.raises(UsageError, match="only letters, digits"):
        tables.update_block(tmp_path / "x.md", "a -->", "x")
    with pytest.raises(UsageError, match="holds its own marker"):
        tables.update_block(tmp_path / "x.md", "a", "<!-- /results:a -->")
