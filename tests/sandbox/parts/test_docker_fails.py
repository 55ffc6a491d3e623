"""A Docker that fails at its n-th call, or a sandbox that is killed there: nothing is lost, nothing is left over."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.parts import container_spec
from sandbox.parts.authority import RENEW_DAYS, Authority
from sandbox.parts.base import ClusterSpec, DatabaseUser, DnsRecord, DropletSpec, PartError, VpcSpec, World
from sandbox.parts.containers import ContainerParts
from sandbox.parts.docker import Docker
from sandbox.parts.images import Images
from sandbox.parts.instance import Instance
from sandbox.parts.load_balancers import ForwardingRule, HealthCheck, LoadBalancerSpec
from tests.sandbox.parts.fake_docker import FakeDocker, Killed, Thing

NAME = "ancla-fails-"
VPC = VpcSpec(id="vpc", name="default-nyc3", ip_range="10.100.0.0/20")
DROPLET = DropletSpec(
    id=1, name="web", image="ubuntu-24-04-x64", vcpus=1, memory=1024, disk=25, region="nyc3", vpc=VPC,
    public_ip="198.18.0.40", private_ip="10.100.0.2", reserved_ips=("198.18.4.1",),
)  # fmt: skip
CLUSTER = ClusterSpec(
    id="c", name="db", version="15", nodes=1, vcpus=1, memory=1024, host="db.example.org",
    private_host="private-db.example.org", vpc=VPC, public_ip="198.18.0.41", private_ip="10.100.0.3",
    users=(DatabaseUser(name="doadmin", password="p"),), databases=("defaultdb",),
)  # fmt: skip
ZONES = {"example.org": (DnsRecord(name="www.example.org", type="A", data="192.0.2.1", ttl=30),)}
BALANCER = LoadBalancerSpec(
    id="lb", vpc=VPC, public_ip="198.18.0.42", private_ip="10.100.0.4", nodes=1, droplets=((1, "10.100.0.2"),),
    rules=(ForwardingRule(entry_protocol="http", entry_port=80, target_protocol="http", target_port=80),),
    health=HealthCheck(protocol="http", port=80, path="/", interval=10, timeout=5, healthy=5, unhealthy=3),
)  # fmt: skip
WORLD = World(
    vpcs=(VPC,), droplets=(DROPLET,), clusters=(CLUSTER,), firewalls={1: None}, zones=ZONES, services=(BALANCER,)
)
WAYS = [(False, False), (True, False), (False, True), (True, True)]
"""(the call was done before it failed, the sandbox was killed)."""


class Stand:
    """A sandbox over the fake; `again` is the next process over the same Docker."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        (home / "addresses.json").write_text(json.dumps({"block": "198.18.0.0/20"}))
        self.home, self.docker = home, FakeDocker()

    def again(self) -> ContainerParts:
        return ContainerParts(Instance(name="fails", home=self.home), docker=Docker(self.docker))

    def marks(self) -> dict[str, str]:
        """What is on each volume, and on the disk of the droplet."""
        found = {name: volume.mark for name, volume in self.docker.things["volume"].items()}
        disk = self.docker.things["container"].get(f"{NAME}droplet-1")
        return found | ({"disk": disk.mark} if disk else {})

    def containers(self) -> dict[str, str]:
        return {name: thing.image for name, thing in self.docker.things["container"].items()}


