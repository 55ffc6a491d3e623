"""How a run of the tests ends: a flaky test is named, a third one makes the run red, a red one stays red."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FLAKY = """
from pathlib import Path
def test_flaky():
    seen = Path(__file__).with_suffix(".seen")
    before = seen.exists()
    seen.touch()
    assert before
"""
OPTIONS = ("-q", "-c", "/dev/null", "-p", "no:cacheprovider", "--dist", "loadscope", "--reruns", "1")


@pytest.mark.parametrize(
    ("workers", "flaky", "red", "exit_code"), [("0", 1, 0, 0), ("2", 2, 0, 0), ("2", 3, 0, 1), ("2", 0, 1, 1)]
)
def test_a_run_is_red_by_a_red_test_or_by_a_third_flaky_one(
    tmp_path: Path, workers: str, flaky: int, red: int, exit_code: int
) -> None:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_green.py").write_text("def test_green(): pass\n")
    for number in range(flaky):
        (tmp_path / f"test_flaky_{number}.py").write_text(FLAKY)
    for number in range(red):
        (tmp_path / f"test_red_{number}.py").write_text("def test_red(): assert False\n")
    command = [sys.executable, "-m", "pytest", *OPTIONS, "-n", workers, "--rootdir", tmp_path, tmp_path]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == exit_code, done.stdout
    assert done.stdout.count("\nFLAKY ") == flaky


def test_the_last_of_a_group_comes_last_and_the_longest_groups_first(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "hosts").mkdir()
    (tmp_path / "test_a.py").write_text("def test_a(): pass\n")
    (tmp_path / "hosts/test_b.py").write_text("import pytest\n@pytest.mark.last\ndef test_b(): pass\n")
    (tmp_path / "hosts/test_c.py").write_text("def test_c(): pass\n")
    assert _collected(tmp_path) == ["test_c", "test_b", "test_a"]


def test_a_folder_that_shares_what_is_slow_stays_on_one_worker(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "hosts").mkdir()
    for number in range(4):
        (tmp_path / f"hosts/test_on_{number}.py").write_text("def test_a(): pass\ndef test_b(): pass\n")
        (tmp_path / f"test_{number}.py").write_text("def test_c(): pass\n")
    command = [sys.executable, "-m", "pytest", *OPTIONS[1:], "-v", "-n", "2", "--rootdir", tmp_path, tmp_path]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    ran = re.findall(r"\[(gw\d)\].* PASSED (hosts/)?", done.stdout)
    assert len(ran) == 12, done.stdout
    assert len({worker for worker, folder in ran if folder}) == 1
    assert {worker for worker, _ in ran} == {"gw0", "gw1"}


@pytest.mark.parametrize("seed", ["1", "2"])
def test_a_third_of_the_long_tests_is_drawn_by_the_seed(
    tmp_path: Path, seed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    for folder, count in (("a", 4), ("b", 3)):
        (tmp_path / folder).mkdir()
        text = "".join(f"@pytest.mark.long\ndef test_{folder}{number}(): pass\n" for number in range(count))
        (tmp_path / folder / f"test_{folder}.py").write_text(f"import pytest\n{text}def test_{folder}(): pass\n")
    monkeypatch.setenv("ANCLA_SEED", seed)
    drawn = _collected(tmp_path, "-m", "not all")
    assert drawn == _collected(tmp_path, "-m", "not all")
    assert len(drawn) == 2 + 2 + 1
    assert {"test_a", "test_b"} < set(drawn)
    assert len(_collected(tmp_path)) == 4 + 3 + 2


def _collected(folder: Path, *options: str) -> list[str]:
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null", "--collect-only", "-q", *options, "--rootdir", folder]
    done = subprocess.run([*command, folder], cwd=folder, capture_output=True, text=True, check=False)
    return [line.rpartition("::")[2] for line in done.stdout.splitlines() if "::" in line]
