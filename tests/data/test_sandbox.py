"""Workers that crash, hang, blow up or talk nonsense cost one image each."""

from __future__ import annotations

import importlib
import io
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medglean.data import sandbox_worker
from medglean.data.picture import Picture
from medglean.data.readers import read
from medglean.data.sandbox import DecoderPool
from medglean.data.wire import GarbledError, picture_from_wire, picture_to_wire, receive, send
from medglean.errors import DecoderError, ReadError, TooLargeError

BEHAVIOURS = """
import ctypes, os, signal, time
import numpy as np
from medglean.errors import DataError

def act(picture, **kwargs):
    first = int(picture.values[0, 0, 0])
    if first == 1: ctypes.string_at(0)
    if first == 2: os.kill(os.getpid(), signal.SIGKILL)
    if first == 3: os.abort()
    if first == 4:
        while True: pass
    if first == 5: return np.ones(1 << 29, np.uint8)
    if first == 6: os.write(kwargs["answers"], b"x" * 4096)
    if first == 7: raise KeyError("Doe^Jane")
    if first == 8: raise DataError("not fit for use.")
    if first == 9: os._exit(3)
    if first == 10: return {"a": np.array([1.5]), "pid": np.array(os.getpid())}
    return np.array([first, kwargs.get("add", 0)], np.int16)

def answers_of(task):

    numbers = [int(n) for n in os.listdir("/proc/self/fd")]
    pipes = [n for n in numbers if os.path.exists(f"/proc/self/fd/{n}")
             and os.readlink(f"/proc/self/fd/{n}").startswith("pipe:")]
    return {"pipes": pipes}, {}

def leak(task):
    block = bytearray(64 << 20)
    return {"pid": os.getpid()}, {}
"""


