"""UFW, in agreement with the cloud firewall: 22 from the stack's sources, 80 and 443 from everywhere, nothing else in.

Docker writes its published ports into the packet filter before UFW's chains; the rules of `docker-user.rules` in UFW's own
after.rules (and after6.rules) close that way, so that this layer alone keeps a published port closed.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any

from pyinfra.api import operation
from pyinfra.context import host
from pyinfra.facts.files import FileContents

from host.errors import ConvergeError
from host.operations import STAMPS, ShellLines, place, text_digest
from host.templates import render

BEGIN, END = "# BEGIN ancla", "# END ancla"
ANYWHERE = frozenset({"0.0.0.0/0", "::/0"})
_STATE = (
    "LC_ALL=C ufw status verbose | grep -E '^(Status|Default):'; "
    "LC_ALL=C ufw show added | sed -n 's/^ufw //p'"
)
_ACTIVE = ["Status: active", "Default: deny (incoming), allow (outgoing), deny (routed)"]


def build_rules(ssh_port: int, ssh_sources: Iterable[str]) -> list[str]:
    """Return the rules as `ufw show added` prints them, which is also how `ufw` reads them."""
    sources = sorted(set(ssh_sources))
    rules = [f"allow from {source} to any port {ssh_port} proto tcp" for source in sources if source not in ANYWHERE]
    if set(sources) >= ANYWHERE:
        rules = [f"allow {ssh_port}/tcp"]
    elif set(sources) & ANYWHERE:
        rules += [f"allow from {source} to any port {ssh_port} proto tcp" for source in sources if source in ANYWHERE]
    return [*rules, "allow 80/tcp", "allow 443/tcp"]


def build_changes(found: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return the `ufw` arguments that lead from `found` to `wanted`: additions first, so that no login is cut off."""
    return [r for r in wanted if r not in found] + [f"delete {r}" for r in found if r not in wanted]


def with_block(text: str, block: str) -> str:
    """Return `text` with `block` between our markers, in place of what was between them, or at the end."""
    before, found, rest = text.partition(f"{BEGIN}\n")
    after = rest.partition(f"{END}\n")[2] if found else ""
    before = before if before.endswith("\n") or not before else before + "\n"
    return f"{before}{BEGIN}\n{block}{END}\n{after}"


@operation()
def _block(path: str, block: str) -> Generator[Any, Any, None]:
    lines = host.get_fact(FileContents, path=path)
    if lines is None:
        raise ConvergeError(f"{path} is not there: reinstall ufw")
    current = "\n".join(lines) + "\n"
    changed = with_block(current, block)
    if changed == current:
        host.noop(f"{path} has the block")
        return
    yield from place._inner(dest=path, content=changed, mode="640")  # noqa: SLF001 -- pyinfra's own way to nest


@operation()
def _ufw(rules: Sequence[str], digest: str) -> Generator[str, Any, None]:
    state = host.get_fact(ShellLines, script=f"{_STATE}; cat {STAMPS}/ufw 2>/dev/null || true")
    status = [line for line in state if line.startswith(("Status:", "Default:"))]
    found = [line for line in state if line not in status and line != digest]
    changes = build_changes(found, rules)
    if status == _ACTIVE and not changes and digest in state:
        host.noop("the firewall is as it should be")
        return
    yield "ufw default deny incoming; ufw default allow outgoing; ufw default deny routed"
    for change in changes:
        yield f"ufw {change}"
    yield "ufw --force enable && ufw reload"
    yield f"install -d -m 755 {STAMPS} && printf '%s\\n' {digest} >{STAMPS}/ufw"


def firewall(*, ssh_port: int, ssh_sources: Iterable[str]) -> None:
    """Close everything but SSH from its sources, and 80 and 443; for containers too."""
    block = render("docker-user.rules")
    for path in ("/etc/ufw/after.rules", "/etc/ufw/after6.rules"):
        _block(name=f"firewall: containers stay closed ({path})", path=path, block=block)
    _ufw(name="firewall: UFW", rules=build_rules(ssh_port, ssh_sources), digest=text_digest(block))
