"""The same as in `test_docker_fails`, with the real Docker behind a `docker` first on PATH that fails its n-th call."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.parts.base import ClusterSpec, DatabaseUser, PartError, VpcSpec, World
from sandbox.parts.containers import ContainerParts
from sandbox.parts.instance import Instance
from tests.kits.ports import free_ports

pytestmark = pytest.mark.containers
FAILING = """#!/bin/sh
# One line a call; several calls may come at once.
echo x >>"{count}"
[ "$(wc -l <"{count}")" -ne "{number}" ] || {{ echo "Cannot connect to the Docker daemon" >&2; exit 1; }}
exec "{docker}" "$@"
"""


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[ContainerParts]:
    parts = ContainerParts(Instance(name=f"test-fails-{os.getpid()}", home=tmp_path / "home", port=free_ports(3)))
    try:
        parts.images.ensure()
        yield parts
    finally:
        parts.reset()


def _with_failure(tmp_path: Path, number: int) -> str:
    """Return a PATH whose `docker` fails at this call."""
    folder = tmp_path / f"at-{number}"
    folder.mkdir()
    docker = shutil.which("docker")
    assert docker
    script = folder / "docker"
    script.write_text(FAILING.format(count=folder / "count", number=number, docker=docker))
    script.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.long
def test_a_restart_that_fails_keeps_what_is_in_the_database(
    stand: ContainerParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vpc = VpcSpec(id="vpc", name="default-nyc3", ip_range="10.99.0.0/20")
    cluster = ClusterSpec(
        id="c", name="db", version="15", nodes=1, vcpus=1, memory=1024, host="db.example.org",
        private_host="private-db.example.org", vpc=vpc, public_ip=stand.free_public_ip(frozenset()),
        private_ip="10.99.0.3", users=(DatabaseUser(name="doadmin", password="p"),), databases=("defaultdb",),
    )  # fmt: skip
    world = World(vpcs=(vpc,), clusters=(cluster,))
    name = stand.databases.container("c")
    assert stand.reconcile(world) == {}
    stand.databases._query(name, "defaultdb", "CREATE TABLE kept AS SELECT 42 AS answer;\n")
    for number in (9, 17):
        if number == 17:
            stand.docker.remove(name)  # its data is in the volume
        else:
            stand.stop()
        with monkeypatch.context() as failing:
            failing.setenv("PATH", _with_failure(tmp_path, number))
            with contextlib.suppress(PartError):
                stand.reconcile(world)
        assert stand.reconcile(world) == {}, number
        assert stand.databases._query(name, "defaultdb", "SELECT answer FROM kept;\n") == "42", number
        assert stand.leaks(world) == [], number
