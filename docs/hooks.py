"""Fill the parts of the pages that the code knows better: commands, presets, errors, modules.

A page asks for one with a comment such as ``<!-- generated: commands -->``. mkdocs calls
:func:`on_page_markdown` for every page.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import json
import pkgutil
import re
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel

MARK = re.compile(r"<!-- generated: (?P<what>[a-z]+)(?: (?P<name>[\w.-]+))? -->")
PRESETS = Path(__file__).resolve().parents[1] / "src/medglean/presets"


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace each mark by what it asks for."""

    def fill(mark: re.Match[str]) -> str:
        writer = WRITERS[mark["what"]]
        return writer(mark["name"]) if mark["name"] else writer()

    return MARK.sub(fill, markdown)


def write_commands() -> str:
    """Return a section for each command, from the same declarations that ``--help`` shows."""
    import typer

    from medglean.cli import app

    return "\n\n".join(_sections(typer.main.get_command(app), ("medglean",)))


# Typer exports no class of its commands, so they are asked for what they hold.
def _sections(command: Any, path: tuple[str, ...]) -> Iterator[str]:  # noqa: ANN401
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from _sections(inner, (*path, name))
        return
    title = " ".join(path[1:])
    words = [*path, *_usage(command)]
    lines = [f"## {title}", "", f"`{' '.join(words)}`", "", _paragraphs(command.help or ""), ""]
    rows = [_row(parameter) for parameter in command.params if not _is_help(parameter)]
    if rows:
        lines += ["| parameter | default | meaning |", "|---|---|---|", *rows]
    yield "\n".join(lines)


def _is_help(parameter: Any) -> bool:  # noqa: ANN401
    return "--help" in parameter.opts


def _usage(command: Any) -> Iterator[str]:  # noqa: ANN401
    if any(parameter.param_type_name == "option" for parameter in command.params):
        yield "[OPTIONS]"
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            name = (parameter.metavar or parameter.name or "").upper()
            name += "..." if parameter.nargs == -1 else ""
            yield name if parameter.required else f"[{name}]"


def _paragraphs(text: str) -> str:
    """Return help text as Markdown: an indented part becomes a block of code."""
    parts = inspect.cleandoc(text).replace("\b", "").split("\n\n")
    return "\n\n".join(f"```text\n{inspect.cleandoc(p)}\n```" if p[:1] == " " else p for p in parts)


def _row(parameter: Any) -> str:  # noqa: ANN401
    if parameter.param_type_name == "argument":
        name = f"`{(parameter.metavar or parameter.name).upper()}`"
    else:
        name = " ".join(f"`{option}`" for option in [*parameter.opts, *parameter.secondary_opts])
    kind = parameter.type_descriptor.annotation
    meaning = parameter.help or ""
    if isinstance(kind, type) and issubclass(kind, Enum):
        meaning += f" One of {', '.join(f'`{choice.value}`' for choice in kind)}."
    default = parameter.default
    if parameter.required:
        shown = "required"
    elif default is None or default is False or default in ((), []) or "UNSET" in repr(default):
        shown = ""
    else:
        shown = f"`{getattr(default, 'value', default)}`"
    return f"| {name} | {shown} | {meaning.replace('|', chr(92) + '|').strip()} |"


def _models() -> dict[str, type[BaseModel]]:
    """Return by its task what a preset may say."""
    from medglean.anomaly.settings import AnomalyPreset
    from medglean.classify.settings import ClassifyPreset
    from medglean.classify.study.settings import CxrStudyPreset
    from medglean.curate.settings import CuratePreset
    from medglean.curate.study.settings import EnrichStudyPreset
    from medglean.stain.settings import StainPreset

    models = (
        AnomalyPreset,
        ClassifyPreset,
        CuratePreset,
        CxrStudyPreset,
        EnrichStudyPreset,
        StainPreset,
    )
    return {model.model_fields["task"].default: model for model in models}


def _model_of(path: Path) -> type[BaseModel]:
    """Return what the preset of a file may say; an heir has its parent's task."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    if "task" not in table:
        return _model_of(PRESETS / f"{table['inherits']}.toml")
    return _models()[table["task"]]


def write_presets() -> str:
    """Return a section for each preset that comes with the package."""
    from medglean.runs.preset import load_preset

    sections = []
    for path in sorted(PRESETS.glob("*.toml")):
        source = load_preset(path, _model_of(path)).source  # with what it inherits
        lines = [f"## {path.stem}", "", f"From: {source.paper or 'our own'}.", ""]
        if source.deviations:
            lines += ["Departs from it:", "", *(f"- {line}" for line in source.deviations), ""]
        text = path.read_text(encoding="utf-8").strip()
        sections.append("\n".join([*lines, "```toml", text, "```"]))
    return "\n\n".join(sections)


def write_settings(task: str) -> str:
    """Return a table of every setting of a task's presets: key, default, meaning."""
    rows = _settings(_models()[task], "")
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])


def _settings(model: type[BaseModel], prefix: str) -> Iterator[str]:
    meanings = _attribute_docstrings(model)
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _settings(kind, f"{prefix}{name}.")
            continue
        default = field.get_default(call_default_factory=True)
        if field.is_required():
            shown = "required"
        elif default is None:
            shown = "none"
        else:
            shown = f"`{json.dumps(default, ensure_ascii=False)}`"
        meaning = meanings.get(name) or field.description or ""
        yield f"| `{prefix}{name}` | {shown} | {meaning.replace('|', chr(92) + '|')} |"


def _attribute_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Return the text below each field of a model and of the models that it extends."""
    found: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if owner.__module__.startswith("medglean."):
            (body,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
            for field, text in itertools.pairwise(getattr(body, "body", [])):
                match field, text:
                    case (
                        ast.AnnAssign(target=ast.Name(id=name)),
                        ast.Expr(value=ast.Constant(value=str(said))),
                    ):
                        found[name] = re.sub(r":\w+:|``", "`", " ".join(said.split())).replace(
                            "``", "`"
                        )
    return found


def write_errors() -> str:
    """Return the tree of errors with their exit status, from the classes themselves."""
    from medglean.errors import MedgleanError

    def rows(kind: type[MedgleanError], depth: int) -> Iterator[str]:
        meaning = (kind.__doc__ or "").strip().splitlines()[0]
        yield f"| {'&emsp;' * depth}`{kind.__name__}` | {kind.exit_code} | {meaning} |"
        for inner in kind.__subclasses__():
            yield from rows(inner, depth + 1)

    return "\n".join(["| error | exit status | when |", "|---|---|---|", *rows(MedgleanError, 0)])


def write_modules(package: str) -> str:
    """Ask mkdocstrings for every public module under a package, the package itself first."""
    found = importlib.import_module(package)
    names = [package]
    for module in pkgutil.walk_packages(found.__path__, f"{package}."):
        if not any(part.startswith("_") for part in module.name.split(".")):
            names.append(module.name)
    return "\n\n".join(f"::: {name}" for name in names)


WRITERS: dict[str, Callable[..., str]] = {
    "commands": write_commands,
    "errors": write_errors,
    "modules": write_modules,
    "presets": write_presets,
    "settings": write_settings,
}
