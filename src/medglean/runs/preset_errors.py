"""From pydantic's errors to sentences: which key, what was found, what was expected."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a table",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "list_type": 'a list, such as ["a", "b"]',
    "model_type": "a table",
    "string_type": "text",
    "tuple_type": 'a list, such as ["a", "b"]',
}

_ABSENT = object()


@dataclass(frozen=True)
class Mistake:
    """One wrong key or value.

    Attributes
    ----------
    keys
        The parts of its dotted key; empty for a mistake in the whole.
    told
        What was found and expected, as sentences.
    """

    keys: tuple[str, ...]
    told: str

    def __str__(self) -> str:
        return f"key {'.'.join(self.keys)}: {self.told}" if self.keys else self.told

    def lies_within(self, keys: tuple[str, ...]) -> bool:
        """Whether it is about these keys or something inside them."""
        return bool(self.keys) and self.keys[: len(keys)] == keys


def mistakes_of(
    error: ValidationError, table: dict[str, Any], model: type[BaseModel]
) -> list[Mistake]:
    """Return one mistake per key, in pydantic's order.

    Parameters
    ----------
    error
        From validating ``table``.
    table
        What was validated: tells the keys of the location from pydantic's names of types.
    model
        What it was validated as: gives the known keys.
    """
    by_key: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for detail in error.errors(include_url=False):
        keys = _keys_of(detail["loc"], table, detail["type"])
        by_key.setdefault(keys, []).append(dict(detail))
    known = list(known_keys(model))
    return [Mistake(keys, _told(keys, details, known)) for keys, details in by_key.items()]


def known_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield every dotted key of a settings class, tables before what they hold."""
    for name, field in model.model_fields.items():
        yield prefix + name
        for inner in _models_in(field.annotation):
            yield from known_keys(inner, f"{prefix}{name}.")


def suggestion(word: str, known: Sequence[str]) -> str:
    """Return `` Did you mean 'x'?``, or nothing where no known word is close."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _keys_of(location: Sequence[int | str], table: object, kind: str) -> tuple[str, ...]:
    """Keep the parts of a location that are keys; pydantic mixes in the branches of a union."""
    keys: list[str] = []
    node = table
    for number, part in enumerate(location):
        is_last = number == len(location) - 1
        inner = _inside(node, part)
        if inner is not _ABSENT:
            node = inner
        elif not (is_last and kind in {"missing", "extra_forbidden"}):
            continue
        keys.append(str(part))
    return tuple(keys)


def _inside(node: object, part: int | str) -> object:
    if isinstance(node, dict):
        return node.get(part, _ABSENT)
    if isinstance(node, list) and isinstance(part, int) and part < len(node):
        return node[part]
    return _ABSENT


def _told(keys: tuple[str, ...], details: Sequence[dict[str, Any]], known: Sequence[str]) -> str:
    first = details[0]
    if first["type"] == "extra_forbidden":
        return f"not known.{_nearest(keys, known)}"
    if first["type"] == "missing":
        return "found nothing, expected a value. Add it."
    if first["type"] == "value_error":  # our own validator's sentence
        return str(first["msg"]).removeprefix("Value error, ")
    expected = dict.fromkeys(_expected(detail) for detail in details)
    return f"found {_found(first['input'])}, expected {' or '.join(expected)}."


def _nearest(keys: tuple[str, ...], known: Sequence[str]) -> str:
    """Suggest a key: a longer or a near one here, the same word in another table, any near one."""
    prefix = "".join(f"{key}." for key in keys[:-1])
    beside = [key for key in known if key.startswith(prefix) and "." not in key[len(prefix) :]]
    dotted = prefix + keys[-1]
    longer = [key for key in beside if key.startswith(f"{dotted}_")]
    close = longer or difflib.get_close_matches(dotted, beside, n=1, cutoff=0.75)
    elsewhere = [key for key in known if key.rpartition(".")[2] == keys[-1]]
    others = [key for key in known if not dotted.startswith(f"{key}.")]
    for found in (close, elsewhere, difflib.get_close_matches(dotted, others, n=1, cutoff=0.7)):
        if found:
            return f" Did you mean {' or '.join(repr(key) for key in found[:3])}?"
    return f" Known here: {', '.join(beside)}." if beside else ""


def _expected(detail: dict[str, Any]) -> str:
    if detail["type"] in _EXPECTED:
        return _EXPECTED[detail["type"]]
    if detail["type"] == "literal_error":
        return str(detail["ctx"]["expected"])
    message = str(detail["msg"])
    for opening in ("Input should be ", "Value error, "):
        message = message.removeprefix(opening)
    return message[:1].lower() + message[1:]


def _found(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {value!r}"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}: {str(list(value))[:80]}"
    if isinstance(value, dict):
        return "a table"
    return "nothing" if value is None else repr(value)[:80]
