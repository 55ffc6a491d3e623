"""DNS: Knot answers for the zones with authority (ns1.digitalocean.com), Unbound resolves for droplets and the proxy.

Knot sends what it has no zone for to this machine's own resolvers; Unbound follows aliases across zones and keeps no
cache, so that a changed record is seen at once.
"""

from __future__ import annotations

import time
from pathlib import Path

from sandbox.parts.base import DnsRecord
from sandbox.parts.docker import Docker, File, label_options
from sandbox.parts.edge import REGIONS, SPACES_DOMAIN
from sandbox.parts.images import Images
from sandbox.parts.instance import Instance
from sandbox.parts.network import Networks

CONF = "/etc/knot/knot.conf"
ZONES = "/var/lib/knot/zones"
INFRASTRUCTURE_TTL = 60
NAMESERVERS = tuple(f"ns{number}.digitalocean.com." for number in (1, 2, 3))


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
    """A zone file. SOA and NS are DigitalOcean's own unless the records bring them."""
    lines = [f"$ORIGIN {zone}."]
    if not any(record.type == "SOA" for record in records):
        lines.append(f"@ 1800 IN SOA {NAMESERVERS[0]} hostmaster.{zone}. {serial} 10800 3600 604800 1800")
    if not any(record.type == "NS" and record.name.rstrip(".") == zone for record in records):
        lines += [f"@ 1800 IN NS {name}" for name in NAMESERVERS]
    lines += [f"{record.name.rstrip('.')}. {record.ttl} IN {record.type} {record.data}" for record in records]
    return "\n".join(lines) + "\n"


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


class Dns:
    """Nameserver and resolver of one instance."""

    def __init__(self, instance: Instance, docker: Docker, images: Images, networks: Networks) -> None:
        self.instance, self.docker, self.images, self.networks = instance, docker, images, networks
        self._zones: dict[str, tuple[DnsRecord, ...]] = {}
        self._serial = 0

    @property
    def nameserver(self) -> str:
        """The container that answers with authority."""
        return self.instance.thing("nameserver")

    @property
    def resolver(self) -> str:
        """The container that droplets and the proxy ask."""
        return self.instance.thing("resolver")

    def ensure(self) -> bool:
        """Create and start both if they are not there; False when they ran."""
        plan = self.instance.plan
        made = self._ensure(self.nameserver, plan.infrastructure("nameserver"), ["knotd", "-c", CONF], self._files({}))
        conf = File(path="/etc/unbound/sandbox.conf", text=unbound_conf(plan.infrastructure("nameserver")))
        command = ["unbound", "-d", "-p", "-c", "/etc/unbound/sandbox.conf"]
        return self._ensure(self.resolver, plan.infrastructure("resolver"), command, [conf]) or made

    def _ensure(self, name: str, address: str, command: list[str], files: list[File]) -> bool:
        if self.docker.running(name):
            return False
        if self.docker.inspect("container", name) is None:
            options = [*label_options(self.instance.labels), "--network", self.networks.public, "--ip", address]
            options += ["--restart", "unless-stopped"]
            self.docker.create(name, self.images.image("parts"), options, command)
            self.docker.put(name, files)
        self.docker.start(name)
        return True

    def _infrastructure(self) -> dict[str, tuple[DnsRecord, ...]]:
        """DigitalOcean's own names, as far as the sandbox has them; the real ones are out of reach from inside."""
        edge = self.instance.plan.infrastructure("edge")
        nameserver = self.instance.plan.infrastructure("nameserver")

        def a(name: str, address: str) -> DnsRecord:
            return DnsRecord(name=name, type="A", data=address, ttl=INFRASTRUCTURE_TTL)

        spaces = [
            a(f"{name}.{SPACES_DOMAIN}", edge)
            for region in REGIONS
            for name in (region, f"*.{region}", f"*.{region}.cdn")
        ]
        return {
            SPACES_DOMAIN: tuple(spaces),
            "digitalocean.com": (
                a("registry.digitalocean.com", edge),
                *(a(name, nameserver) for name in NAMESERVERS),
            ),
        }

    def _files(self, zones: dict[str, tuple[DnsRecord, ...]]) -> list[File]:
        everything = {**zones, **self._infrastructure()}
        self._serial = max(self._serial + 1, int(time.time()))
        return [
            File(path=CONF, text=knot_conf(sorted(everything), machine_resolvers())),
            *(
                File(path=f"{ZONES}/{zone}.zone", text=zone_text(zone, records, self._serial))
                for zone, records in everything.items()
                if self._zones.get(zone) != records
            ),
        ]

    def set_zones(self, zones: dict[str, tuple[DnsRecord, ...]]) -> None:
        """Serve exactly these zones beside the infrastructure's; queries are answered throughout."""
        self.docker.put(self.nameserver, self._files(zones))
        if self.docker.running(self.nameserver):
            self.docker.execute(self.nameserver, "knotc", "-c", CONF, "reload")
            # A plain reload passes over a zone file that was written twice in one second; `-b` waits for the end.
            self.docker.execute(self.nameserver, "knotc", "-c", CONF, "-b", "zone-reload")
        self._zones = dict(zones)
