"""Run what the documentation shows: Python blocks, console blocks and docstring examples.

Every page of README.md and docs/ is one story: its blocks share a namespace and run in one
temporary folder, from the top down. A block is left out only by a comment in front of it that
says why::

    <!-- not run: needs images that must be downloaded -->

In a console block a line that starts with ``$`` is run by bash; it must succeed, unless the block
goes on with ``$ echo $?`` and the status. Lines below a command are its output; where any are
given, all must fit (``...`` stands for anything).
"""

from __future__ import annotations

import contextlib
import doctest
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sybil import Document, Example, Region, Sybil
from sybil.document import PythonDocStringDocument
from sybil.evaluators.doctest import NUMBER, OutputChecker
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser
from sybil.sybil import SybilCollection
from sybil.typing import Parser

# Before torch or a BLAS is loaded, here and in every process that a test starts: two test processes
# share two cores, and sums over threads differ in their last bits.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

ROOT = Path(__file__).resolve().parent
COMMAND_SECONDS = 240
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS | NUMBER
NOT_RUN = re.compile(r"<!-- not run: [^>]+ -->\s*\Z")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Hold torch to one thread where a test has loaded it before the environment was set."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def settings_of_nobody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests away from the user's own files, such as the key of pseudonyms."""
    before = os.environ.get("XDG_CONFIG_HOME")
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("config"))
    yield
    if before is None:
        del os.environ["XDG_CONFIG_HOME"]
    else:
        os.environ["XDG_CONFIG_HOME"] = before


class UnlessSaid:
    """The blocks that a parser finds, but for those after a comment that says why not."""

    def __init__(self, parser: Parser) -> None:
        self.parser = parser

    def __call__(self, document: Document) -> Iterable[Region]:
        """Yield the blocks that are to be run."""
        for region in self.parser(document):
            if not NOT_RUN.search(document.text[: region.start]):
                yield region


def console_steps(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block with the output shown below it."""
    joined = re.sub(r"\\\n\s*", "", text)
    for part in re.split(r"^\$ ", joined, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command.strip(), output


def run_console(example: Example) -> str | None:
    """Run a console block; return what is wrong with it, or nothing."""
    status = 0
    steps = list(console_steps(str(example.parsed)))
    if not steps:
        return "no line of this console block starts with '$ '"
    environment = dict(os.environ, COLUMNS="100", TERM="dumb")
    scripts = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join([scripts, environment["PATH"]])
    for number, (command, wanted) in enumerate(steps):
        if command == "echo $?":
            if wanted.strip() != str(status):
                return f"exit status {status}, the page says {wanted.strip()}"
            continue
        done = subprocess.run(
            ["bash", "-c", command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        status = done.returncode
        says_so = number + 1 < len(steps) and steps[number + 1][0] == "echo $?"
        if status != 0 and not says_so:
            return f"$ {command}\nexit status {status}:\n{done.stdout}"
        if wanted.strip() and not OutputChecker().check_output(wanted, done.stdout, FLAGS):
            return f"$ {command}\nshown:\n{wanted}\nfound:\n{done.stdout}"
    return None


def enter_folder(namespace: dict[str, Any]) -> None:
    """Go to a temporary folder of this page's own."""
    folder = tempfile.mkdtemp(prefix="medglean-page-")
    namespace["_page"] = (Path.cwd(), folder)
    os.chdir(folder)


def leave_folder(namespace: dict[str, Any]) -> None:
    """Go back, and remove the folder."""
    before, folder = namespace.pop("_page")
    os.chdir(before)
    with contextlib.suppress(OSError):
        shutil.rmtree(folder)


def story(patterns: list[str], path: str = ".") -> Sybil:
    """Return what runs the pages below a folder that fit one of the patterns."""
    return Sybil(
        name="page",
        parsers=[
            UnlessSaid(PythonCodeBlockParser(doctest_optionflags=FLAGS)),
            UnlessSaid(CodeBlockParser(language="console", evaluator=run_console)),
        ],
        path=str(ROOT / path),
        patterns=patterns,
        setup=enter_folder,
        teardown=leave_folder,
    )


# A pattern of one part fits at any depth below its folder; `**` would stand for one folder only.
pages = story(["README.md", "CONTRIBUTING.md"])
docs = story(["*.md"], "docs")
docstrings = Sybil(
    name="docstring",
    parsers=[DocTestParser(optionflags=FLAGS)],
    path="src",
    patterns=["*.py"],
    document_types={".py": PythonDocStringDocument},
    setup=enter_folder,
    teardown=leave_folder,
)
pytest_collect_file = SybilCollection([pages, docs, docstrings]).pytest()
