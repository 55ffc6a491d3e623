"""UFW, in agreement with the cloud firewall: 22 from the stack's sources, 80 and 443 from everywhere, nothing else in.

Docker puts the ports it publishes before UFW's chains; the rules of `docker-user.rules` in UFW's own after.rules (and
after6.rules) close that way, so that this layer alone keeps a published port closed.

What UFW has is read from the tuples it keeps in user.rules and user6.rules: `ufw show added` prints a rule for IPv4
alone and a rule for both alike.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pyinfra.api.operation import operation
from pyinfra.context import host
from pyinfra.facts.files import FileContents

from host.errors import ConvergeError
from host.operations import STAMPS, ShellLines, placing, text_digest
from host.templates import render

BEGIN, END = "# BEGIN ancla", "# END ancla"
ANYWHERE = ("0.0.0.0/0", "::/0")
_MARK = "### tuple ### "
_DEFAULTS = {"INPUT": ("incoming", "DROP"), "OUTPUT": ("outgoing", "ACCEPT"), "FORWARD": ("routed", "DROP")}
_STATE = f"""
LC_ALL=C ufw status | head -n1
grep -h '^{_MARK}' /etc/ufw/user.rules /etc/ufw/user6.rules
grep -hE '^DEFAULT_(INPUT|OUTPUT|FORWARD)_POLICY=' /etc/default/ufw | tr -d '"'
cat {STAMPS}/ufw 2>/dev/null || true
"""


@dataclass(frozen=True, order=True)
class Rule:
    """One rule of one address family, with the fields of UFW's tuple. `source` and `destination` are CIDRs.

    `application` is the profile a person named in place of the port, such as OpenSSH.
    """

    action: str
    protocol: str
    port: str
    destination: str
    source_port: str
    source: str
    direction: str = "in"
    application: str = ""

    @classmethod
    def tcp(cls, port: int, source: str) -> Rule:
        """Let TCP `port` be reached from `source`."""
        family = ipaddress.ip_network(source).version
        return cls("allow", "tcp", str(port), ANYWHERE[family == 6], "any", source)

    @classmethod
    def parse(cls, line: str) -> Rule:
        """Read a line of user.rules, its comment left out."""
        words = [word for word in line.removeprefix(_MARK).split() if not word.startswith("comment=")]
        # the profiles of destination and source come in between, `-` for none
        application = words[6].replace("%20", " ") if len(words) == 9 else ""
        action, protocol, port, destination, source_port, source = words[:6]
        return cls(action, protocol, port, destination, source_port, source, words[-1], application)

    def arguments(self) -> str:
        """Return the rule as `ufw` reads it."""
        words = [self.action, self.direction]
        if self.protocol != "any" and not self.application:
            words += ["proto", self.protocol]
        words += ["from", self.source] + ([] if self.source_port == "any" else ["port", self.source_port])
        words += ["to", self.destination]
        if self.application:
            words += ["app", shlex.quote(self.application)]
        elif self.port != "any":
            words += ["port", self.port]
        return " ".join(words)


def build_rules(ssh_port: int, ssh_sources: Iterable[str]) -> list[Rule]:
    """Return the rules a droplet has, in order."""
    ssh = [Rule.tcp(ssh_port, source) for source in sorted(set(ssh_sources))]
    return ssh + [Rule.tcp(port, source) for port in (80, 443) for source in ANYWHERE]


def build_commands(state: Sequence[str], rules: Sequence[Rule], digest: str) -> list[str]:
    """Return the commands that lead from `state` (what `_STATE` printed) to these rules; none when it is there already.

    Additions come before deletions, and both before the firewall is switched on: no login is cut off on the way.
    """
    active = "Status: active" in state
    found = [Rule.parse(line) for line in state if line.startswith(_MARK)]
    policies = dict(line.removeprefix("DEFAULT_").split("_POLICY=") for line in state if line.startswith("DEFAULT_"))
    commands = [f"ufw {rule.arguments()}" for rule in rules if rule not in found]
    commands += [f"ufw delete {rule.arguments()}" for rule in found if rule not in rules]
    for chain, (direction, policy) in _DEFAULTS.items():
        if policies.get(chain) != policy:
            commands.append(f"ufw default {'deny' if policy == 'DROP' else 'allow'} {direction}")
    if not active:
        commands.append("ufw --force enable")
    elif digest not in state:
        commands.append("ufw reload")
    if not active or digest not in state:
        commands.append(f"install -d -m 755 {STAMPS} && printf '%s\\n' {digest} >{STAMPS}/ufw")
    return commands


def with_block(text: str, block: str) -> str:
    """Return `text` with `block` between our markers, in place of what was between them, or at the end."""
    before, found, rest = text.partition(f"{BEGIN}\n")
    after = rest.partition(f"{END}\n")[2] if found else ""
    before = before if before.endswith("\n") or not before else before + "\n"
    return f"{before}{BEGIN}\n{block}{END}\n{after}"


def lets_in(ssh_sources: Iterable[str], address: str) -> bool:
    """Whether a login from `address` is let in by these sources."""
    found = ipaddress.ip_address(address)
    found = getattr(found, "ipv4_mapped", None) or found
    return any(found in ipaddress.ip_network(source) for source in ssh_sources)


@operation()
def _block(path: str, block: str) -> Generator[Any, Any, None]:
    lines = host.get_fact(FileContents, path=path)
    if lines is None:
        raise ConvergeError(f"{path} is missing on the droplet: reinstall its package ufw")
    current = "\n".join(lines) + "\n"
    changed = with_block(current, block)
    if changed == current:
        host.noop(f"{path} has the block")
        return
    yield from placing(dest=path, content=changed, mode="640")


@operation()
def _ufw(rules: Sequence[Rule], digest: str) -> Generator[str, Any, None]:
    commands = build_commands(host.get_fact(ShellLines, script=_STATE), rules, digest)
    if not commands:
        host.noop("the firewall is as it should be")
    yield from commands


def firewall(*, ssh_port: int, ssh_sources: Iterable[str]) -> None:
    """Close everything but SSH from its sources, and 80 and 443; for containers too."""
    block = render("docker-user.rules")
    for path in ("/etc/ufw/after.rules", "/etc/ufw/after6.rules"):
        _block(name=f"firewall: containers stay closed ({path})", path=path, block=block)
    _ufw(name="firewall: UFW", rules=build_rules(ssh_port, ssh_sources), digest=text_digest(block))
