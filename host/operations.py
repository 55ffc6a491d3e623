"""Operations that pyinfra lacks, each with what it does better than the nearest stock one.

- `place`: `files.put` uploads to a world-readable file in /tmp and copies that over; this one sends the text on stdin
  and renames, so that a secret is never readable and a killed run never leaves half a file.
- `packages`: `apt.packages` updates the lists by the age of a stamp; this one starts apt only when something is
  missing.
- `follow`: a service restarted "when its file changed" is never restarted if the run was killed in between; this one
  remembers on the droplet which configuration a service was last started with.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Generator, Iterable, Sequence
from typing import Any

from pyinfra.api.command import StringCommand
from pyinfra.api.exceptions import OperationError
from pyinfra.api.facts import FactBase
from pyinfra.api.operation import operation
from pyinfra.context import host
from pyinfra.facts.deb import DebPackages
from typing_extensions import override

STAMPS = "/var/lib/ancla/applied"
"""Where `follow` remembers: one file a service, holding the digest of the configuration it runs with."""


def text_digest(*texts: str) -> str:
    """Return the SHA-256 of texts, in hex."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


class FileState(FactBase[str | None]):
    """`mode owner:group sha256` of a file, or None when there is none."""

    @override
    def command(self, path: str) -> str:
        """Return the shell command."""
        quoted = shlex.quote(path)
        return f"test -f {quoted} && stat -c '%a %U:%G' {quoted} && sha256sum <{quoted} || true"

    @override
    def process(self, output: Iterable[str]) -> str | None:
        """Join the two lines."""
        lines = list(output)
        return f"{lines[0]} {lines[1].split()[0]}" if len(lines) == 2 else None


class ShellLines(FactBase[list[str]]):
    """The lines a shell command prints; it must not change anything."""

    @override
    def command(self, script: str) -> str:
        """Return the shell command."""
        return script

    @override
    def process(self, output: Iterable[str]) -> list[str]:
        """Return the lines as they are."""
        return list(output)


def shell(script: str, *, stdin: str | None = None) -> StringCommand:
    """Return a command that runs `script`; `stdin` is sent as it is but for one newline at its end."""
    return StringCommand(script, _stdin=stdin) if stdin is not None else StringCommand(script)


def placing(dest: str, content: str, mode: str = "644", owner: str = "root:root") -> Generator[StringCommand]:
    """Make the file `dest` hold `content` (text that ends in a newline), completely or not at all.

    Args:
        dest: absolute path; its folder is made (755) when it is missing.
        content: the text; it travels on stdin and is in no log.
        mode: octal, without a leading zero.
        owner: `user:group`.
    """
    if not content.endswith("\n"):
        raise OperationError(f"{dest}: the content must end in a newline")
    wanted = f"{mode} {owner} {text_digest(content)}"
    if host.get_fact(FileState, path=dest) == wanted:
        host.noop(f"{dest} is in place")
        return
    path, new, folder = shlex.quote(dest), shlex.quote(f"{dest}.ancla-new"), shlex.quote(dest.rsplit("/", 1)[0] or "/")
    yield shell(
        f"set -e; umask 077; test -d {folder} || install -d -m 755 {folder}; cat >{new}; "
        f"chown {shlex.quote(owner)} {new}; chmod {mode} {new}; mv -f {new} {path}",
        stdin=content,
    )


place = operation()(placing)
"""The operation; `placing` is for operations that place a file as one of their steps."""


@operation()
def packages(names: Sequence[str]) -> Generator[str, Any, None]:
    """Have these Debian packages installed, in one transaction and without what they merely recommend."""
    missing = sorted(set(names) - set(host.get_fact(DebPackages)))
    if not missing:
        host.noop("every package is installed")
        return
    apt = "DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -q -o DPkg::Lock::Timeout=300"
    # A run that was killed may have left packages unpacked; apt refuses to continue by itself.
    yield "DEBIAN_FRONTEND=noninteractive dpkg --configure -a --force-confdef --force-confold"
    # A new droplet updates its own lists at the same time, and apt has no timeout for that lock.
    yield f"for try in $(seq 60); do {apt} update && exit 0; sleep 5; done; exit 1"
    yield (
        f"{apt} -y --no-install-recommends -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "
        f"-o Dpkg::Use-Pty=0 install {' '.join(map(shlex.quote, missing))}"
    )


@operation()
def follow(
    service: str, configuration: Iterable[str], action: str = "restart", check: str = ""
) -> Generator[str, Any, None]:
    """Have `service` enabled and running with `configuration`.

    Args:
        service: a systemd unit.
        configuration: the texts it was configured by; a change of any makes it restart (or do `action`).
        action: a verb of systemctl, such as `reload-or-restart`.
        check: a command that must succeed before, such as `nginx -t`.
    """
    digest = text_digest(*configuration)
    unit, stamp = shlex.quote(service), shlex.quote(f"{STAMPS}/{service}")
    state = host.get_fact(
        ShellLines,
        script=(
            f"systemctl is-enabled {unit} 2>&1 | tail -n1; systemctl is-active {unit}; cat {stamp} 2>/dev/null || true"
        ),
    )
    enabled, active, *followed = state
    if enabled in ("enabled", "static") and active == "active" and followed == [digest]:
        host.noop(f"{service} runs with this configuration")
        return
    if enabled not in ("enabled", "static"):
        yield f"systemctl enable --quiet {unit}"
    if check:
        yield check
    yield f"systemctl {action if active == 'active' else 'restart'} {unit}"
    yield f"install -d -m 755 {STAMPS} && printf '%s\\n' {digest} >{stamp}"
