"""A real balancer before two droplets: turns, health, cookies, TLS, and settings that change under open connections."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from sandbox.parts.base import DropletSpec, FirewallRules, PortRule, VpcSpec, World
from sandbox.parts.containers import ContainerParts
from sandbox.parts.load_balancers import ForwardingRule, HealthCheck, LoadBalancerSpec
from tests.sandbox.parts.conftest import eventually, inside, scan

pytestmark = pytest.mark.containers
PORT = 8080
HTTP = ForwardingRule(entry_protocol="http", entry_port=80, target_protocol="http", target_port=PORT)
PASSED = ForwardingRule(entry_protocol="tcp", entry_port=8081, target_protocol="tcp", target_port=PORT)
SERVE = f"cd /srv && hostname > index.html && touch health && exec python3 -m http.server {PORT}"


@pytest.fixture(scope="module")
def droplets(parts: ContainerParts, vpc: VpcSpec, taken: set[str]) -> Iterator[tuple[DropletSpec, ...]]:
    """Two droplets that serve their name, and /health until that is deleted."""
    made: list[DropletSpec] = []
    try:
        for number in (1, 2):
            public = parts.free_public_ip(frozenset(taken))
            taken.add(public)
            made.append(
                DropletSpec(
                    id=1100 + number, name=f"back-{number}", image="ubuntu-24-04-x64", vcpus=1, memory=1024, disk=25,
                    region="nyc3", vpc=vpc, public_ip=public, private_ip=inside(vpc, 40 + number),
                )
            )  # fmt: skip
            parts.droplets.create(made[-1])
            parts.docker.run("exec", "--detach", parts.droplets.container(made[-1].id), "sh", "-c", SERVE)
        yield tuple(made)
    finally:
        for droplet in made:
            parts.droplets.delete(droplet.id)


@pytest.fixture(scope="module")
def balancer(
    parts: ContainerParts, vpc: VpcSpec, droplets: tuple[DropletSpec, ...], taken: set[str]
) -> Iterator[LoadBalancerSpec]:
    public = parts.free_public_ip(frozenset(taken))
    taken.add(public)
    spec = LoadBalancerSpec(
        id="lb-1", vpc=vpc, public_ip=public, private_ip=inside(vpc, 40), nodes=1, rules=(HTTP, PASSED),
        health=HealthCheck(protocol="http", port=PORT, path="/health", interval=3, timeout=3, healthy=2, unhealthy=2),
        droplets=tuple((droplet.id, droplet.private_ip) for droplet in droplets),
    )  # fmt: skip
    parts.load_balancers.apply(spec)
    yield spec
    parts.load_balancers.delete(spec.id)
    assert parts.load_balancers.container(spec.id) not in parts.docker.names("container", parts.instance.label)


def ask(spec: LoadBalancerSpec) -> str:
    """Ask once, as a new client would, and once more where that fails."""
    for _ in range(2):
        try:
            answer = httpx.get(f"http://{spec.public_ip}/", trust_env=False, timeout=10)
        except httpx.TransportError:
            continue
        if answer.status_code == 200:
            return answer.text.strip()
    raise AssertionError("lost: it failed twice")


def both(spec: LoadBalancerSpec) -> bool:
    try:
        return {ask(spec) for _ in range(4)} == {"back-1", "back-2"}
    except AssertionError:
        return False


@pytest.mark.long
def test_each_in_turn_and_the_sick_one_is_left_out_within_15_seconds_without_a_loss(
    parts: ContainerParts, balancer: LoadBalancerSpec, droplets: tuple[DropletSpec, ...]
) -> None:
    eventually(lambda: both(balancer))
    turns = [ask(balancer) for _ in range(6)]
    assert turns[::2] == [turns[0]] * 3
    assert turns[1::2] == [turns[1]] * 3
    last = parts.droplets.container(droplets[1].id)
    parts.docker.execute(last, "rm", "/srv/health")
    ends = time.monotonic() + 15
    while {ask(balancer) for _ in range(6)} != {"back-1"}:
        assert time.monotonic() < ends, "it is still asked"
    # Other settings do not bring it back.
    parts.load_balancers.apply(replace(balancer, keepalive=True))
    assert {ask(balancer) for _ in range(6)} == {"back-1"}
    parts.docker.execute(last, "touch", "/srv/health")
    eventually(lambda: both(balancer))


def test_an_open_connection_outlives_a_change_and_tls_ends_here(
    parts: ContainerParts, balancer: LoadBalancerSpec
) -> None:
    eventually(lambda: both(balancer))
    chain, key = parts.authority.issue(("www.example.org",))
    tls = ForwardingRule(
        entry_protocol="https", entry_port=443, target_protocol="http", target_port=PORT, certificate=chain + key
    )
    with socket.create_connection((balancer.public_ip, 8081), timeout=20) as open_before:
        open_before.sendall(b"GET / HTTP/1.0\r\n")
        secured = replace(balancer, rules=(HTTP, tls), redirect=True)
        parts.load_balancers.apply(secured)
        open_before.sendall(b"\r\n")
        assert open_before.makefile("rb").readline().startswith(b"HTTP/1.0 200")
    trusted = ssl.create_default_context(cadata=parts.authority.certificate())
    with httpx.Client(verify=trusted, trust_env=False) as client:
        named = {"sni_hostname": "www.example.org"}
        answer = client.get(f"https://{balancer.public_ip}/", extensions=named)
        assert answer.text.strip() in {"back-1", "back-2"}
        moved = client.get(f"http://{balancer.public_ip}/")
        assert (moved.status_code, moved.headers["location"]) == (301, f"https://{balancer.public_ip}/")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((balancer.public_ip, 8081), timeout=5)
    parts.load_balancers.apply(balancer)


def test_a_cookie_keeps_a_client_with_its_droplet(parts: ContainerParts, balancer: LoadBalancerSpec) -> None:
    parts.load_balancers.apply(replace(balancer, cookie=("LB", 60)))
    eventually(lambda: both(balancer))
    with httpx.Client(trust_env=False, base_url=f"http://{balancer.public_ip}") as client:
        assert len({client.get("/").text for _ in range(6)}) == 1
        assert list(client.cookies) == ["LB"]
    parts.load_balancers.apply(balancer)


def test_a_droplet_may_be_open_to_its_balancer_alone(
    parts: ContainerParts, balancer: LoadBalancerSpec, droplets: tuple[DropletSpec, ...]
) -> None:
    eventually(lambda: both(balancer))
    source = PortRule(protocol="tcp", ports=str(PORT), addresses=(f"{balancer.private_ip}/32",))
    parts.droplets.set_firewall(droplets[0], FirewallRules(inbound=(source,), outbound=()))
    assert scan(parts, droplets[0].public_ip, PORT) == {PORT: "filtered"}
    assert both(balancer)
    parts.droplets.set_firewall(droplets[0], None)


def test_who_is_not_allowed_gets_no_answer(parts: ContainerParts, balancer: LoadBalancerSpec) -> None:
    parts.load_balancers.apply(replace(balancer, allow=("192.0.2.0/24",)))
    with pytest.raises(AssertionError, match="lost"):
        ask(balancer)
    parts.load_balancers.apply(balancer)
    eventually(lambda: both(balancer))


def test_it_is_no_leak_and_comes_back_after_a_stop(parts: ContainerParts, balancer: LoadBalancerSpec) -> None:
    name = parts.load_balancers.container(balancer.id)
    assert f"container {name}" not in parts.leaks(World(services=(balancer,)))
    assert f"container {name}" in parts.leaks(World())
    parts.docker.stop(name)
    parts.load_balancers.apply(balancer)
    eventually(lambda: both(balancer))


def test_haproxy_takes_every_setting(parts: ContainerParts, balancer: LoadBalancerSpec) -> None:
    chain, key = parts.authority.issue(("www.example.org",))
    rules = (
        HTTP,
        PASSED,
        ForwardingRule(
            entry_protocol="http2", entry_port=443, target_protocol="http2", target_port=8443, certificate=chain + key
        ),
        ForwardingRule(
            entry_protocol="https", entry_port=444, target_protocol="https", target_port=443, passthrough=True
        ),
    )
    health = replace(balancer.health, protocol="https", path='/it\'s?a="b"#c\\d$HOME%20')
    everything = replace(
        balancer, rules=rules, health=health, algorithm="least_connections", cookie=("LB", 60), proxy_protocol=True,
        keepalive=True, strong_ciphers=True, nodes=3, allow=("0.0.0.0/0",), deny=("192.0.2.0/24", "198.51.100.1"),
    )  # fmt: skip
    parts.load_balancers.apply(everything)
    parts.load_balancers.apply(replace(everything, droplets=()))
    parts.load_balancers.apply(balancer)
