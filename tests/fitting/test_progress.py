from __future__ import annotations

import io

from rich.console import Console

from medglean.fitting.progress import PlainProgress, TerminalProgress, make_progress


class Time:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_lines_every_tenth_or_ten_seconds_with_rate_and_time_left():
    stream, time = io.StringIO(), Time()
    progress = PlainProgress(stream, now=time)
    progress.start(done=100, total=1100)
    for step in range(101, 351):
        time.seconds += 0.02
        progress.update(step=step, epoch=1, values={"train.loss": 0.51234})
    time.seconds += 10.0
    progress.update(step=351, epoch=1, values={})
    progress.update(step=352, epoch=1, values={})
    progress.update(step=1100, epoch=9, values={})

    lines = stream.getvalue().splitlines()
    assert lines == [
        "step 100/1100: training",
        # 110 steps in 2.2 s: 50 a second, 890 to go
        "step 210/1100 (epoch 2), 50 steps/s, 0:18 left, train.loss 0.5123",
        "step 320/1100 (epoch 2), 50 steps/s, 0:16 left, train.loss 0.5123",
        # 251 steps in 15 s: 749 to go at 16.7 a second
        "step 351/1100 (epoch 2), 16.7 steps/s, 0:45 left",
        "step 1100/1100 (epoch 10), 66.7 steps/s, 0:00 left",
    ]


def test_a_pipe_gets_lines_and_no_control_codes():
    stream = io.StringIO()
    progress = make_progress(stream)
    progress.start(done=0, total=2)
    progress.note("warning: x")
    progress.update(step=2, epoch=0, values={"val.auroc": 0.987654})
    progress.close()

    assert isinstance(progress, PlainProgress)
    assert "\x1b" not in stream.getvalue()
    assert "warning: x\n" in stream.getvalue()
    assert "val.auroc 0.9877" in stream.getvalue()


def test_a_terminal_gets_a_bar():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert isinstance(make_progress(Terminal()), TerminalProgress)
    stream = io.StringIO()
    progress = TerminalProgress(Console(file=stream, force_terminal=True, width=120))
    progress.start(done=0, total=4)
    progress.note("a [note]")
    progress.update(step=4, epoch=1, values={"train.loss": 0.25})
    progress.close()

    text = stream.getvalue()
    assert "4/4" in text
    assert "epoch 2" in text
    assert "train.loss 0.25" in text
    assert "a [note]" in text
