"""Rules about the repository itself: what its files may say, and that they agree."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import medglean

pytestmark = pytest.mark.house

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).relative_to(ROOT).as_posix()
PRESETS = "src/medglean/presets"
MAX_FILE_BYTES = 500_000
MAX_MODULE_LINES = 400

# What no file may say, with the reason that the failure gives. This file is the one exception.
FORBIDDEN = {
    "a path of one machine": re.compile(
        rf"(?<![\w.~}}/-])(?:{re.escape(str(Path.home()))}|{re.escape(str(ROOT))})/"
    ),
    "the address of a package index or of a download": re.compile(
        r"pypi\.org/simple|pythonhosted\.org|download\.pytorch\.org|--(?:extra-)?index-url|"
        r"--find-links",
        re.IGNORECASE,
    ),
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"),
}
# Real images are found by MEDGLEAN_DATA, or beside the repository: only tests and benches look.
REAL_DATA = re.compile(r"\bshared[\"'/]")


def tracked_files() -> list[Path]:
    """Return the files that git keeps, as they are on disk."""
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in done.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def tracked_texts() -> dict[str, str]:
    """Return the text of each tracked file that is text, by its name in the repository."""
    texts = {}
    for path in tracked_files():
        data = path.read_bytes()
        if b"\0" not in data:
            texts[path.relative_to(ROOT).as_posix()] = data.decode()
    return texts


def read_pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins() -> dict[str, Version]:
    """Return the version of each package that constraints.txt fixes."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("rule", FORBIDDEN)
def test_no_file_says(rule):
    found = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in tracked_texts().items()
        if name != HERE
        for number, line in enumerate(text.splitlines(), start=1)
        if FORBIDDEN[rule].search(line)
    ]

    assert not found, f"{rule}:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ("a path of one machine", f"cache = '{ROOT}/cache'"),
        ("a path of one machine", f"see {Path.home()}/scans/1.dcm"),
        ("the address of a package index or of a download", "https://pypi.org/simple"),
    ],
)
def test_rules_catch_what_they_are_for(rule, line):
    assert FORBIDDEN[rule].search(line)
    assert not FORBIDDEN[rule].search("docs/work/plan.md: images under ~/scans/tmp/")


def test_only_tests_and_benches_look_for_real_images_beside_the_repository():
    found = [
        name
        for name, text in tracked_texts().items()
        if name.split("/")[0] not in {"tests", "bench"} and REAL_DATA.search(text)
    ]

    assert not found


def test_files_are_small():
    sizes = {path: path.stat().st_size for path in tracked_files()}
    large = {str(path): size for path, size in sizes.items() if size > MAX_FILE_BYTES}

    assert not large


def test_modules_do_one_thing():
    lengths = {
        name: text.count("\n")
        for name, text in tracked_texts().items()
        if name.endswith(".py") and name.startswith("src/")
    }
    long = {name: count for name, count in lengths.items() if count > MAX_MODULE_LINES}

    if long:  # a question to the author, not a fault
        pytest.xfail(f"over {MAX_MODULE_LINES} lines; what second thing do they do? {long}")


def test_import_loads_nothing_heavy():
    code = "import sys, medglean; print(*sys.modules)"

    loaded = set(run_python(code).split())

    assert "medglean" in loaded
    assert loaded.isdisjoint({"torch", "pandas", "numpy", "pydicom", "matplotlib"})


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from medglean.cli import run; status = run(['--help']);"
        "print('modules:', *sys.modules); sys.exit(status)"
    )

    shown, _, loaded = run_python(code).partition("modules:")

    assert "train" in shown
    assert set(loaded.split()).isdisjoint({"torch", "pandas", "numpy", "scipy", "pydicom"})


@pytest.mark.parametrize("name", [name for name in medglean.__all__ if name != "__version__"])
def test_public_name_can_be_imported(name):
    value = getattr(medglean, name)

    assert value.__module__.startswith("medglean.")
    assert value.__doc__


