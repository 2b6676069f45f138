import errno
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from medglean.errors import Problem, RunFolderError
from medglean.measure.intervals import Interval
from medglean.runs import report as module
from medglean.runs.report import RESEARCH_ONLY, Figure, Metric, Report, Table

PNG = b"\x89PNG\r\n\x1a\nnot really"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
HOSTILE = "<script>alert('x')</script> \" onload=y {{ 7*7 }} \u202egpj.exe"


class Page(HTMLParser):
    """Collects tags, their attributes and the text, and checks that tags close."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(" ".join(data.split()))

    @property
    def text(self):
        return " ".join(word for word in self.words if word)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def make(**changes):
    settings = {
        "title": "cxr-small on phantoms",
        "sentence": "Tells opacity from none.",
        "metrics": [
            Metric("AUROC", 0.9912, low=0.984, high=0.9957, n=320, groups=268),
            Metric("Macro AUROC", float("nan"), n=320, note="class flu has no images"),
        ],
        "tables": [
            Table("Per class", ["Class", "Images", "F1"], [["a", 1200, 0.98765], ["b", 0, None]])
        ],
        "figures": [
            Figure("ROC", "Sensitivity.", SVG, "svg"),
            Figure("Wrong", "Sure.", PNG, "png", alt="Four X-rays", section="examples"),
            Figure("Loss", "Falls.", SVG, "svg", section="training"),
        ],
        "problems": [Problem("a.png", "found nothing.", "Replace it.", row=3, column="image")],
        "warnings": ["One class has one image."],
        "done": {"optimizer": {"learning_rate": 1e-4}, "flip": True, "seed": 12345},
        "data": {"manifest": "data.parquet"},
        "provenance": {
            "torch": {"version": "2.15", "devices": [{"name": "X"}], "tpus": []},
            "packages": {f"p{number}": f"{number}.0" for number in range(12)},
        },
        "created": "2026-01-02T03:04:05Z",
    }
    return Report(**{**settings, **changes})


def test_the_terminal_line_is_that_of_the_headline():
    assert make(problems=[]).summary() == (
        "AUROC 0.991 (95 % CI 0.984-0.996, 320 images, 268 patients)"
    )
    assert make().summary().endswith("268 patients); 1 problem")
    assert make(metrics=[], problems=[]).summary() == "Tells opacity from none."


def test_a_metric_takes_over_an_interval():
    interval = Interval(0.5, 0.4, 0.6, 0.9, 40, 20, 1999, 1, "1 of 2000 resamples dropped")

    metric = Metric.of("Accuracy", interval, group_name="clips")

    assert metric.text() == "Accuracy 0.500 (90 % CI 0.400-0.600, 40 images, 20 clips)"
    assert metric.note == "1 of 2000 resamples dropped"
    assert Metric("Rate", 12.0, "images/s").text() == "Rate 12.000 images/s"
    nothing = Metric("AUROC", float("nan"), low=float("nan"), high=float("nan"), n=3)
    assert nothing.text() == "AUROC n/a (3 images)"


def test_the_page_holds_every_part(tmp_path):
    file = make().write(tmp_path / "Bericht ö")
    page = Page(file.read_text(encoding="utf-8"))

    for expected in (
        RESEARCH_ONLY,
        "Tells opacity from none.",
        "0.991",
        "95 % CI 0.984-0.996",
        "320 images, 268 patients",
        "class flu has no images",
        "1,200",
        "0.988",
        "a.png, row 3, column image",
        "Replace it.",
        "One class has one image.",
        "optimizer: learning_rate 0.0001",
        "flip yes",
        "seed 12345",
        "torch: devices 1: name X",
        "torch: tpus none",
        "packages p0 0.0, p1 1.0,",
        "data.parquet",
    ):
        assert expected in page.text, expected
    assert page.text.count(RESEARCH_ONLY) == 2
    assert [a["id"] for a in page.all("h2")] == [
        "results",
        "training",
        "examples",
        "done",
        "problems",
        "environment",
    ]


def test_the_page_needs_no_network_and_no_script(tmp_path):
    text = make().write(tmp_path).read_text()
    page = Page(text)

    assert not {"script", "link", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    assert all(a["src"].startswith("data:image/") for a in page.all("img"))
    assert all(a["href"].startswith("#") for a in page.all("a"))
    assert "http" not in re.sub(r"http-equiv", "", text)
    policy = next(a["content"] for a in page.all("meta") if "http-equiv" in a)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_the_page_can_be_read_aloud(tmp_path):
    page = Page(make().write(tmp_path).read_text())

    assert page.all("html")[0]["lang"] == "en"
    assert [a["alt"] for a in page.all("img")] == [
        "ROC. Sensitivity.",
        "Loss. Falls.",
        "Four X-rays",
    ]
    assert {a.get("scope") for a in page.all("th")} == {"row", "col"}
    assert len(page.all("caption")) == len(page.all("table"))
    targets = {a["id"] for _, a in page.tags if "id" in a}
    assert {a["href"][1:] for a in page.all("a")} <= targets


def test_hostile_text_stays_text(tmp_path):
    hostile = make(
        title=HOSTILE,
        sentence=HOSTILE,
        metrics=[Metric(HOSTILE, 0.5, HOSTILE, n=1, note=HOSTILE, group_name=HOSTILE, groups=1)],
        tables=[Table(HOSTILE, [HOSTILE, "x"], [[HOSTILE, HOSTILE]], HOSTILE)],
        figures=[Figure(HOSTILE, HOSTILE, PNG, "png", alt=HOSTILE)],
        problems=[Problem(HOSTILE, HOSTILE, HOSTILE, column=HOSTILE)],
        warnings=[HOSTILE],
        done={HOSTILE: HOSTILE},
        data={HOSTILE: [HOSTILE]},
        provenance={HOSTILE: {HOSTILE: HOSTILE}},
    )
    text = hostile.write(tmp_path).read_text(encoding="utf-8")
    page = Page(text)

    assert "<script" not in text
    assert "\u202e" not in text
    assert "49 " not in page.text
    assert not any("onload" in attributes for _, attributes in page.tags)
    assert page.text.count("<script>alert('x')</script>") >= 15
    assert page.all("img")[0]["alt"].startswith("<script>alert('x')</script> \" onload")


def test_a_file_name_that_is_no_text_is_written_all_the_same(tmp_path):
    name = b"bad\xff.png".decode("utf-8", errors="surrogateescape")

    make(problems=[Problem(name, "found nothing.", "Replace it.")]).write(tmp_path)

    assert "bad?.png" in (tmp_path / "report.html").read_text()
    assert "bad?.png" in (tmp_path / "problems.csv").read_text()


def test_the_json_has_the_same_numbers_and_null_for_nan(tmp_path):
    make().write(tmp_path)
    read = json.loads((tmp_path / "report.json").read_text())

    assert read["metrics"][0]["value"] == 0.9912
    assert read["metrics"][0]["groups"] == 268
    assert read["metrics"][1]["value"] is None
    assert read["tables"][0]["rows"] == [["a", 1200, 0.98765], ["b", 0, None]]
    assert read["problems"][0]["file"] == "a.png"
    assert read["summary"] == make().summary()
    assert read["notice"] == RESEARCH_ONLY
    assert read["done"]["optimizer"]["learning_rate"] == 1e-4
    assert [figure["title"] for figure in read["figures"]] == ["ROC", "Wrong", "Loss"]


def test_long_lists_of_problems_go_on_in_a_file(tmp_path):
    many = [Problem(f"{number}.png", "found nothing.", "Replace it.") for number in range(1203)]
    make(problems=many).write(tmp_path)
    page = Page((tmp_path / "report.html").read_text())

    assert f"{module.SHOWN_PROBLEMS - 1}.png" in page.text
    assert f" {module.SHOWN_PROBLEMS}.png" not in page.text
    assert "The first 50 are shown; all 1,203 are in problems.csv" in page.text
    assert len(pd.read_csv(tmp_path / "problems.csv")) == 1203


def test_an_empty_report_says_so(tmp_path):
    page = Page(Report("Nothing", "Nothing was done.").write(tmp_path).read_text())

    assert "No number was measured." in page.text
    assert "Problems met None." in page.text
    assert [a["id"] for a in page.all("h2")] == ["results", "problems"]
    assert not (tmp_path / "problems.csv").exists()


def test_numpy_numbers_are_shown_and_aligned(tmp_path):
    rows = [["a", np.int64(3), np.float64(0.5), "0.951 (0.932-0.970)", "3 cats", True]]
    table = Table("T", ["name", "n", "f", "ci", "text", "yes"], rows)
    page = Page(make(tables=[table], problems=[]).write(tmp_path).read_text())

    cells = page.all("td")[:5]
    assert [a.get("class") for a in cells] == ["number", "number", "number", None, None]
    assert "a 3 0.500 0.951 (0.932-0.970) 3 cats yes" in page.text


def test_a_crooked_table_is_refused():
    with pytest.raises(ValueError, match="table 'T': expected 2 cells per row, found 1"):
        Table("T", ["a", "b"], [["x"]])


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "write_bytes", full)
    with pytest.raises(RunFolderError, match="the disk is full"):
        make().write(tmp_path)


def test_a_table_as_text():
    table = Table("Beside random", ["Measure", "Ours", "Random"], [["coverage", 0.5, None]])

    assert table.lines() == ["Beside random:", "  coverage: Ours 0.500; Random n/a"]
