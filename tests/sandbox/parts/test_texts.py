"""The texts the parts write: nft programs, SQL, zone files, settings. No container."""

from __future__ import annotations

import io
import ipaddress
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox.parts.base import (
    CdnSpec,
    DatabaseUser,
    DnsRecord,
    FirewallRules,
    PartError,
    PoolSpec,
    PortRule,
    RegistryLogin,
    VpcSpec,
)
from sandbox.parts.dns import changed_zones, serial_of, zone_text
from sandbox.parts.docker import Docker, File, archive
from sandbox.parts.edge import cdn_server, htpasswd
from sandbox.parts.firewall import cloud_firewall, trusted_sources
from sandbox.parts.instance import Instance, Plan, routes
from sandbox.parts.load_balancers import ForwardingRule, HealthCheck, LoadBalancerSpec, haproxy_settings
from sandbox.parts.network import Networks
from sandbox.parts.sql import literal, pgbouncer_ini, pgbouncer_users, roles_sql


def test_a_firewall_lists_what_it_lets_in_and_drops_the_rest() -> None:
    rules = FirewallRules(
        inbound=(
            PortRule(protocol="tcp", ports="22", addresses=("203.0.113.0/24", "203.0.113.7/32", "2001:db8::/32")),
            PortRule(protocol="udp", ports="0", addresses=("0.0.0.0/0",)),
            PortRule(protocol="icmp", ports="0", addresses=("0.0.0.0/0",)),
        ),
        outbound=(),
    )
    lines = [line.strip() for line in cloud_firewall(rules).splitlines()]
    assert "ip saddr { 203.0.113.0/24 } tcp dport 22 accept" in lines  # overlaps would be an error in nft
    assert "ip6 saddr { 2001:db8::/32 } tcp dport 22 accept" in lines
    assert "ip saddr { 0.0.0.0/0 } meta l4proto udp accept" in lines
    assert "ip saddr { 0.0.0.0/0 } meta l4proto { icmp, ipv6-icmp } accept" in lines
    assert lines.count("drop") == 2


def test_no_trusted_source_means_nobody_and_none_means_everybody() -> None:
    assert "drop" in trusted_sources((), (25060, 25061))
    assert "accept" not in trusted_sources((), (25060,)).split("lo")[1].split("accept", 1)[1]
    assert "drop" not in trusted_sources(None, (25060, 25061))


@pytest.mark.parametrize("value", ["plain", "it's", "back\\slash", "both\\' ", "dollar $do$ end"])
def test_literals_cannot_break_out(value: str) -> None:
    inner = literal(value)[2:-1]
    assert inner.replace("\\\\", "").replace("''", "").count("'") == 0
    assert inner.replace("''", "'").replace("\\\\", "\\") == value


def test_only_doadmin_is_powerful_and_nobody_is_superuser() -> None:
    text = roles_sql((DatabaseUser(name="doadmin", password="a"), DatabaseUser(name="app", password="b")))
    alters = {line.split()[2]: line for line in text.splitlines() if line.startswith("ALTER")}
    assert "CREATEROLE" in alters['"doadmin"']
    assert "CREATEROLE" not in alters['"app"']
    assert all("NOSUPERUSER" in line for line in alters.values())


def test_pgbouncer_files_quote_and_force_the_pools_user() -> None:
    assert pgbouncer_users((DatabaseUser(name='a"b', password='p"w'),)) == '"a""b" "p""w"\n'
    text = pgbouncer_ini((PoolSpec(name="one", mode="session", size=7, database="d", user=None),))
    assert "one = host=/run/postgresql port=25060 dbname=d pool_mode=session pool_size=7\n" in text
    assert "client_tls_sslmode = require" in text


def test_a_zone_gets_soa_and_unless_it_brings_them_nameservers() -> None:
    text = zone_text("example.org", (DnsRecord(name="www.example.org", type="A", data="192.0.2.1", ttl=30),), 5)
    assert text.count(" NS ") == 3
    assert " SOA " in text
    assert "www.example.org. 30 IN A 192.0.2.1" in text
    own = (DnsRecord(name="example.org", type="NS", data="ns.example.net.", ttl=30),)
    assert zone_text("example.org", own, 5).count(" NS ") == 1


