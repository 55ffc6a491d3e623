"""UFW, in agreement with the cloud firewall: 22 from the stack's sources, 80 and 443 from everywhere, nothing else in.

Docker puts the ports it publishes before UFW's chains; the rules of `docker-user.rules` in UFW's own after.rules (and
after6.rules) close that way, so that this layer alone keeps a published port closed.

What UFW has is read from the tuples it keeps in user.rules and user6.rules: `ufw show added` prints a rule for IPv4
alone and a rule for both alike.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from typing_extensions import override

from blueprint.machine import FirewallSettings
from host.look import Questions, Seen
from host.services import restore_former, save_former
from host.steps import STAMPS, Change, Command, File, Step, text_digest
from host.templates import render

PACKAGES = ("iptables", "ufw")
BEGIN, END = "# BEGIN ancla", "# END ancla"
ANYWHERE = ("0.0.0.0/0", "::/0")
_MARK = "### tuple ### "
_DEFAULTS = {"INPUT": ("incoming", "DROP"), "OUTPUT": ("outgoing", "ACCEPT"), "FORWARD": ("routed", "DROP")}
_AFTER = ("/etc/ufw/after.rules", "/etc/ufw/after6.rules")
_FILES = (*_AFTER, "/etc/ufw/user.rules", "/etc/ufw/user6.rules", "/etc/ufw/ufw.conf", "/etc/default/ufw")
# The former ufw.conf tells whether the firewall was on before.
_RELOAD = "if grep -q ^ENABLED=yes /etc/ufw/ufw.conf; then ufw reload; else ufw --force disable; fi"
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
    commands = [f"ufw {rule.arguments()}" for rule in rules if rule not in found]
    commands += [f"ufw delete {rule.arguments()}" for rule in found if rule not in rules]
    for direction, policy in _differing_policies(state).items():
        commands.append(f"ufw default {'deny' if policy == 'DROP' else 'allow'} {direction}")
    if not active:
        commands.append("ufw --force enable")
    elif digest not in state:
        commands.append("ufw reload")
    if not active or digest not in state:
        commands.append(f"install -d -m 755 {STAMPS} && printf '%s\\n' {digest} >{STAMPS}/ufw")
    return commands


def _differing_policies(state: Sequence[str]) -> dict[str, str]:
    """Return the policy that is wanted, by direction, where another one is set."""
    policies = dict(line.removeprefix("DEFAULT_").split("_POLICY=") for line in state if line.startswith("DEFAULT_"))
    return {direction: policy for chain, (direction, policy) in _DEFAULTS.items() if policies.get(chain) != policy}


def with_block(text: str, block: str) -> str:
    """Return `text` with `block` between our markers, in place of what was between them, or at the end."""
    before, found, rest = text.partition(f"{BEGIN}\n")
    after = rest.partition(f"{END}\n")[2] if found else ""
    before = before if before.endswith("\n") or not before else before + "\n"
    return f"{before}{BEGIN}\n{block}{END}\n{after}"


def lets_in(ssh_sources: Iterable[str], address: str) -> bool:
    """Return True if a login from `address` is let in by these sources."""
    found = ipaddress.ip_address(address)
    found = getattr(found, "ipv4_mapped", None) or found
    return any(found in ipaddress.ip_network(source) for source in ssh_sources)


@dataclass(frozen=True, kw_only=True)
class Ufw(Step):
    """UFW with these rules, and with `block` in the files that it reads after its own rules."""

    rules: tuple[Rule, ...]
    block: str

    @override
    def questions(self) -> Questions:
        return Questions(scripts={"ufw": _STATE, **{path: f"cat {path}" for path in _AFTER}})

    @override
    def change(self, seen: Seen) -> Change:
        placed: list[Command] = []
        differences: list[str] = []
        for path in _AFTER:
            lines = seen.lines.get(path, ())
            current = "".join(f"{line}\n" for line in lines)
            wanted = with_block(current, self.block)
            if wanted != current:
                differences.append(f"{path} lacks the rules for containers" if lines else f"{path} is missing")
                placed.append(File(path=path, content=wanted, mode="640").command())
        state = list(seen.lines.get("ufw", ()))
        digest = text_digest(self.block)
        if not placed and not build_commands(state, self.rules, digest):
            return Change()
        # The stamp goes with the former files: whatever was edited by hand may be what runs, so all of it is loaded.
        commands = build_commands([line for line in state if line != digest], self.rules, digest)
        differences += build_differences(state, self.rules)
        if not differences:
            differences.append("the firewall may run with other rules for containers")
        return Change.of(differences, save_former("ufw", _FILES), *placed, *commands)

    @override
    def describe(self) -> list[str]:
        return [*(rule.arguments() for rule in self.rules), f"for containers {text_digest(self.block)}"]

    @override
    def way_back(self) -> str | None:
        return f"{restore_former('ufw', _FILES)}; {_RELOAD}"


def build_differences(state: Sequence[str], rules: Sequence[Rule]) -> list[str]:
    """Return a line for each rule or policy that differs."""
    found = [Rule.parse(line) for line in state if line.startswith(_MARK)]
    differences = [] if "Status: active" in state else ["the firewall is off"]
    differences += [f"no rule: {rule.arguments()}" for rule in rules if rule not in found]
    differences += [f"a rule too many: {rule.arguments()}" for rule in found if rule not in rules]
    return differences + [f"the policy for {line} differs" for line in _differing_policies(state)]


def ensure(settings: FirewallSettings) -> list[Step]:
    """Close everything but SSH from its sources, and 80 and 443; for containers too."""
    rules = tuple(build_rules(settings.ssh_port, settings.ssh_sources))
    return [Ufw(name="firewall: UFW", rules=rules, block=render("docker-user.rules"))]
