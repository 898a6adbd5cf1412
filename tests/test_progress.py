"""Progress lines: nothing as a library, plain lines seldom in a stage, no line for quick work."""

import pytest

from zetalib import progress


@pytest.fixture
def shown():
    progress.show()
    yield
    progress.show(False)


class Clock:
    """A clock that goes on by so many seconds whenever it is asked."""

    def __init__(self, step):
        self.now, self.step = 0.0, step

    def __call__(self):
        self.now += self.step
        return self.now


def test_a_library_prints_nothing(capsys):
    progress.show(False)  # another test may have run a stage
    assert list(progress.track(range(50), "windows", clock=Clock(10.0))) == list(range(50))
    assert capsys.readouterr() == ("", "")


def test_quick_work_says_nothing(shown, capsys):
    list(progress.track(range(20), "windows", clock=Clock(0.1)))
    assert capsys.readouterr() == ("", "")


def test_long_work_says_how_much_how_fast_and_how_long(shown, capsys):
    list(progress.track(iter(range(40)), "windows", 40, clock=Clock(1.0)))
    out, err = capsys.readouterr()
    first, second, third = err.splitlines()
    assert out == "" and first == "windows: 3 of 40 (8%), 1/s, 37 s left"
    assert second == "windows: 18 of 40 (45%), 1/s, 22 s left" and "33 of 40" in third


def test_a_terminal_has_one_line_rewritten(shown, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    list(progress.track(range(8), "windows", clock=Clock(1.0)))
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.count("\r") == 6


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (192, "3 min 12 s"), (7500, "2 h 5 min")],
)
def test_durations(seconds, said):
    assert progress.duration(seconds) == said


def test_slow_items_are_told_by_their_time():
    assert (
        progress.describe("formulas", 2, 8, 30.0)
        == "formulas: 2 of 8 (25%), 15 s each, 1 min 30 s left"
    )
    assert progress.describe("zeros", 5, None, 10.0) == "zeros: 5 done, 2 s each"