def test_public_names_are_what_dir_shows():
    assert dir(medglean) == sorted(medglean.__all__)
    with pytest.raises(AttributeError, match="no attribute 'diagnose'"):
        medglean.diagnose  # noqa: B018


def test_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())

    assert read_pyproject()["project"]["version"] == medglean.__version__
    assert citation["version"] == medglean.__version__


def test_citation_names_the_four_papers_and_the_stained_pairs():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())

    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == "Apache-2.0"
    assert [reference["year"] for reference in citation["references"]] == [
        2023,
        2022,
        2022,
        2024,
        2022,
    ]
    assert {reference.get("doi") for reference in citation["references"]} >= {
        "10.1093/jamia/ocad055",
        "10.1007/978-3-031-16452-1_4",
    }


def test_changelog_tells_of_this_version_or_the_next():
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert headings
    assert headings[0] in {"Unreleased", medglean.__version__}


def test_constraints_are_exact_versions_and_nothing_else():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    wrong = [
        line
        for line in lines
        if not line.startswith("#") and not re.fullmatch(r"[\w.-]+==[\w.!+]+", line)
    ]

    assert not wrong
    assert "medglean" not in pins()
    assert "+" not in str(pins()["torch"])  # a local version is of one index only


def test_every_dependency_is_pinned_within_its_bounds():
    project = read_pyproject()["project"]
    extras = project["optional-dependencies"].values()
    stated = [*project["dependencies"], *(line for lines in extras for line in lines)]
    fixed = pins()

    for requirement in map(Requirement, stated):
        assert fixed[canonicalize_name(requirement.name)] in requirement.specifier, requirement


@pytest.mark.parametrize(("name", "version"), [("torch", "2.11.0"), ("torchvision", "0.26.0")])
def test_an_older_torch_is_allowed(name, version):
    stated = {
        requirement.name: requirement
        for requirement in map(Requirement, read_pyproject()["project"]["dependencies"])
    }

    assert stated[name].specifier.contains(version)


def preset_models():
    from medglean.anomaly.settings import AnomalyPreset
    from medglean.classify.settings import ClassifyPreset
    from medglean.classify.study.settings import CxrStudyPreset
    from medglean.curate.settings import CuratePreset
    from medglean.curate.study.settings import EnrichStudyPreset
    from medglean.stain.settings import StainPreset

    return {
        "anomaly": AnomalyPreset,
        "classify": ClassifyPreset,
        "classify-study": CxrStudyPreset,
        "curate": CuratePreset,
        "enrich-study": EnrichStudyPreset,
        "stain": StainPreset,
    }


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / PRESETS).glob("*.toml")))
def test_preset_can_be_read_and_names_itself(name):
    from medglean.runs.preset import load_preset

    table = tomllib.loads((ROOT / PRESETS / f"{name}.toml").read_text())
    if "task" not in table:
        table = tomllib.loads((ROOT / PRESETS / f"{table['inherits']}.toml").read_text())
    preset = load_preset(name, preset_models()[table["task"]])

    assert preset.name == name
    assert preset.summary
    assert preset.source.paper or name.startswith("cxr-")
    assert bool(preset.expected.values) == bool(preset.expected.command)


def test_py_typed_is_there():
    assert (ROOT / "src/medglean/py.typed").is_file()


def test_make_refuses_a_python_that_is_not_there(tmp_path):
    done = subprocess.run(
        ["make", "--no-print-directory", "install", "PYTHON=no-such-python", f"VENV={tmp_path}/v"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode != 0
    assert "medglean needs Python 3.11 or newer, and no-such-python is not." in done.stderr
    assert not (tmp_path / "v").exists()


def test_make_does_not_install_again_what_is_ready(tmp_path):
    for name in (".ready", ".ready-dev"):
        (tmp_path / name).touch()

    done = subprocess.run(
        ["make", "--no-print-directory", "install", "install-dev", f"VENV={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert "Nothing to be done" in done.stdout
