"""DNS: Knot answers for the zones with authority (ns1.digitalocean.com), Unbound resolves for droplets and the proxy.

Knot sends what it has no zone for to this machine's own resolvers; Unbound follows aliases across zones and keeps no
cache, so that a changed record is seen at once.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from sandbox.catalog import NAME_SERVERS, SPACES_REGIONS
from sandbox.parts.base import DnsRecord, World
from sandbox.parts.container_spec import ContainerSpec, ensure
from sandbox.parts.docker import File
from sandbox.parts.edge import SPACES_DOMAIN
from sandbox.parts.network import Things
from sandbox.parts.service import Service

CONF = "/etc/knot/knot.conf"
ZONES = "/var/lib/knot/zones"
INFRASTRUCTURE_TTL = 60
_NAME_SERVERS = tuple(f"{name}." for name in NAME_SERVERS)
_SERIAL = re.compile(r"( IN SOA \S+ \S+) (\d+) ")


def machine_resolvers() -> list[str]:
    """Resolvers of this machine that a container can reach: a stub on loopback is looked through."""
    for file in ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"):
        try:
            lines = Path(file).read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        servers = [line.split()[1] for line in lines if line.startswith("nameserver ") and len(line.split()) > 1]
        usable = [server for server in servers if not server.startswith("127.") and ":" not in server]
        if usable:
            return usable
    return []


def zone_text(zone: str, records: tuple[DnsRecord, ...], serial: int) -> str:
    """A zone file. The SOA record is DigitalOcean's own, and so are the NS records unless there are others."""
    lines = [f"$ORIGIN {zone}.", f"@ 1800 IN SOA {_NAME_SERVERS[0]} hostmaster.{zone}. {serial} 10800 3600 604800 1800"]
    if not any(record.type == "NS" and record.name.rstrip(".") == zone for record in records):
        lines += [f"@ 1800 IN NS {name}" for name in _NAME_SERVERS]
    lines += [f"{record.name.rstrip('.')}. {record.ttl} IN {record.type} {record.data}" for record in records]
    return "\n".join(lines) + "\n"


def serial_of(text: str) -> int:
    """Return the serial of a zone file; 0 when it has none."""
    found = _SERIAL.search(text)
    return int(found[2]) if found else 0


def changed_zones(zones: dict[str, tuple[DnsRecord, ...]], served: dict[str, str], now: int) -> dict[str, str]:
    """Return the text of each zone whose records differ from the served text. Only its serial goes up."""
    texts: dict[str, str] = {}
    for zone, records in zones.items():
        old = served.get(zone, "")
        if zone_text(zone, records, serial_of(old)) != old:
            texts[zone] = zone_text(zone, records, max(serial_of(old) + 1, now))
    return texts


def knot_conf(zones: list[str], upstream: list[str]) -> str:
    """Knot's settings: the zones, and where everything else goes."""
    listed = "".join(f"  - domain: {zone}\n" for zone in zones)
    proxy = remote = module = ""
    if upstream:
        remote = f"remote:\n  - id: machine\n    address: [{', '.join(upstream)}]\n"
        proxy = "mod-dnsproxy:\n  - id: machine\n    remote: machine\n    fallback: on\n"
        module = "    global-module: mod-dnsproxy/machine\n"
    return (
        "server:\n    rundir: /var/lib/knot\n    listen: 0.0.0.0@53\n"
        "    udp-workers: 1\n    tcp-workers: 2\n    background-workers: 1\n"
        "log:\n  - target: stderr\n    any: warning\n"
        f"database:\n    storage: /var/lib/knot\n{remote}{proxy}"
        f'template:\n  - id: default\n    storage: {ZONES}\n    file: "%s.zone"\n'
        f"    zonefile-sync: -1\n    zonefile-load: whole\n    journal-content: none\n{module}zone:\n{listed}"
    )


