"""The pages' own runner, and the commands that the pages show but do not run."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from medglean.cli import app
from medglean.curate.methods.table import SUMMARY

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)


def load_runner():
    spec = importlib.util.spec_from_file_location("page_runner", ROOT / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


runner = load_runner()


def shown_commands():
    """Yield a page's name and the words of each medglean command in its console blocks."""
    for page in PAGES:
        for block in CONSOLE.findall(page.read_text()):
            for command, _ in runner.console_steps(block):
                words = shlex.split(command)
                if words[0] == "medglean":
                    yield pytest.param(words[1:], id=f"{page.name}: {command}")


@pytest.mark.parametrize("words", list(shown_commands()))
def test_command_on_a_page_exists_with_its_options(words):
    verb, *rest = words
    commands = typer.main.get_command(app).commands
    assert verb in commands

    with commands[verb].make_context(verb, rest):  # refuses what it does not know, runs nothing
        pass


def test_steps_of_a_console_block():
    block = "$ ls \\\n    -a\n.\n..\n$ pwd\n"

    assert list(runner.console_steps(block)) == [("ls -a", ".\n..\n"), ("pwd", "")]


def python(code):
    """Return a command line that runs code in the interpreter that runs the tests."""
    return f"$ {shlex.quote(sys.executable)} -c {shlex.quote(code)}"


@pytest.mark.parametrize(
    "block",
    [
        python("print('one two')") + "\none ...\n",
        python("raise SystemExit(3)") + "\n$ echo $?\n3\n",
    ],
)
def test_a_true_console_block_passes(block):
    assert runner.run_console(SimpleNamespace(parsed=block)) is None


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        (python("print('one two')") + "\nthree\n", "found:\none two"),
        (python("raise SystemExit(3)") + "\n", "exit status 3"),
        (python("raise SystemExit(3)") + "\n$ echo $?\n4\n", "exit status 3, the page says 4"),
        (python("pass") + "\n$ echo $?\n3\n", "exit status 0, the page says 3"),
        ("just text\n", "no line of this console block"),
    ],
)
def test_a_false_console_block_fails(block, fault):
    assert fault in runner.run_console(SimpleNamespace(parsed=block))


def test_only_a_reason_leaves_a_block_out(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- not run: needs a GPU -->\n```python\n1 / 0\n```\n\n"
        "<!-- not run: -->\n```python\nx = 1\n```\n\n"
        "text\n\n```python\ny = 2\n```\n"
    )

    document = runner.pages.parse(page)

    assert [str(example.parsed) for example in document.examples()] == ["x = 1\n", "y = 2\n"]


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text()
    named = set(re.findall(r": ([\w/-]+\.md)$", text, re.MULTILINE))
    present = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}

    assert present <= named


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_outside_the_built_pages_lead_somewhere(page):
    text = (ROOT / page).read_text()
    links = re.findall(r"\]\(([^)#]+)", text)

    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]

    assert not missing


def test_every_page_and_docstring_with_an_example_is_looked_at():
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    modules = list((ROOT / "src").rglob("*.py"))
    places = [runner.pages, runner.docs, runner.docstrings]

    missed = [p for p in [*pages, *modules] if sum(s.should_parse(p) for s in places) != 1]

    assert modules
    assert not missed
    assert not any(place.should_parse(Path(__file__)) for place in places)


def test_page_lists_every_method_with_its_summary():
    text = (ROOT / "docs" / "how-to" / "curate.md").read_text()

    rows = re.findall(r"^\| `([\w-]+)` \| (.+) \|$", text, re.MULTILINE)

    assert dict(rows) == SUMMARY
