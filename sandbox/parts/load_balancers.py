"""Load balancers: HAProxy in a container with a public address, and one in the VPC of its droplets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from sandbox.parts.base import PartError, ServiceSpec, World
from sandbox.parts.container_spec import ContainerSpec, draft_of, is_current, make, start
from sandbox.parts.docker import File, eventually
from sandbox.parts.service import PerObject

CONF = "/etc/balancer"
CONNECTIONS = 10_000
"""Simultaneous connections of one node, as DigitalOcean says."""
TCP_IDLE_SECONDS = 60
READY_SECONDS = 60
_STRONG = ":".join(
    f"ECDHE-{signature}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384")
    for signature in ("ECDSA", "RSA")
)
_ASK = "nc -U -N /run/balancer.sock"
_BOOT = f"""set -eu
# The address in the VPC alone: the one that Docker chose for this wire is of no use to anybody.
address=$(cat {CONF}/vpc_address)
ip -4 address flush dev eth1
ip address add "$address" dev eth1
arping -q -c 1 -w 1 -U -I eth1 "${{address%/*}}" >/dev/null 2>&1 &
: > /run/balancer.state
exec haproxy -W -db -f {CONF}/haproxy.cfg
"""
# The new worker takes over the listening sockets and what is known of the droplets' health; the old one ends with its
# last connection.
_RELOAD = f"""set -eu
haproxy -c -q -f {CONF}/haproxy.cfg
echo 'show servers state' | {_ASK} > /run/balancer.state.new
mv /run/balancer.state.new /run/balancer.state
pkill -USR2 -o -x haproxy
"""


@dataclass(frozen=True, kw_only=True)
class ForwardingRule:
    """A port of the balancer and where its traffic goes. `certificate` is chain and key in PEM, where TLS ends here."""

    entry_protocol: str
    entry_port: int
    target_protocol: str
    target_port: int
    passthrough: bool = False
    certificate: str | None = field(default=None, repr=False)

    @property
    def http(self) -> bool:
        """Return True if requests are forwarded, not connections."""
        return self.entry_protocol != "tcp" and not self.passthrough


@dataclass(frozen=True, kw_only=True)
class HealthCheck:
    """How a droplet is asked whether it can serve. `interval` and `timeout` in seconds."""

    protocol: str
    port: int
    path: str
    interval: int
    timeout: int
    healthy: int
    unhealthy: int


@dataclass(frozen=True, kw_only=True)
class LoadBalancerSpec(ServiceSpec):
    """A load balancer. `droplets` are numbers and VPC addresses; `cookie` is name and lifetime in seconds.

    `allow` and `deny` are CIDRs of clients; with any in `allow`, nobody else is let in.
    """

    kind: ClassVar[str] = "load_balancer"
    public_ip: str
    private_ip: str
    nodes: int
    rules: tuple[ForwardingRule, ...]
    health: HealthCheck
    droplets: tuple[tuple[int, str], ...]
    algorithm: str = "round_robin"
    cookie: tuple[str, int] | None = None
    redirect: bool = False
    proxy_protocol: bool = False
    keepalive: bool = False
    idle_seconds: int = 60
    strong_ciphers: bool = False
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _file_of(certificate: str) -> str:
    return f"{CONF}/tls/{hashlib.sha256(certificate.encode()).hexdigest()[:16]}.pem"


def _frontend(spec: LoadBalancerSpec, rule: ForwardingRule) -> list[str]:
    tls = ""
    if rule.certificate and not rule.passthrough:
        alpn = "h2,http/1.1" if rule.entry_protocol == "http2" else "http/1.1"
        tls = f" ssl crt {_file_of(rule.certificate)} alpn {alpn}"
    lines = [f"bind :{rule.entry_port}{tls}", f"mode {'http' if rule.http else 'tcp'}"]
    if spec.allow:
        lines.append(f"tcp-request connection reject unless {{ src {' '.join(spec.allow)} }}")
    if spec.deny:
        lines.append(f"tcp-request connection reject if {{ src {' '.join(spec.deny)} }}")
    if rule.http:
        lines += [
            "option forwardfor",
            f"http-request set-header X-Forwarded-Proto {'https' if tls else 'http'}",
            f"http-request set-header X-Forwarded-Port {rule.entry_port}",
        ]
        if spec.redirect and not tls and rule.entry_port == 80:
            lines.append("http-request redirect scheme https code 301")
    idle = spec.idle_seconds if rule.http else TCP_IDLE_SECONDS
    return [*lines, f"timeout client {idle}s", f"default_backend rule-{rule.entry_port}"]


def _backend(spec: LoadBalancerSpec, rule: ForwardingRule) -> list[str]:
    health = spec.health
    idle = spec.idle_seconds if rule.http else TCP_IDLE_SECONDS
    lines = [
        f"mode {'http' if rule.http else 'tcp'}",
        f"balance {'leastconn' if spec.algorithm == 'least_connections' else 'roundrobin'}",
        f"timeout server {idle}s",
        f"timeout check {health.timeout}s",
        f"option {'http-keep-alive' if spec.keepalive else 'http-server-close'}" if rule.http else "",
    ]
    if health.protocol != "tcp":
        lines += [
            "option httpchk",
            f"http-check send meth GET uri {_quoted(health.path)} ver HTTP/1.1 hdr Host {spec.public_ip}",
        ]
    if spec.cookie and rule.http:
        name, seconds = spec.cookie
        lines.append(f"cookie {name} insert indirect nocache httponly maxlife {seconds}s attr Max-Age={seconds}")
    options = f"check port {health.port} inter {health.interval}s fall {health.unhealthy} rise {health.healthy}"
    options += " check-ssl verify none" if health.protocol == "https" else " no-check-ssl"
    if rule.http and rule.target_protocol in ("https", "http2"):
        options += " ssl verify none" + (" alpn h2" if rule.target_protocol == "http2" else "")
    if spec.proxy_protocol:
        options += " send-proxy" + (" check-send-proxy" if health.port == rule.target_port else "")
    for number, address in spec.droplets:
        sticky = f" cookie {number:x}" if spec.cookie and rule.http else ""
        lines.append(f"server droplet-{number} {address}:{rule.target_port} {options}{sticky}")
    return [line for line in lines if line]


def haproxy_settings(spec: LoadBalancerSpec) -> str:
    """Return HAProxy's configuration; its first section carries a digest of the rest, by which a reload is seen."""
    ciphers = f"\n    ssl-default-bind-ciphers {_STRONG}" if spec.strong_ciphers else ""
    sections = []
    for rule in spec.rules:
        sections += [f"frontend port-{rule.entry_port}", *(f"    {line}" for line in _frontend(spec, rule))]
        sections += [f"backend rule-{rule.entry_port}", *(f"    {line}" for line in _backend(spec, rule))]
    rest = "\n".join(sections) + "\n"
    body = f"""    user haproxy
    group haproxy
    maxconn {CONNECTIONS * spec.nodes}
    no strict-limits
    stats socket /run/balancer.sock mode 600 level admin expose-fd listeners
    server-state-file /run/balancer.state
    ssl-default-bind-options ssl-min-ver TLSv1.2{ciphers}
    # A droplet's certificate is its own affair, as at DigitalOcean.
    ssl-server-verify none
defaults
    timeout connect 5s
    timeout http-request 60s
    option redispatch
    load-server-state-from-file global
"""
    return f"global\n    description {digest_of(body + rest)}\n{body}{rest}"


