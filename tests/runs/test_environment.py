import getpass
import json
import platform
import subprocess
from pathlib import Path

import numpy as np
import pytest

import medglean
from medglean.runs import environment


def test_tells_what_matters_and_not_whose_machine_it_is(monkeypatch):
    monkeypatch.setenv("MEDGLEAN_SECRET", "do-not-tell")
    described = environment.describe_environment(["medglean", f"{Path.home()}/a b.csv"])
    text = json.dumps(described)

    assert described["command"] == ["medglean", "~/a b.csv"]
    assert described["python"] == platform.python_version()
    assert described["packages"]["numpy"] == np.__version__
    assert described["medglean"]["version"] == medglean.__version__
    assert described["cpu"]["count"] >= 1
    assert described["memory_bytes"] is None or described["memory_bytes"] > 2**28
    assert described["torch"]["version"].split(".")[0] == "2"
    assert "do-not-tell" not in text
    assert str(Path.home()) + "/" not in text
    for private in (platform.node(), getpass.getuser()):
        if len(private) > 4:  # shorter ones occur inside ordinary words
            assert private not in text


def test_home_is_hidden_only_where_it_is_the_home(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: Path("/home/erika"))

    assert environment.without_home("--out=/home/erika/runs") == "--out=~/runs"
    assert environment.without_home("/home/erika") == "~"
    assert environment.without_home("/home/erikas/runs") == "/home/erikas/runs"
    monkeypatch.setattr(Path, "home", lambda: Path("/"))
    assert environment.without_home("/data/a") == "/data/a"


@pytest.fixture
def repository(tmp_path):
    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    package = tmp_path / "src" / "medglean"
    package.mkdir(parents=True)
    (package / "a.py").write_text("1")
    git("init")
    git("add", ".")
    git("commit", "-m", "x")
    return package


def test_the_commit_of_a_working_tree_is_told_with_its_changes(repository):
    clean = environment.git_commit(repository)

    assert len(clean) == 40
    (repository / "a.py").write_text("2")
    assert environment.git_commit(repository) == clean + "+changes"


def test_an_installed_package_has_no_commit_even_inside_a_repository(repository, tmp_path):
    installed = repository.parents[1] / ".venv" / "lib" / "medglean"
    installed.mkdir(parents=True)

    assert environment.git_commit(installed) is None
    assert environment.git_commit(tmp_path / "nowhere" / "src" / "medglean") is None