@pytest.fixture(scope="module")
def behaviours(tmp_path_factory):
    folder = tmp_path_factory.mktemp("behaviours")
    (folder / "behaviours.py").write_text(BEHAVIOURS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        importlib.import_module("behaviours")
        yield


@pytest.fixture(scope="module")
def pool(behaviours):
    with DecoderPool(1) as pool:
        yield pool


@pytest.fixture
def image(tmp_path):
    def make(first: int) -> str:
        Image.fromarray(np.full((4, 4), first, np.uint8)).save(tmp_path / f"{first}.png")
        return f"{first}.png"

    return make


MESSAGES = {
    1: "1.png: its decoder crashed with SIGSEGV",
    2: "2.png: its decoder crashed with SIGKILL",
    3: "3.png: its decoder crashed with SIGABRT",
    4: "4.png: its decoder took longer than 1.5 s and was stopped",
    5: "5.png: its decoder needed more than the 256 MiB of memory",
    7: "7.png: its decoder failed: KeyError at behaviours.py, line 15",
    9: "9.png: its decoder ended with status 3",
}


@pytest.mark.usefixtures("behaviours")
def test_each_bad_image_is_lost_alone_and_the_others_go_on_in_order(tmp_path, image):
    firsts = [20, 1, 21, 2, 3, 22, 4, 5, 7, 9, 23, 24]

    with DecoderPool(2, memory_bytes=256 << 20, timeout_s=1.5) as pool:
        names = [image(first) for first in firsts]
        results = list(pool.map(names, root=tmp_path, function="behaviours:act"))

    for first, result in zip(firsts, results, strict=True):
        if first not in MESSAGES:
            assert list(result) == [first, 0]
            continue
        assert isinstance(result, DecoderError)
        assert str(result).startswith(MESSAGES[first])
        assert "Decode it with another tool" in str(result)
        assert "Jane" not in str(result)


def test_garbage_on_the_pipe(tmp_path, image, pool):
    ((text, _),) = pool.run("behaviours:answers_of", [{"name": "x"}])
    garbled, fine = pool.map(
        [image(6), image(20)],
        root=tmp_path,
        function="behaviours:act",
        kwargs={"answers": max(text["pipes"])},
    )

    assert isinstance(garbled, DecoderError)
    assert "6.png: its decoder sent something that is no image" in str(garbled)
    assert list(fine) == [20, 0]


def test_results_of_a_function(tmp_path, image, pool):
    names = [image(20), image(10), image(8), "missing.png"]
    array, several, refused, missing = pool.map(
        names, root=tmp_path, function="behaviours:act", kwargs={"add": 5}
    )

    assert array.dtype == np.int16
    assert list(array) == [20, 5]
    assert several["a"].tolist() == [1.5]
    assert several["pid"] != os.getpid()
    assert type(refused) is ReadError
    assert str(refused) == "8.png: not fit for use."
    assert type(missing) is ReadError
    assert str(missing).startswith("missing.png: no such file.")


def test_pictures_come_back_whole_and_in_order(tmp_path, image, pool):
    names = [image(k) for k in range(30, 50)]

    pictures = list(pool.map(names, root=tmp_path))

    assert [int(p.values[0, 0, 0]) for p in pictures] == list(range(30, 50))
    assert pictures[0].unit == "8-bit"
    assert pictures[0].full_scale == (0, 255)
    pictures[0].values[0, 0, 0] = 7  # writable, as from read


def test_type_of_error_is_kept(tmp_path, image, pool):
    (error,) = pool.map([image(20)], root=tmp_path, budget_bytes=3)

    assert type(error) is TooLargeError
    assert error.file == "20.png"


def test_references_are_taken_as_they_are_needed(tmp_path, image, pool):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield image(20)

    results = pool.map(endless(), root=tmp_path)
    for _ in range(3):
        next(results)
    results.close()

    assert len(taken) <= 5


@pytest.mark.usefixtures("behaviours")
def test_worker_is_replaced_after_its_tasks():
    tasks = [{"name": "x"}] * 4
    with DecoderPool(1, tasks_per_worker=2) as pool:
        workers = [text["pid"] for text, _ in pool.run("behaviours:leak", tasks)]

    assert workers[0] == workers[1] != workers[2] == workers[3]


def test_closed_pool_says_so():
    pool = DecoderPool(1)
    pool.close()

    with pytest.raises(ValueError, match="the decoder pool is closed"):
        list(pool.map(["a.png"]))


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("busy", [False, True])
def test_script_without_main_guard_whose_death_ends_its_worker(tmp_path, image, busy):
    image(4)
    image(20)
    (tmp_path / "behaviours.py").write_text(BEHAVIOURS.replace("if first == 4:", "if first == 4:\n"
        "        open(kwargs['mark'], 'w').write(str(os.getpid()))"))  # fmt: skip
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import os, sys, time
        from medglean.data.sandbox import DecoderPool
        pool = DecoderPool(1)
        root = {str(tmp_path)!r}
        mark = os.path.join(root, "mark")
        kwargs = {{"mark": mark}}
        if {busy}:
            next(pool.map(["4.png"], root=root, function="behaviours:act", kwargs=kwargs))
        (text, _), = pool.run("behaviours:leak", [{{"name": "x"}}])
        open(mark, "w").write(str(text["pid"]))
        time.sleep(60)
        """)
    )
    parent = subprocess.Popen([sys.executable, str(script)])
    mark = tmp_path / "mark"
    until = time.monotonic() + 30
    while not (mark.exists() and mark.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    worker = int(mark.read_text())
    assert _alive(worker)

    parent.kill()
    parent.wait()

    until = time.monotonic() + 10
    while _alive(worker) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _alive(worker)


def test_read_in_a_worker_is_the_same(tmp_path, image):
    path = tmp_path / image(20)

    here, there = read(path, isolated=False), read(path, isolated=True)

    np.testing.assert_array_equal(here.values, there.values)
    assert (here.unit, here.axes, here.full_scale) == (there.unit, there.axes, there.full_scale)
    with pytest.raises(ReadError, match=r"gone\.png: no such file"):
        read("gone.png", root=tmp_path, isolated=True)


def test_relative_paths_are_those_of_the_caller_wherever_the_worker_was_started(
    tmp_path, monkeypatch
):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    Image.fromarray(np.full((2, 3), 7, np.uint8)).save(tmp_path / "b" / "only.png")
    monkeypatch.chdir(tmp_path / "a")
    with pytest.raises(ReadError, match="no such file"):
        read("only.png", isolated=True)

    monkeypatch.chdir(tmp_path / "b")

    assert (read("only.png", isolated=True).values == 7).all()


def test_what_a_worker_answers(tmp_path, image, behaviours, monkeypatch):
    # the same in this process, where it can be measured
    def ask(first: int | str, function: str | None = "behaviours:act", **more: object):
        name = first if isinstance(first, str) else image(first)
        task = {"reference": name, "root": str(tmp_path), "budget_bytes": 1000, "kwargs": {}}
        task |= {"function": function, **more}
        return sandbox_worker._answer({"function": "behaviours:read_one", "task": task})

    monkeypatch.setattr(
        sys.modules["behaviours"], "read_one", sandbox_worker.read_one, raising=False
    )

    text, arrays = ask(20)
    assert text == {"result": {"array": True}}
    assert arrays["array"].tolist() == [20, 0]
    assert ask(10)[0] == {"result": {"arrays": True}}
    assert ask(20, None)[0]["result"]["unit"] == "8-bit"
    assert ask(7)[0] == {"failure": "KeyError at behaviours.py, line 15"}
    assert ask(8)[0] == {"error": {"kind": "ReadError", "found": "not fit for use.", "remedy": ""}}
    assert ask("gone.png")[0]["error"]["found"] == "no such file."
    assert ask(20, budget_bytes=1)[0]["error"]["kind"] == "TooLargeError"


def test_picture_over_the_wire():
    picture = Picture(
        values=np.arange(24, dtype=">f4").reshape(1, 2, 3, 4)[:, :, ::-1],
        unit="HU",
        spacing_mm=(1.5, 2.0, 3.0),
        warnings=("ü",),
        axes=("frame", "y", "x"),
        full_scale=(-1024.0, 3071.0),
    )
    pipe = io.BytesIO()
    send(pipe, *picture_to_wire(picture))
    pipe.seek(0)

    back = picture_from_wire(*receive(pipe, most_bytes=96))

    np.testing.assert_array_equal(back.values, picture.values)
    assert (back.unit, back.spacing_mm, back.channels) == ("HU", (1.5, 2.0, 3.0), ("grey",))
    assert (back.warnings, back.axes) == (("ü",), ("frame", "y", "x"))
    assert back.full_scale == (-1024.0, 3071.0)


def _message(text: bytes, tail: bytes = b"") -> bytes:
    return b"MGL1" + len(text).to_bytes(4, "little") + text + tail


@pytest.mark.parametrize(
    "data",
    [
        b"MGL",
        b"NOPE\0\0\0\0",
        b"MGL1\xff\xff\xff\xff",
        _message(b"not json"),
        _message(b"[]"),
        _message(b'{"text": [], "arrays": []}'),
        _message(b'{"text": {}, "arrays": [{"name": "a", "dtype": "O", "shape": [1]}]}'),
        _message(b'{"text": {}, "arrays": [{"name": "a", "dtype": "u1", "shape": [-1]}]}'),
        _message(b'{"text": {}, "arrays": [{"name": "a", "dtype": "u1", "shape": [9]}]}', b"12"),
        _message(b'{"text": {}, "arrays": [{"name": "a", "dtype": "u1", "shape": [999]}]}'),
        _message(b"[" * 100_000),
    ],
)
def test_what_is_no_message_is_refused(data):
    with pytest.raises(GarbledError):
        receive(io.BytesIO(data), most_bytes=100)


def test_end_of_the_pipe_is_no_message():
    with pytest.raises(EOFError):
        receive(io.BytesIO(b""), most_bytes=100)


def test_parts_that_make_no_picture_are_refused():
    text, arrays = picture_to_wire(Picture(np.zeros((1, 2, 2)), unit="US"))

    for broken in ({**text, "axes": ["x"]}, {**text, "full_scale": []}, {}):
        with pytest.raises(GarbledError):
            picture_from_wire(broken, arrays)
