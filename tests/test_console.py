import medglean.console
from medglean.console import progress


def test_plain_lines_tell_rate_and_time_left(monkeypatch, capsys):
    clock = iter([0.0, 5.0, 20.0, 30.0, 41.0])
    monkeypatch.setattr(medglean.console.time, "monotonic", lambda: next(clock))

    with progress("decoding images") as tell:
        tell(10, 100)  # 5 s: too early for a line
        tell(40, 100)  # 20 s: 2 a second, 60 left
        tell(60, 100)  # 30 s
        tell(100, 100)  # 41 s: the end

    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "decoding images: 40 of 100, 2/s, 30 s left"
    assert lines[-1].startswith("decoding images: 100 of 100")


def test_quick_work_says_nothing(capsys):
    with progress("decoding images", total=3) as tell:
        for done in (1, 2, 3):
            tell(done)

    assert capsys.readouterr().err == ""
