"""What will be done: a frozen, validated settings object, kept on disk as TOML.

A preset file holds the keys of its model, and may start with ``inherits = "NAME"``: then it is laid
over that preset, table by table and key by key; lists are replaced whole. Inheritance goes one
level: a preset that inherits cannot be inherited from. ``name`` and ``expected`` are never
inherited, for numbers measured with other settings say nothing about these.

Types are strict: a number written as text is a mistake, and is told.
"""

from __future__ import annotations

import copy
import importlib.resources
import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medglean.errors import PresetError
from medglean.files import sha256_of_json
from medglean.runs.preset_errors import Mistake, mistakes_of, suggestion

Table = dict[str, Any]
SUFFIX = ".toml"


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Settings):
    """Where a recipe comes from and where it differs."""

    paper: str = ""
    url: str = ""
    deviations: tuple[str, ...] = ()
    """One sentence per difference from the paper, with its reason and, where known, its effect."""


class Expected(_Settings):
    """What was measured with exactly these settings; written by a command, never by hand."""

    status: str = "not measured yet"
    command: str = ""
    """What wrote the values."""
    machine: str = ""
    """Kind of machine, such as "2 CPU cores"."""
    values: dict[str, float] = Field(default_factory=dict)


class Preset(BaseModel):
    """What every preset says, whatever its task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    task: str
    summary: str = ""
    """One line for the list of presets."""
    source: Source = Field(default_factory=Source)
    expected: Expected = Field(default_factory=Expected)

    def to_toml(self) -> str:
        """Return all settings as TOML, from which `load_preset` makes an equal preset.

        Settings that are ``None`` are left out, for TOML has no word for it.

        Raises
        ------
        PresetError
            If a setting is ``None`` whose default is something else: it could not be read back.
        """
        table = self.model_dump(mode="json", exclude_none=True)
        again = type(self).model_validate_json(json.dumps(table), strict=True)
        if again != self:
            raise PresetError(
                f"preset {self.name!r}: a setting is unset (none) whose default is not, and TOML "
                "cannot say that. Give it a value."
            )
        return tomli_w.dumps(table)

    def hash(self) -> str:
        """SHA-256 of all settings but the description: equal hashes mean the same work."""
        described = {"name", "summary", "source", "expected"}
        return sha256_of_json(self.model_dump(mode="json", exclude=described))


SomePreset = TypeVar("SomePreset", bound=Preset)


def load_preset(
    name_or_path: str | Path, model: type[SomePreset], *, overrides: Sequence[str] = ()
) -> SomePreset:
    """Read a preset, lay overrides over it, and check every key and value.

    Parameters
    ----------
    name_or_path
        Name of a preset that comes with medglean, or a path that ends in ``.toml``.
    model
        The preset's class; a file for another task is refused.
    overrides
        ``"fit.epochs=3"``: a dotted key and a TOML value. A value that is no TOML is text, so
        ``model.architecture=resnet18`` needs no quotes; ``none`` unsets a setting that may be
        unset. With any override ``expected`` is emptied: it was measured without.

    Raises
    ------
    PresetError
        If there is no such preset, its TOML is damaged, a key is not known or a value is of the
        wrong type or out of range. All mistakes are told together.
    """
    file = _find(name_or_path, beside=None)
    table = _with_parent(_parse(file), file)
    table.setdefault("name", file.name.removesuffix(SUFFIX))
    parsed = [_Override.parse(text) for text in overrides]
    if parsed:
        table["expected"] = {"status": "not measured with these overrides"}
    return _validate(table, parsed, model, said=f"preset {str(name_or_path)!r}")


def changed(preset: SomePreset, overrides: Sequence[str]) -> SomePreset:
    """Lay overrides over a preset that was read already, as `load_preset` does.

    Raises
    ------
    PresetError
        If a key is not known or a value is of the wrong type or out of range.
    """
    table = preset.model_dump(mode="json", exclude_none=True)
    parsed = [_Override.parse(text) for text in overrides]
    if parsed:
        table["expected"] = {"status": "not measured with these overrides"}
    return _validate(table, parsed, type(preset), said=f"preset {preset.name!r}")


def list_presets() -> list[tuple[str, str]]:
    """Return name and summary of every preset that comes with medglean, sorted by name."""
    found = []
    for file in _shelf().iterdir():
        if file.name.endswith(SUFFIX):
            summary = _with_parent(_parse(file), file).get("summary", "")
            found.append((file.name.removesuffix(SUFFIX), str(summary)))
    return sorted(found)


def _shelf() -> Traversable:
    return importlib.resources.files("medglean") / "presets"


def _find(name_or_path: str | Path, *, beside: Path | None) -> Traversable:
    """Return the file: a path (relative to ``beside``) or a name on the shelf."""
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(SUFFIX) or "/" in text or "\\" in text:
        path = Path(text) if beside is None else beside / text
        if not path.is_file():
            raise PresetError(
                f"{path}: no such file. Give the path of a TOML file, or the name of a preset that "
                "`medglean presets` lists."
            )
        return path
    file = _shelf() / (text + SUFFIX)
    if not file.is_file():
        names = sorted(
            entry.name.removesuffix(SUFFIX)
            for entry in _shelf().iterdir()
            if entry.name.endswith(SUFFIX)
        )
        known = f"Known: {', '.join(names)}." if names else "None is installed."
        raise PresetError(
            f"no preset is named {text!r}.{suggestion(text, names)} {known} "
            f"A path must end in {SUFFIX}."
        )
    return file


def _parse(file: Traversable) -> Table:
    try:
        return tomllib.loads(file.read_bytes().decode())
    except tomllib.TOMLDecodeError as error:  # its text tells line and column
        raise PresetError(
            f"{file}: not valid TOML: {error}. Text needs quotes, a table starts with [name]."
        ) from error
    except UnicodeDecodeError as error:
        raise PresetError(
            f"{file}: not UTF-8 text (byte {error.start}). Save it as UTF-8."
        ) from error
    except OSError as error:
        raise PresetError(f"{file}: cannot be read: {error.strerror}.") from error


def _with_parent(table: Table, file: Traversable) -> Table:
    """Lay a table over the preset that it inherits from, if any."""
    parent_name = table.pop("inherits", None)
    if parent_name is None:
        return table
    if not isinstance(parent_name, str):
        raise PresetError(f"{file}: key inherits: expected the name of a preset in quotes.")
    parent_file = _find(parent_name, beside=file.parent if isinstance(file, Path) else None)
    parent = _parse(parent_file)
    if "inherits" in parent:
        raise PresetError(
            f"{file}: inherits from {parent_name!r}, which itself inherits from "
            f"{parent['inherits']!r}. One level is allowed: inherit from "
            f"{parent['inherits']!r} and repeat what {parent_name!r} changes."
        )
    for own in ("name", "expected"):
        parent.pop(own, None)
    return _laid_over(parent, table)


def _laid_over(below: Table, above: Table) -> Table:
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _laid_over(merged[key], value)
        else:
            merged[key] = value
    return merged


@dataclass(frozen=True)
class _Override:
    """One ``key=value`` and what its value may mean, likeliest first."""

    text: str
    keys: tuple[str, ...]
    meanings: tuple[Any, ...]

    @classmethod
    def parse(cls, text: str) -> _Override:
        key, equals, value = text.partition("=")
        keys = tuple(part.strip() for part in key.split("."))
        if not equals or not all(keys):
            raise PresetError(
                f"override {text!r}: expected key=value with a dotted key, such as fit.epochs=3."
            )
        raw = value.strip()
        try:
            parsed = tomllib.loads(f"value = {raw}")
        except tomllib.TOMLDecodeError:
            parsed = {}
        if set(parsed) != {"value"}:
            return cls(text, keys, (raw, None) if raw == "none" else (raw,))
        number_like = isinstance(parsed["value"], bool | int | float)
        return cls(text, keys, (parsed["value"], raw) if number_like else (parsed["value"],))

    def lay_over(self, table: Table, meaning: int) -> None:
        for depth, key in enumerate(self.keys[:-1]):
            inner = table.setdefault(key, {})
            if not isinstance(inner, dict):
                raise PresetError(
                    f"override {self.text!r}: {'.'.join(self.keys[: depth + 1])} is a value, not "
                    "a table, and has no keys of its own."
                )
            table = inner
        table[self.keys[-1]] = self.meanings[meaning]


def _validate(
    table: Table, overrides: Sequence[_Override], model: type[SomePreset], *, said: str
) -> SomePreset:
    """Check a table, trying the next meaning of an override where one does not fit."""
    meaning = [0] * len(overrides)
    while True:
        found = _attempt(table, overrides, meaning, model)
        if isinstance(found, Preset):
            return found
        blamed = [
            number
            for number, override in enumerate(overrides)
            if any(mistake.lies_within(override.keys) for mistake in found)
        ]
        untried = [i for i in blamed if meaning[i] + 1 < len(overrides[i].meanings)]
        if not untried:
            break
        for number in untried:
            meaning[number] += 1
    for number in blamed:  # tell what is wrong with the likeliest meaning
        meaning[number] = 0
    mistakes = _attempt(table, overrides, meaning, model)
    raise PresetError(_told(found if isinstance(mistakes, Preset) else mistakes, overrides, said))


def _attempt(
    table: Table, overrides: Sequence[_Override], meaning: Sequence[int], model: type[SomePreset]
) -> SomePreset | list[Mistake]:
    tried = copy.deepcopy(table)
    for override, number in zip(overrides, meaning, strict=True):
        override.lay_over(tried, number)
    try:
        return model.model_validate_json(json.dumps(tried, default=str), strict=True)
    except ValidationError as error:
        return mistakes_of(error, tried, model)


def _told(mistakes: Sequence[Mistake], overrides: Sequence[_Override], said: str) -> str:
    lines = []
    for mistake in mistakes:
        setter = [o.text for o in overrides if mistake.lies_within(o.keys)]
        by = f" It was set by {setter[-1]!r}." if setter else ""
        lines.append(f"{mistake}{by}")
    if len(lines) == 1:
        return f"{said}: {lines[0]}"
    return "\n".join([f"{said}: {len(lines)} mistakes:", *(f"  {line}" for line in lines)])
