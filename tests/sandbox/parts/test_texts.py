"""The texts the parts write: nft programs, SQL, zone files, settings. No container."""

from __future__ import annotations

import io
import ipaddress
import tarfile
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
)
from sandbox.parts.dns import zone_text
from sandbox.parts.docker import Docker, File, archive
from sandbox.parts.edge import cdn_server, htpasswd
from sandbox.parts.firewall import cloud_firewall, trusted_sources
from sandbox.parts.instance import BENCHMARK, Instance, Plan
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


def test_a_zone_gets_soa_and_nameservers_unless_it_brings_them() -> None:
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

    def run(self, *arguments: str, **_: Any) -> str:
        subnet = ipaddress.IPv4Network(arguments[arguments.index("--subnet") + 1])
        if not self.used:
            self.used.append(subnet)
        if any(subnet.overlaps(other) for other in self.used):
            raise PartError("docker network: invalid pool request: Pool overlaps with other one on this address space")
        return ""


def test_of_two_sandboxes_that_start_at_once_the_second_takes_another_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[ipaddress.IPv4Network] = []
    monkeypatch.setattr("sandbox.parts.instance.networks_in_use", lambda: used)
    instance = Instance(name="second", home=tmp_path)
    Networks(instance, Racing(used)).ensure_infrastructure()
    assert [str(network) for network in used] == ["198.18.0.0/21"]
    assert instance.plan.block == ipaddress.IPv4Network("198.18.16.0/20")
    assert Instance(name="second", home=tmp_path).plan == instance.plan
    # A block that its data was made with is not left: what overlaps it has to go.
    used.append(instance.plan.public)
    with pytest.raises(PartError, match="overlaps"):
        Networks(instance, Racing(used)).ensure_infrastructure()


def test_two_sandboxes_that_choose_a_range_at_once_choose_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker knows of a range only when the network is made."""
    used: list[ipaddress.IPv4Network] = []
    monkeypatch.setattr("sandbox.parts.instance.networks_in_use", lambda: used)
    monkeypatch.setattr("sandbox.parts.network.networks_in_use", list)
    networks: list[Networks] = []
    for name in ("first", "second", "third"):
        instance = Instance(name=name, home=tmp_path / name)
        used.append(instance.plan.block)
        networks.append(Networks(instance, Docker()))
    chosen = [each.free_vpc_range(frozenset()) for each in networks]
    assert chosen == ["10.100.0.0/20", "10.100.32.0/20", "10.100.64.0/20"]
    last = Instance(name="last", home=tmp_path / "last")
    used += [block for block in BENCHMARK.subnets(new_prefix=20) if str(block) != "198.19.240.0/20"]
    taken = frozenset(["10.103.224.0/20", "10.103.240.0/20"])
    assert Networks(last, Docker()).free_vpc_range(taken) == "10.100.0.0/20", "it goes on at the start"


def test_files_are_packed_with_their_modes() -> None:
    with tarfile.open(fileobj=io.BytesIO(archive([File(path="/a/b", text="x", mode=0o600)]))) as tar:
        member = tar.getmember("a/b")
    assert (member.mode, member.uid, member.size) == (0o600, 0, 1)
