from __future__ import annotations

import hashlib
import hmac
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from medglean.data.pseudonyms import Pseudonyms, default_key_file, load_or_create_key
from medglean.errors import UsageError

posix = pytest.mark.skipif(os.name == "nt", reason="modes are a POSIX notion")


def test_it_is_hmac_sha256_of_lengths_and_texts():
    key = bytes(range(32))
    # worked out from the rule: each part with its length before it, 16 digits kept
    expected = hmac.new(key, b"7:patient1:A4:4711", hashlib.sha256).hexdigest()[:16]

    assert Pseudonyms(key).of("patient", "A", "4711") == f"patient-{expected}"


def test_it_depends_on_the_key_the_kind_and_where_parts_end():
    names = Pseudonyms(bytes(32))

    assert names.of("patient", "a", "bc") != names.of("patient", "ab", "c")
    assert names.of("patient", "1")[-16:] != names.of("study", "1")[-16:]
    assert names.of("patient", "1") != Pseudonyms(b"x" * 32).of("patient", "1")


@posix
def test_a_key_is_made_once_for_its_owner_only(tmp_path):
    path = tmp_path / "deep" / "folder" / "pseudonym.key"

    key = load_or_create_key(path)

    assert len(key) == 32
    assert load_or_create_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_of_many_that_make_it_at_once_all_use_the_same(tmp_path):
    path = tmp_path / "k.key"
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(load_or_create_key, [path] * 32))

    assert len(keys) == 1


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602])
def test_a_key_that_others_can_use_is_refused(tmp_path, mode):
    path = tmp_path / "k.key"
    load_or_create_key(path)
    path.chmod(mode)

    with pytest.raises(UsageError, match=rf"others may use this key \(mode {mode:o}, expected 600"):
        load_or_create_key(path)


@pytest.mark.parametrize("content", ["", "zz" * 32, "ab" * 31, "not a key at all"])
def test_a_damaged_key_is_refused_and_not_replaced(tmp_path, content):
    path = tmp_path / "k.key"
    path.write_text(content)
    path.chmod(0o600)

    with pytest.raises(UsageError, match="expected a key of 64 hexadecimal digits"):
        load_or_create_key(path)
    assert path.read_text() == content


def test_a_key_in_an_impossible_place_is_told(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(UsageError, match=r"the key for pseudonyms cannot be read or made"):
        load_or_create_key(tmp_path / "file" / "k.key")


@posix
def test_the_default_place_follows_xdg(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_key_file() == tmp_path / "medglean" / "pseudonym.key"

    monkeypatch.setenv("HOME", str(tmp_path))
    for ignored in ("", "relative/path"):
        monkeypatch.setenv("XDG_CONFIG_HOME", ignored)
        assert default_key_file() == Path(tmp_path, ".config/medglean/pseudonym.key")
