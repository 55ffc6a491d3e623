"""kill -9 of the engine at a mutating call: `ops stack recover` and another `up` end as if nothing had happened."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.engine.kit import BareCloud, Point, points

pytestmark = pytest.mark.engine
SAMPLES = 2


@pytest.fixture(scope="module")
def every_point(tmp_path_factory: pytest.TempPathFactory) -> list[Point]:
    """Every point of an undisturbed run; the samples are drawn from these by a printed seed."""
    cloud = BareCloud(tmp_path_factory.mktemp("undisturbed") / "world", "staging")
    try:
        cloud.up()
        return points(cloud.journal())
    finally:
        cloud.close()


def recovers(cloud: BareCloud, point: Point) -> None:
    assert cloud.up_killed_at(point), f"the engine never came to {point}"
    cloud.ops("stack", "recover", "--stack", cloud.stack, "--yes")
    cloud.up()
    cloud.pulumi("preview", "--expect-no-changes")
    assert len(cloud.get("/v2/droplets")["droplets"]) == 1
    assert len(cloud.get("/v2/databases")["databases"]) == 1
    cloud.destroy()
    assert cloud.leaks() == ["registry nextgentech"], "what was adopted is destroyed"


@pytest.mark.long
def test_a_sample_of_kills_is_recovered_from(every_point: list[Point], tmp_path: Path) -> None:
    seed = int(os.environ["ANCLA_SEED"])
    chosen = random.Random(seed).sample(every_point, SAMPLES)
    print(f"ANCLA_SEED={seed}: {', '.join(map(str, chosen))}")
    for number, point in enumerate(chosen):
        cloud = BareCloud(tmp_path / str(number), "staging")
        try:
            recovers(cloud, point)
        finally:
            cloud.close()


@pytest.mark.all
@pytest.mark.timeout(3600)
def test_every_kill_is_recovered_from(every_point: list[Point], tmp_path: Path) -> None:
    def attempt(number: int) -> str | None:
        cloud = BareCloud(tmp_path / str(number), "staging")
        try:
            recovers(cloud, every_point[number])
        except AssertionError as error:
            return f"{every_point[number]}: {error}"
        finally:
            cloud.close()
        return None

    with ThreadPoolExecutor(2) as pool:
        failed = [failure for failure in pool.map(attempt, range(len(every_point))) if failure]
    assert not failed, "\n\n".join(failed)
