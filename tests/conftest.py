"""One seed for everything that is sampled, printed first."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # A lane that a shell runs in the background inherits an ignored SIGINT, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("ANCLA_SEED", str(random.SystemRandom().randrange(10_000)))
    # What ops keeps at a desk (alerts, metrics, the audit log) is the tester's own.
    state = tempfile.mkdtemp(prefix="ancla-state-")
    os.environ["XDG_STATE_HOME"] = state
    config.add_cleanup(lambda: shutil.rmtree(state, ignore_errors=True))


def pytest_report_header(config: pytest.Config) -> str:
    return f"ANCLA_SEED={os.environ['ANCLA_SEED']} (set it to draw the same samples again)"
