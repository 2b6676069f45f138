"""Names of files that stand for ids."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

LONGEST_NAME = 80
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def safe_names(wanted: Sequence[str], identities: Sequence[str] | None = None) -> list[str]:
    """Return names that are files on any system, unique also where capitals are not told apart.

    A text that is such a name stays as it is. Another one is changed, and gets eight hexadecimal
    digits of its SHA-256, so that a name never depends on the order.

    Parameters
    ----------
    wanted
        Such as ids.
    identities
        What tells equal texts apart, by default the texts.

    Examples
    --------
    >>> safe_names(["p7_s081", "a/b"])
    ['p7_s081', 'a_b-c14cddc0']
    """
    known = list(wanted) if identities is None else list(identities)
    plain = [re.sub(r"[^A-Za-z0-9._-]", "_", text).strip(".")[:LONGEST_NAME] for text in wanted]
    often = Counter(name.casefold() for name in plain)
    for digits in (8, 64):  # 64 only where the name of another has just these eight
        names = []
        for text, name, identity in zip(wanted, plain, known, strict=True):
            kept = name == text and often[name.casefold()] == 1 and not _RESERVED.fullmatch(name)
            digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()
            names.append(name if kept and name else f"{name or 'image'}-{digest[:digits]}")
        if len({name.casefold() for name in names}) == len(names):
            break
    return names
