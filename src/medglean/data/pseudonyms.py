"""Names for patients and studies that cannot be turned back without a key.

A pseudonym is HMAC-SHA256 under a secret key (RFC 2104), cut to 64 bits. The same patient has the
same pseudonym in every manifest made with one key, and nobody without the key can try out patient
numbers until one fits, as with a plain hash.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from medglean.errors import UsageError

KEY_BYTES = 32
DIGITS = 16


def default_key_file() -> Path:
    """Return where the user's key lies: ``medglean/pseudonym.key`` in the configuration folder."""
    if os.name == "nt":
        base = os.environ.get("APPDATA") or str(Path.home() / "AppData" / "Roaming")
    else:
        base = os.environ.get("XDG_CONFIG_HOME") or ""
        if not Path(base).is_absolute():  # the XDG rule: a relative one is to be ignored
            base = str(Path.home() / ".config")
    return Path(base) / "medglean" / "pseudonym.key"


def load_or_create_key(path: Path) -> bytes:
    """Return the key in a file, making the file with a fresh key where there is none.

    The file is readable by its owner only from its first byte on. Of two processes that make it
    at once, one wins and both use its key.

    Raises
    ------
    UsageError
        If others may read it, it holds no key, or it cannot be made.
    """
    try:
        if not path.exists():
            _create(path)
        mode = path.stat().st_mode
        text = path.read_text("ascii", errors="replace").strip()
    except OSError as error:
        raise UsageError(
            f"{path}: the key for pseudonyms cannot be read or made ({error.strerror}). Give "
            "another place with --key-file, or keep the ids as they are with --keep-ids."
        ) from error
    if os.name != "nt" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(
            f"{path}: others may use this key (mode {stat.S_IMODE(mode):03o}, expected 600), so "
            "its pseudonyms are not safe. Run chmod 600 on it; if others may have read it, make a "
            "new key."
        )
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) < KEY_BYTES:
        raise UsageError(
            f"{path}: expected a key of {2 * KEY_BYTES} hexadecimal digits, found something else. "
            "Restore it from a copy: with a new key no pseudonym stays the same."
        )
    return key


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_bytes(KEY_BYTES).hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        # a link, not a rename: it fails where another process was first, so no key is replaced
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink(missing_ok=True)


class Pseudonyms:
    """Pseudonyms under one key.

    Examples
    --------
    >>> names = Pseudonyms(bytes(32))
    >>> names.of("patient", "hospital A", "4711") == names.of("patient", "hospital B", "4711")
    False
    >>> names.of("study", "1.2.3")
    'study-ad1ff2439ba1f8b1'
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, kind: str, *parts: str) -> str:
        """Return ``kind-`` and 16 hexadecimal digits that depend on the key and every part."""
        # lengths keep ("a", "bc") and ("ab", "c") apart
        text = "".join(f"{len(part)}:{part}" for part in (kind, *parts))
        digest = hmac.new(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return f"{kind}-{digest.hexdigest()[:DIGITS]}"
