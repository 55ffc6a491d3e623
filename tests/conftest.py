"""One seed for everything that is sampled, printed first; which tests share a worker; what becomes of a flaky test."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator

import pytest
from xdist.scheduler import LoadScopeScheduling

TOGETHER = ("hosts", "sandbox/parts")
"""Folders whose tests share what takes a minute to start, so that one worker runs all of them."""
LONGEST = (
    "hosts",
    "sandbox/parts",
    "engine",
    "ops/test_other_majors.py",
    "ops/test_drill.py",
    "ops/test_restore_killed.py",
    "ops",
)
"""What takes longest begins first, so that no worker is left alone with it at the end."""
MOST_FLAKY = 2
"""A run in which more tests than that passed only at their second try is red."""
DRAWN = 3
"""Of the tests marked `long`, one in so many is drawn; the others are marked `all`, which `make test` leaves out."""


def pytest_configure(config: pytest.Config) -> None:
    # A run that a shell starts in the background inherits an ignored SIGINT, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("ANCLA_SEED", str(random.SystemRandom().randrange(10_000)))
    # What ops keeps on a workstation (alerts, metrics, the audit log) is the tester's own.
    state = tempfile.mkdtemp(prefix="ancla-state-")
    os.environ["XDG_STATE_HOME"] = state
    config.add_cleanup(lambda: shutil.rmtree(state, ignore_errors=True))


def pytest_report_header(config: pytest.Config) -> str:
    return f"ANCLA_SEED={os.environ['ANCLA_SEED']} (set it to draw the same samples again)"


def _file(nodeid: str) -> str:
    """Return the file of a test below tests/."""
    return nodeid.partition("::")[0].removeprefix("tests/")


def _group(nodeid: str) -> str:
    """Return what a test shares a worker with: its whole folder, or its file, whose fixtures are made once."""
    file = _file(nodeid)
    return next((folder for folder in TOGETHER if file.startswith(f"{folder}/")), file)


def _rank(item: pytest.Item) -> tuple[int, int]:
    """Return the place of the test's group in the run, and of the test in its group."""
    file = _file(item.nodeid)
    place = next((number for number, long in enumerate(LONGEST) if file.startswith(long)), len(LONGEST))
    return place, int(item.get_closest_marker("last") is not None)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_rank)
    for item in _not_drawn([item for item in items if item.get_closest_marker("long")]):
        item.add_marker(pytest.mark.all)


def _not_drawn(long: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Draw by the seed among the long tests of each folder, so that its share of a run is about the same each time."""
    draw = random.Random(f"long {os.environ['ANCLA_SEED']}")
    for _, folder in itertools.groupby(sorted(long, key=lambda item: item.nodeid), lambda item: item.path.parent):
        candidates = list(folder)
        drawn = set(draw.sample(range(len(candidates)), -(-len(candidates) // DRAWN)))
        yield from (item for number, item in enumerate(candidates) if number not in drawn)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Give out tests by group. `--dist loadgroup` would do it by marks, which it does not see with this pytest."""

    class Grouped(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    return Grouped(config, log)


@pytest.fixture(autouse=True)
def progress_of_its_own() -> Iterator[None]:
    """How progress is shown is the process's: a test that changes it leaves it as it was."""
    yield
    if console := sys.modules.get("ops.core.console"):
        console.show_progress(console.Progress.AUTO)


def _flaky(reporter: pytest.TerminalReporter) -> list[str]:
    """Name the tests that failed first and passed then."""
    passed = {report.nodeid for report in reporter.stats.get("passed", [])}
    return sorted({report.nodeid for report in reporter.stats.get("rerun", [])} & passed)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and len(_flaky(reporter)) > MOST_FLAKY and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if flaky := _flaky(terminalreporter):
        verdict = "to be mended" if len(flaky) <= MOST_FLAKY else f"more than {MOST_FLAKY}, so this run is red"
        terminalreporter.section(f"passed only at the second try: {verdict}")
        for name in flaky:
            terminalreporter.line(f"FLAKY {name}")