def digest_of(text: str) -> str:
    """Return the short hash that a configuration carries."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _specs(world: World) -> list[LoadBalancerSpec]:
    return [spec for spec in world.services if isinstance(spec, LoadBalancerSpec)]


class LoadBalancers(PerObject):
    """The load balancers of one instance."""

    name = "balancer"

    def ids(self, world: World) -> tuple[Iterable[object], Iterable[object]]:  # noqa: D102
        return [spec.id for spec in _specs(world)], ()

    def steps(self, world: World) -> dict[str, Callable[[], object]]:  # noqa: D102
        return {f"{spec.kind}:{spec.id}": partial(self.apply, spec) for spec in _specs(world)}

    def apply(self, spec: LoadBalancerSpec) -> None:
        """Make the balancer or bring it to the spec; returns once it forwards by it. No connection is cut."""
        name, container = self.container(spec.id), self._container(spec)
        if is_current(container, self.docker.inspect("container", name)):
            running = self.docker.running(name)
            if running:
                self.docker.execute(name, "rm", "-rf", f"{CONF}/tls")  # keys of before
            self.docker.put(name, self._files(spec))
            if running and not self._follows(spec):
                self.docker.execute(name, "sh", "-c", _RELOAD)
        else:
            self.networks.create_vpc(spec.vpc)
            make(self.docker, container)
        if not self.docker.running(name):
            start(self.docker, container)
        self._wait(spec)

    def _container(self, spec: LoadBalancerSpec) -> ContainerSpec:
        return ContainerSpec(
            name=self.container(spec.id),
            image=self.images.image("parts"),
            labels=self.instance.labels,
            options=(
                "--cap-add", "NET_ADMIN", "--restart", "unless-stopped",
                "--network", self.networks.public, "--ip", spec.public_ip,
            ),
            command=("sh", "-c", _BOOT),
            networks=(self.networks.join(spec.vpc, spec.private_ip),),
            files=(File(path=f"{CONF}/vpc_address", text=f"{spec.vpc.interface(spec.private_ip)}\n"),),
            first_files=lambda: self._files(spec),
        )  # fmt: skip

    @staticmethod
    def _files(spec: LoadBalancerSpec) -> list[File]:
        certificates = {rule.certificate for rule in spec.rules if rule.certificate}
        return [
            File(path=f"{CONF}/haproxy.cfg", text=haproxy_settings(spec)),
            *(File(path=_file_of(certificate), text=certificate, mode=0o600) for certificate in sorted(certificates)),
        ]

    def _follows(self, spec: LoadBalancerSpec) -> bool:
        """Return True if the running HAProxy has the settings of the spec."""
        digest = haproxy_settings(spec).splitlines()[1].split()[1]
        look = f"echo 'show info' | {_ASK} | grep -qx 'description: {digest}'"
        return self.docker.probe(self.container(spec.id), "sh", "-c", look)

    def _wait(self, spec: LoadBalancerSpec) -> None:
        name = self.container(spec.id)

        def ready() -> bool:
            if not self.docker.running(name):
                raise PartError(f"{name}: HAProxy ended: {self.docker.run('logs', '--tail', '1', name, check=False)}")
            return self._follows(spec)

        eventually(ready, what=name, seconds=READY_SECONDS, pause=0.2)

    def delete(self, ident: str) -> None:
        """Remove the balancer."""
        self.docker.remove(self.container(ident))
        self.docker.remove(draft_of(self.container(ident)))
