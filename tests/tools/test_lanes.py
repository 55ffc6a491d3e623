"""The lanes of `make test`: what was red is told last, and what is green by itself is told too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import lanes

GREEN = "def test_green(): pass\n"
RED = "def test_red(): raise AssertionError\n"
FLAKY = """
from pathlib import Path
def test_flaky():
    seen = Path(__file__).with_name("seen")
    before = seen.exists()
    seen.touch()
    assert before
"""
BROKEN = "import nothing_of_that_name\n"


def ran(home: Path, second_try: int, *tests: str) -> int:
    for number, text in enumerate(tests):
        (home / f"test_{number}.py").write_text(text)
    options = ["-q", "-c", "/dev/null", "--rootdir", str(home), "-p", "no:randomly"]
    return lanes.run({"first": [str(home / "test_0.py")], "last": [str(home)]}, options, second_try)


def test_all_green(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ran(tmp_path, 3, GREEN) == 0
    assert capfd.readouterr().out.endswith("every lane is green\n")


def test_a_red_one_is_red_after_its_second_try(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ran(tmp_path, 3, GREEN, RED) == 1
    assert capfd.readouterr().out.endswith("\nRED test_1.py::test_red\nlane last: pytest ended with 1\n")


def test_one_that_is_green_by_itself_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ran(tmp_path, 1, GREEN, FLAKY) == 0
    assert capfd.readouterr().out.endswith("\nFLAKY test_1.py::test_flaky\n")


def test_nothing_runs_twice_unless_asked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ran(tmp_path, 0, GREEN, FLAKY) == 1
    assert "RED test_1.py::test_flaky" in capfd.readouterr().out


def test_many_reds_are_no_accident(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ran(tmp_path, 1, GREEN, FLAKY, RED) == 1
    assert "once more" not in capfd.readouterr().out


def test_a_lane_that_could_not_run_is_never_green(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ran(tmp_path, 3, GREEN, BROKEN) != 0
    assert "lane last: pytest ended with 2" in capfd.readouterr().out
