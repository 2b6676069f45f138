"""The words of ``--map``: what the classes of another data set are called by a run."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

from medglean.data.tables import read_table
from medglean.errors import UsageError


def read_label_map(texts: Sequence[str]) -> dict[str, str]:
    """Read the words of ``--map``: pairs such as ``No finding=NORMAL``, and files of such pairs.

    Parameters
    ----------
    texts
        ``THEIRS=OURS``, where an empty ``OURS`` leaves the class out; or the path of a TOML file of
        such pairs, or of a CSV file with the columns ``theirs`` and ``ours``.

    Raises
    ------
    UsageError
        If a text is neither, a file cannot be read, or a class is given two names.

    Examples
    --------
    >>> read_label_map(["No finding=NORMAL", "unlabelled="])
    {'No finding': 'NORMAL', 'unlabelled': ''}
    """
    found: dict[str, str] = {}
    for text in texts:
        path = Path(text)
        if path.suffix.lower() in (".toml", ".csv") and (path.is_file() or "=" not in text):
            pairs = _pairs_of(path)
        elif "=" in text:
            theirs, _, ours = text.partition("=")
            pairs = {theirs.strip(): ours.strip()}
        else:
            raise UsageError(
                f"--map {text!r}: expected THEIRS=OURS, such as 'No finding=NORMAL', or a TOML or "
                "CSV file of such pairs."
            )
        for theirs, ours in pairs.items():
            if found.setdefault(theirs, ours) != ours:
                raise UsageError(
                    f"--map: {theirs!r} is to be {found[theirs]!r} and {ours!r}. Give it once."
                )
    return found


def _pairs_of(path: Path) -> dict[str, str]:
    if path.suffix.lower() == ".csv":
        frame = read_table(path).frame
        if not {"theirs", "ours"} <= set(frame.columns):
            raise UsageError(
                f"{path}: expected the columns 'theirs' and 'ours', found "
                f"{', '.join(map(repr, frame.columns))}. Name the two columns so."
            )
        filled = frame[["theirs", "ours"]].fillna("")
        return dict(zip(filled["theirs"].astype(str), filled["ours"].astype(str), strict=True))
    try:
        pairs = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f'{path}: not a TOML file that can be read ({error}). Write lines such as "No finding" '
            '= "NORMAL".'
        ) from error
    wrong = [name for name, value in pairs.items() if not isinstance(value, str)]
    if wrong:
        raise UsageError(
            f'{path}: {wrong[0]!r} is no text. Write lines such as "No finding" = "NORMAL".'
        )
    return pairs