@pytest.fixture(autouse=True)
def image(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The version of every image; and nothing waits long for what does not come."""
    version = ["1"]
    monkeypatch.setattr(Images, "image", lambda _, kind: f"{kind}:{version[0]}")
    for name in ("databases.READY_SECONDS", "load_balancers.READY_SECONDS", "spaces.START_SECONDS"):
        monkeypatch.setattr(f"sandbox.parts.{name}", 0.05)
    return version


def failing(stand: Stand, do: Callable[[ContainerParts], object], number: int, way: tuple[bool, bool]) -> bool:
    """Do it with a Docker that fails at this call; say whether there was such a call."""
    parts = stand.again()
    stand.docker.arm(number, after=way[0], killed=way[1])
    with contextlib.suppress(PartError, Killed):
        do(parts)
    reached = len(stand.docker.lines) >= number
    stand.docker.arm()
    return reached


def every_call(
    home: Path,
    prepare: Callable[[Stand], object],
    do: Callable[[ContainerParts], object],
    ways: Sequence[tuple[bool, bool]] = WAYS,
) -> Iterator[tuple[Stand, dict[str, str], str]]:
    """Yield a stand after each way and place to fail."""
    for way in ways:
        for number in range(1, 1000):
            stand = Stand(home / f"{way[0]}{way[1]}{number}")
            prepare(stand)
            before = stand.marks()
            if not failing(stand, do, number, way):
                assert number > 2, "it never failed"
                break
            yield stand, before, f"call {number}, {way}"


def up(stand: Stand) -> None:
    assert stand.again().reconcile(WORLD) == {}


def at_rest(stand: Stand) -> bool:
    """Whether all is there, runs, and is whole, and nothing else is."""
    parts = stand.again()
    made = {
        f"{NAME}{name}" for name in ("droplet-1", "database-c", "balancer-lb", "edge", "spaces", "registry", "proxy")
    }
    made |= {f"{NAME}{name}" for name in ("nameserver", "resolver")}
    things = stand.docker.things["container"]
    whole = {
        f"{NAME}droplet-1": "/var/lib/droplet/vpc_address",
        f"{NAME}database-c": "/etc/cluster/tls/key.pem",
        f"{NAME}balancer-lb": "/etc/balancer/haproxy.cfg",
        f"{NAME}edge": "/etc/edge/tls/key.pem",
        f"{NAME}resolver": "/etc/unbound/sandbox.conf",
        f"{NAME}nameserver": "/var/lib/knot/zones/example.org.zone",
    }
    return (
        set(things) == made
        and all(thing.running for thing in things.values())
        and all(file in things[name].files for name, file in whole.items())
        and parts.leaks(WORLD) == []
    )


@pytest.mark.long
def test_a_start_that_fails_anywhere_is_finished_by_the_next(tmp_path: Path) -> None:
    for stand, _, place in every_call(tmp_path, lambda _: None, lambda parts: parts.reconcile(WORLD)):
        up(stand)
        assert at_rest(stand), place


@pytest.mark.long
def test_a_restart_that_fails_anywhere_loses_nothing(tmp_path: Path) -> None:
    def prepare(stand: Stand) -> None:
        up(stand)
        stand.again().stop()

    for stand, before, place in every_call(tmp_path, prepare, lambda parts: parts.reconcile(WORLD)):
        up(stand)
        assert at_rest(stand), place
        assert stand.marks() == before, place


@pytest.mark.long
def test_a_new_version_that_fails_anywhere_replaces_containers_and_keeps_data(tmp_path: Path, image: list[str]) -> None:
    def prepare(stand: Stand) -> None:
        image[0] = "1"
        up(stand)
        image[0] = "2"

    for stand, before, place in every_call(tmp_path, prepare, lambda parts: parts.reconcile(WORLD)):
        up(stand)
        assert at_rest(stand), place
        assert stand.marks() == before, place
        images = stand.containers()
        assert images.pop(f"{NAME}droplet-1") == "droplet:1", "its container is its disk"
        assert set(images.values()) == {"parts:2", "cluster-15:2"}, place


@pytest.mark.parametrize("what", ["droplet", "cluster"])
def test_a_deletion_that_fails_says_so_and_the_next_one_finishes_it(tmp_path: Path, what: str) -> None:
    def delete(parts: ContainerParts) -> None:
        parts.droplets.delete(1) if what == "droplet" else parts.databases.delete("c")

    left = replace(WORLD, droplets=(), firewalls={}) if what == "droplet" else replace(WORLD, clusters=())
    for stand, before, place in every_call(tmp_path, up, delete):
        delete(stand.again())
        assert stand.again().leaks(left) == [], place
        kept = {name: mark for name, mark in before.items() if name in stand.marks()}
        assert stand.marks() == kept, place


@pytest.mark.parametrize("verb", ["rm", "volume rm"])
def test_a_removal_that_docker_refuses_is_no_success(tmp_path: Path, verb: str) -> None:
    stand = Stand(tmp_path)
    up(stand)
    parts = stand.again()
    stand.docker.mute = {verb}
    with pytest.raises(PartError, match="Docker daemon"):
        parts.droplets.delete(1)
    with pytest.raises(PartError, match="Docker daemon"):
        parts.databases.delete("c")
    with pytest.raises(PartError, match=r"not removed: .*spaces"):
        parts.reset()


def test_a_reset_that_fails_anywhere_says_so_or_removes_all(tmp_path: Path) -> None:
    for way in WAYS:
        for number in range(1, 100):
            stand = Stand(tmp_path / f"{way[0]}{way[1]}{number}")
            up(stand)
            parts = stand.again()
            stand.docker.arm(number, after=way[0], killed=way[1])
            try:
                parts.reset()
            except (PartError, Killed):
                pass
            else:
                assert not any(stand.docker.things.values()), f"call {number}, {way}"
            reached = len(stand.docker.lines) >= number
            stand.docker.arm()
            stand.again().reset()
            assert not any(stand.docker.things.values())
            if not reached:
                break


def test_a_container_whose_certificate_is_about_to_end_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = Stand(tmp_path)
    up(stand)
    before = stand.marks()
    made = stand.docker.things["container"]
    kept = {name: thing.files for name, thing in made.items()}
    day = container_spec.today() + dt.timedelta(days=RENEW_DAYS + 1)
    monkeypatch.setattr(container_spec, "today", lambda: day)
    up(stand)
    again = {name for name, thing in made.items() if thing.files is not kept[name]}
    assert again == {f"{NAME}edge", f"{NAME}database-c"}
    for name, file in ((f"{NAME}edge", "/etc/edge/tls/cert.pem"), (f"{NAME}database-c", "/etc/cluster/tls/cert.pem")):
        assert made[name].files[file] != kept[name][file]
    assert stand.marks() == before


def test_a_vpc_of_an_earlier_version_keeps_its_network_and_its_addresses(tmp_path: Path) -> None:
    """Its network has the range of the VPC: an address that Docker chose there could be another member's."""
    stand = Stand(tmp_path)
    labels = {"ancla.sandbox": "fails"}
    stand.docker.things["network"][f"{NAME}vpc-vpc"] = Thing(
        labels=labels, subnet=VPC.ip_range, options={"--internal": [""]}
    )
    up(stand)
    for address in (DROPLET.private_ip, CLUSTER.private_ip):
        assert any(line.startswith(f"network connect --ip {address} ") for line in stand.docker.limits)
    assert at_rest(stand)


def test_every_exec_has_a_limit_of_its_own_and_a_probe_that_hangs_is_a_no(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    up(stand)
    limits = {line: limit for line, limit in stand.docker.limits.items() if line.startswith("exec ")}
    assert {limit for line, limit in limits.items() if "pg_isready" in line or " nc " in line} == {15}
    assert {limit for line, limit in limits.items() if "knotc" in line or "nginx" in line} == {60}

    def hang(command: list[str], _: bytes | None, timeout: float) -> subprocess.CompletedProcess[bytes]:
        raise subprocess.TimeoutExpired(command, timeout)

    assert not Docker(hang).probe("any", "pg_isready")


def test_images_of_earlier_versions_go_when_nothing_is_made_of_them(tmp_path: Path) -> None:
    """The newest stay: another checkout on this computer may be at another version."""
    old, new = "2020-01-01T00:00:00.5Z", dt.datetime.now(dt.UTC).isoformat()
    images = {
        "ancla-sandbox-parts:old": old,
        "ancla-sandbox-parts:used": old,
        "ancla-sandbox-parts:new": new,
        "ancla-sandbox-base:bookworm": old,
    }
    removed: list[str] = []

    def program(command: list[str], _: bytes | None, __: float) -> subprocess.CompletedProcess[bytes]:
        out, code = "", 0
        match command[1:]:
            case ["image", "ls", *_]:
                out = "\n".join(images)
            case ["inspect", *_, name]:
                out = json.dumps([{"Created": images[name]}])
            case ["image", "rm", name]:
                code = int(name.endswith(":used"))
                removed.append(name)
        return subprocess.CompletedProcess(command, code, out.encode(), b"conflict: a container is using it")

    said: list[str] = []
    Images(Docker(program), Authority(tmp_path), said.append).remove_old()
    assert removed == ["ancla-sandbox-parts:old", "ancla-sandbox-parts:used"]
    assert said == ["ancla-sandbox-parts:old: removed, it is of an earlier version"]


def test_one_vpc_that_cannot_be_made_is_named_and_the_rest_starts(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    up(stand)
    stand.docker.mute = {"network create"}
    other = VpcSpec(id="other", name="other", ip_range="10.200.0.0/20")
    problems = stand.again().reconcile(replace(WORLD, vpcs=(VPC, other)))
    assert list(problems) == ["vpc:other"]
    stand.docker.mute = set()
    assert at_rest(stand)


def test_data_that_the_state_does_not_know_is_set_aside_and_named(tmp_path: Path) -> None:
    """A state file that was lost, or an old copy of it, deletes nothing."""
    stand = Stand(tmp_path)
    up(stand)
    before = stand.marks()
    problems = stand.again().reconcile(World())
    aside = {"container ancla-fails-droplet-1", "volume ancla-fails-droplet-1-docker"}
    assert set(problems) == {*aside, "volume ancla-fails-database-c-data"}
    assert stand.marks() == before
    assert not stand.docker.things["container"][f"{NAME}droplet-1"].running
    # A new account counts from the start again: its first droplet must not get that disk.
    parts = stand.again()
    parts.reconcile(World())
    with pytest.raises(PartError, match="disk of an earlier one"):
        parts.droplets.create(DROPLET)
    parts.droplets.delete(1)
    assert stand.marks() == before
    # With the right state again, all of it is as it was.
    up(stand)
    assert at_rest(stand)
    assert stand.marks() == before


@pytest.mark.long
def test_networks_that_somebody_removed_are_made_again_with_the_containers_on_them(tmp_path: Path) -> None:
    """`docker network prune`, while the sandbox is stopped."""

    def prepare(stand: Stand) -> None:
        up(stand)
        stand.again().stop()
        stand.docker.things["network"].clear()

    for stand, before, place in every_call(tmp_path, prepare, lambda parts: parts.reconcile(WORLD), WAYS[-1:]):
        up(stand)
        assert at_rest(stand), place
        assert stand.marks() == before, place
        droplet = stand.docker.things["container"][f"{NAME}droplet-1"]
        assert droplet.addresses == {f"{NAME}public": DROPLET.public_ip}, place
        assert set(droplet.networks) == {f"{NAME}public", f"{NAME}vpc-vpc"}, place


def test_what_was_deleted_when_the_sandbox_was_killed_is_not_set_aside(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    up(stand)
    gone = World(vpcs=(VPC,), leaving_droplets=frozenset({1}), leaving_clusters=frozenset({"c"}), zones=ZONES)
    assert stand.again().reconcile(gone) == {}
    assert set(stand.docker.things["volume"]) == {f"{NAME}spaces-data", f"{NAME}registry-data"}