def test_expired_logins_are_left_out_and_passwords_are_hashed() -> None:
    logins = (
        RegistryLogin(username="a", password="secret", expires=10.0),
        RegistryLogin(username="b", password="secret"),
    )
    text = htpasswd(logins, now=11.0)
    assert text.startswith("b:{SSHA}")
    assert "secret" not in text
    assert "a:" not in text


def test_a_cdn_without_certificate_has_no_tls_files_of_its_own() -> None:
    cdn = CdnSpec(
        id="x-1", origin="b.nyc3.digitaloceanspaces.com", endpoint="b.nyc3.cdn.digitaloceanspaces.com", ttl=60
    )
    assert "ssl_certificate" not in cdn_server(cdn)


def test_the_plan_never_gives_the_same_address_to_two_kinds() -> None:
    plan = Plan(ipaddress.IPv4Network("198.18.16.0/20"))
    fixed = {
        int(ipaddress.IPv4Address(plan.infrastructure(part))) for part in ("nameserver", "resolver", "edge", "proxy")
    }
    hosts, reserved = set(plan.hosts), set(plan.reserved)
    assert not fixed & hosts
    assert not hosts & reserved
    assert not fixed & reserved
    assert all(ipaddress.IPv4Address(number) in plan.public for number in (*hosts, *reserved))
    assert not plan.public.overlaps(plan.backbone)


class Racing(Docker):
    """A Docker in which another sandbox takes the first block between the look and the creation."""

    def __init__(self, used: list[ipaddress.IPv4Network]) -> None:
        self.used = used

    def inspect(self, kind: str, name: str) -> None:
        return None

    def names(self, kind: str, label: str, *, everything: bool = True) -> set[str]:
        return set()

    def run(self, *arguments: str, **_: Any) -> str:
        if arguments[:2] == ("network", "ls"):
            return ""
        subnet = ipaddress.IPv4Network(arguments[arguments.index("--subnet") + 1])
        if not self.used:
            self.used.append(subnet)
        if any(subnet.overlaps(other) for other in self.used):
            raise PartError("docker network: invalid pool request: Pool overlaps with other one on this address space")
        self.used.append(subnet)
        return ""


def test_of_two_sandboxes_that_start_at_once_the_second_takes_another_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[ipaddress.IPv4Network] = []
    monkeypatch.setattr("sandbox.parts.instance.networks_in_use", lambda: used)
    instance = Instance(name="second", home=tmp_path)
    Networks(instance, Racing(used)).ensure_infrastructure()
    assert str(used[0]) == "198.18.0.0/21"
    assert instance.plan.block == ipaddress.IPv4Network("198.18.16.0/20")
    assert Instance(name="second", home=tmp_path).plan == instance.plan
    # A block that its data was made with is not left: what overlaps it has to go.
    with pytest.raises(PartError, match="overlaps"):
        Networks(instance, Racing(used)).ensure_infrastructure()


def test_a_vpc_has_the_range_of_another_and_a_network_of_its_own_where_docker_has_room(tmp_path: Path) -> None:
    used = [ipaddress.IPv4Network("10.0.0.0/8"), ipaddress.IPv4Network("198.18.9.0/26")]
    (tmp_path / "addresses.json").write_text('{"block": "198.18.0.0/20"}')
    networks = Networks(Instance(name="any", home=tmp_path), Racing(used))
    for number in range(2):
        networks.create_vpc(VpcSpec(id=f"vpc-{number}", name="same", ip_range="10.0.0.0/16"))
    assert [str(network) for network in used[2:]] == ["198.18.9.64/26", "198.18.9.128/26"]
    used.append(ipaddress.IPv4Network("198.18.8.0/21"))
    with pytest.raises(PartError, match="room for 28 VPCs"):
        networks.create_vpc(VpcSpec(id="vpc-9", name="same", ip_range="10.0.0.0/16"))


