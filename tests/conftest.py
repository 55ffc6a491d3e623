"""One seed for everything that is sampled, printed first; and tests that share a fixture on one worker."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # Workers inherit it, so that all of a run samples by one seed.
    os.environ.setdefault("ANCLA_SEED", str(random.SystemRandom().randrange(10_000)))


def pytest_report_header(config: pytest.Config) -> str:
    return f"ANCLA_SEED={os.environ['ANCLA_SEED']} (set it to draw the same samples again)"


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    root = Path(__file__).parent
    for item in items:
        place = item.path.relative_to(root)
        # The staging environment is brought up once, for all of tests/hosts; elsewhere a file shares its fixtures.
        group = place.parts[0] if place.parts[0] == "hosts" else str(place)
        item.add_marker(pytest.mark.xdist_group(group))