def unbound_conf(nameserver: str) -> str:
    """Unbound's settings: everything comes by way of the nameserver, nothing is kept."""
    return (
        "server:\n  interface: 0.0.0.0\n  access-control: 0.0.0.0/0 allow\n"
        '  do-daemonize: no\n  username: ""\n  chroot: ""\n  use-syslog: no\n  logfile: ""\n'
        '  verbosity: 0\n  num-threads: 1\n  module-config: "iterator"\n'
        '  qname-minimisation: no\n  do-ip6: no\n  pidfile: ""\n  unblock-lan-zones: yes\n  insecure-lan-zones: yes\n'
        "remote-control:\n  control-enable: no\n"
        f'forward-zone:\n  name: "."\n  forward-addr: {nameserver}\n  forward-no-cache: yes\n'
    )


class Dns(Service):
    """Nameserver and resolver of one instance."""

    @property
    def nameserver(self) -> str:
        """The container that answers with authority."""
        return self.instance.thing("nameserver")

    @property
    def resolver(self) -> str:
        """The container that droplets and the proxy ask."""
        return self.instance.thing("resolver")

    def expected(self, world: World) -> Things:  # noqa: ARG002 - they are always there
        """As `Service.expected`."""
        return {("container", self.nameserver), ("container", self.resolver)}

    def ensure(self) -> bool:
        """Create and start both if they are not there; False when they ran."""
        plan = self.instance.plan
        nameserver = plan.infrastructure("nameserver")
        conf = File(path="/etc/unbound/sandbox.conf", text=unbound_conf(nameserver))
        unbound = ("unbound", "-d", "-p", "-c", conf.path)
        specs = (
            self._spec(self.nameserver, nameserver, ("knotd", "-c", CONF), first_files=lambda: self._files({}, {})),
            self._spec(self.resolver, plan.infrastructure("resolver"), unbound, files=(conf,)),
        )
        made = [ensure(self.docker, spec) for spec in specs]
        return any(made)

    def _spec(self, name: str, address: str, command: tuple[str, ...], **files: Any) -> ContainerSpec:
        return ContainerSpec(
            name=name,
            image=self.images.image("parts"),
            labels=self.instance.labels,
            options=("--network", self.networks.public, "--ip", address, "--restart", "unless-stopped"),
            command=command,
            **files,
        )

    def _infrastructure(self) -> dict[str, tuple[DnsRecord, ...]]:
        """DigitalOcean's own names, as far as the sandbox has them; the real ones are out of reach from inside."""
        edge = self.instance.plan.infrastructure("edge")
        nameserver = self.instance.plan.infrastructure("nameserver")

        def a(name: str, address: str) -> DnsRecord:
            return DnsRecord(name=name, type="A", data=address, ttl=INFRASTRUCTURE_TTL)

        spaces = [
            a(f"{name}.{SPACES_DOMAIN}", edge)
            for region in SPACES_REGIONS
            for name in (region, f"*.{region}", f"*.{region}.cdn")
        ]
        return {
            SPACES_DOMAIN: tuple(spaces),
            "digitalocean.com": (
                a("registry.digitalocean.com", edge),
                *(a(name, nameserver) for name in _NAME_SERVERS),
            ),
        }

    def _files(self, zones: dict[str, tuple[DnsRecord, ...]], served: dict[str, str]) -> list[File]:
        everything = {**zones, **self._infrastructure()}
        changed = changed_zones(everything, served, int(time.time()))
        return [
            File(path=CONF, text=knot_conf(sorted(everything), machine_resolvers())),
            *(File(path=f"{ZONES}/{zone}.zone", text=text) for zone, text in changed.items()),
        ]

    def set_zones(self, zones: dict[str, tuple[DnsRecord, ...]]) -> None:
        """Serve exactly these zones beside the infrastructure's; queries are answered throughout."""
        served = {file.removesuffix(".zone"): text for file, text in self.docker.get(self.nameserver, ZONES).items()}
        self.docker.put(self.nameserver, self._files(zones, served))
        if self.docker.running(self.nameserver):
            self.docker.execute(self.nameserver, "knotc", "-c", CONF, "reload")
            # A plain reload passes over a zone file that was written twice in one second; `-b` waits for the end.
            self.docker.execute(self.nameserver, "knotc", "-c", CONF, "-b", "zone-reload")