def test_the_range_that_a_vpc_is_given_is_no_other_ones_and_away_from_what_this_machine_reaches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = Networks(Instance(name="free", home=tmp_path), Docker())
    monkeypatch.setattr("sandbox.parts.network.routes", lambda: [ipaddress.IPv4Network("10.100.16.0/24")])
    assert networks.free_vpc_range(frozenset({"10.100.0.0/20"})) == "10.100.32.0/20"
    monkeypatch.setattr("sandbox.parts.network.routes", lambda: [ipaddress.IPv4Network("10.0.0.0/8")])
    assert networks.free_vpc_range(frozenset({"10.100.0.0/20"})) == "10.100.16.0/20"


def test_routes_of_every_table_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """WireGuard and Tailscale keep tables of their own, which `ip route` alone does not show."""
    fake = tmp_path / "ip"
    all_tables = '[{"dst":"default"},{"dst":"0.0.0.0/1"},{"dst":"100.64.0.0/10","table":"52"},{"dst":"10.8.0.1"}]'
    fake.write_text(f"#!/bin/sh\ncase \"$*\" in *'table all'*) echo '{all_tables}' ;; *) echo '[]' ;; esac\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert [str(network) for network in routes()] == ["100.64.0.0/10", "10.8.0.1/32"]


def test_the_serial_of_a_zone_changes_with_the_zone_alone() -> None:
    def record(address: str) -> DnsRecord:
        return DnsRecord(name="www.example.org", type="A", data=address, ttl=30)

    first = changed_zones({"example.org": (record("192.0.2.1"),), "example.net": ()}, {}, now=100)
    assert [serial_of(text) for text in first.values()] == [100, 100]
    second = changed_zones({"example.org": (record("192.0.2.2"),), "example.net": ()}, first, now=50)
    assert list(second) == ["example.org"]
    assert serial_of(second["example.org"]) == 101, "it never goes down, whatever the clock says"
    assert changed_zones({"example.org": (record("192.0.2.2"),)}, second, now=300) == {}


def test_files_are_packed_with_their_modes() -> None:
    with tarfile.open(fileobj=io.BytesIO(archive([File(path="/a/b", text="x", mode=0o600)]))) as tar:
        member = tar.getmember("a/b")
    assert (member.mode, member.uid, member.size) == (0o600, 0, 1)


def _balancer(rule: ForwardingRule, **more: Any) -> str:
    health = HealthCheck(protocol="http", port=80, path="/up", interval=4, timeout=3, healthy=2, unhealthy=5)
    vpc = VpcSpec(id="v", name="v", ip_range="10.100.0.0/20")
    spec = LoadBalancerSpec(
        id="lb", vpc=vpc, public_ip="198.18.0.42", private_ip="10.100.0.4", nodes=2, rules=(rule,), health=health,
        droplets=((7, "10.100.0.2"),), **more,
    )  # fmt: skip
    return haproxy_settings(spec)


def test_a_balancer_speaks_http_only_where_it_ends_tls() -> None:
    ended = ForwardingRule(
        entry_protocol="https", entry_port=443, target_protocol="https", target_port=8443, certificate="PEM"
    )
    text = _balancer(ended, cookie=("LB", 60), proxy_protocol=True)
    assert "X-Forwarded-Proto https" in text
    assert "cookie LB insert indirect" in text
    (server,) = (line.strip() for line in text.splitlines() if line.strip().startswith("server "))
    assert server.startswith("server droplet-7 10.100.0.2:8443 check port 80 inter 4s fall 5 rise 2 no-check-ssl ssl")
    assert " send-proxy" in server
    assert "check-send-proxy" not in server  # the check goes to another port
    assert "PEM" not in text
    passed = _balancer(replace(ended, certificate=None, passthrough=True), cookie=("LB", 60))
    assert "mode http" not in passed
    assert "Forwarded" not in passed
    assert "cookie" not in passed
    assert " ssl verify none" not in passed


def test_a_changed_setting_of_a_balancer_is_another_digest() -> None:
    rule = ForwardingRule(entry_protocol="tcp", entry_port=5432, target_protocol="tcp", target_port=5432)
    digests = [
        text.splitlines()[1] for text in (_balancer(rule), _balancer(rule), _balancer(rule, deny=("192.0.2.1",)))
    ]
    assert digests[0] == digests[1] != digests[2]
