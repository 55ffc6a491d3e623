"""Log in to the droplet with OpenSSH's client: one connection, the pinned host key, no configuration of the caller.

The deploy key lives in a private folder (0700, the key 0600) for as long as the connection does. Commands and tunnels
go over that one connection (`ControlMaster`), so a limit on new connections, such as fail2ban's, does not affect it.
"""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pydantic import SecretStr

from ops.core.errors import RemoteCommandError, SshError, ToolError
from ops.core.workdir import private_folder

CONNECT_SECONDS = 15
"""Seconds that a droplet may take to answer the first packet."""

FORWARD_TRIES = 3

_ALIAS = "ancla-pinned"
"""The name under which the host key is pinned: the key belongs to the environment, not to an address."""


@dataclass(frozen=True, kw_only=True)
class SshTarget:
    """Address and credentials. `host_key` is one line `ssh-ed25519 …`; `deploy_key` an OpenSSH private key."""

    address: str
    port: int = 22
    user: str = "deploy"
    host_key: str
    deploy_key: SecretStr = field(repr=False)

    def __str__(self) -> str:
        return f"{self.user}@{self.address}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class RemoteResult:
    """The result of a command. In `stdout` and `stderr`, bytes that are not UTF-8 are replaced."""

    returncode: int
    stdout: str
    stderr: str


class SshSession:
    """An open connection, created by `connect`."""

    def __init__(self, target: SshTarget, base: list[str]) -> None:
        self.target = target
        self._base = base

    def run(
        self, command: str | Sequence[str], *, stdin: bytes = b"", timeout: float | None = None, check: bool = True
    ) -> RemoteResult:
        """Run one command on the droplet; secrets go on `stdin`, never in `command`.

        Args:
            command: a shell line, or an argument list that is quoted for the shell.
            stdin: input of the command.
            timeout: seconds; None waits forever.
            check: raise when the command's exit code is not 0.

        Raises:
            RemoteCommandError: the command failed (`check`) or exceeded `timeout`.
            SshError: the connection broke.
        """
        line = command if isinstance(command, str) else shlex.join(command)
        try:
            done = subprocess.run(
                [*self._base, "--", line], input=stdin, capture_output=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            raise RemoteCommandError(
                f"{self.target}: `{_short(line)}` did not end within {timeout:g} s", returncode=124
            ) from None
        result = RemoteResult(
            returncode=done.returncode,
            stdout=done.stdout.decode(errors="replace"),
            stderr=done.stderr.decode(errors="replace"),
        )
        if result.returncode == 255:  # OpenSSH's own code: the connection, not the command
            raise SshError(explain(self.target, result.stderr))
        if check and result.returncode != 0:
            raise RemoteCommandError(
                f"{self.target}: `{_short(line)}` failed ({result.returncode}): {_last_line(result.stderr)}",
                returncode=result.returncode,
                stderr=result.stderr,
            )
        return result

    def follow(self, command: Sequence[str], *, stdin: bytes, line: Callable[[str], None]) -> RemoteResult:
        """Run one command and pass each line it writes to stderr to `line` as it arrives.

        The caller checks the exit code. All three pipes are served concurrently: a command may exceed a pipe's capacity
        to either of its outputs, in any order, before or after it has read `stdin`.

        Raises:
            SshError: the connection broke.
        """
        process = subprocess.Popen(
            [*self._base, "--", shlex.join(command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise AssertionError("opened as pipes")
        answer = bytearray()
        # Daemons, so that an interrupt does not wait for them: OpenSSH's master may keep the pipes open for a while.
        reader = threading.Thread(target=_read_all, args=(process.stdout, answer), daemon=True)
        writer = threading.Thread(target=_write_all, args=(process.stdin, stdin), daemon=True)
        said: list[str] = []
        try:
            reader.start()
            writer.start()
            for raw in process.stderr:
                said.append(raw.decode(errors="replace").rstrip("\n"))
                line(said[-1])
            reader.join()
            process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.returncode == 255:  # of OpenSSH itself, also when the command died of a signal
            raise SshError(
                f"{self.target}: the connection broke, or `{_short(shlex.join(command))}` was killed there"
                f"{f' (after: {said[-1]})' if said else ''}; run it again: it continues where it stopped"
            )
        return RemoteResult(
            returncode=process.returncode, stdout=answer.decode(errors="replace"), stderr="\n".join(said)
        )

    @contextmanager
    def tunnel(self, host: str, port: int) -> Generator[int]:
        """Forward a free port of 127.0.0.1 to `host:port` as the droplet sees it; yields the local port.

        Raises:
            SshError: the tunnel is refused.
        """
        local = self._forward(host, port)
        try:
            yield local
        finally:
            self._control("cancel", f"127.0.0.1:{local}:{host}:{port}", check=False)

    def _forward(self, host: str, port: int, tries: int = FORWARD_TRIES) -> int:
        local = _free_port()
        try:
            self._control("forward", f"127.0.0.1:{local}:{host}:{port}")
        except SshError:  # another process may have taken the port since it was found free
            if tries <= 1:
                raise
            return self._forward(host, port, tries - 1)
        return local

    def _control(self, operation: str, forward: str, *, check: bool = True) -> None:
        done = subprocess.run(
            [*self._base, "-O", operation, "-L", forward], capture_output=True, timeout=30, check=False
        )
        if check and done.returncode != 0:
            raise SshError(f"{self.target}: the tunnel {forward} was refused: {_last_line(done.stderr.decode())}")


@contextmanager
def connect(target: SshTarget) -> Generator[SshSession]:
    """Log in; the connection, the key file and the pinned key are gone when the block ends.

    Raises:
        ToolError: there is no OpenSSH client here.
        SpoolError: no temporary folder can be created for the key.
        SshError: no answer, a host key other than the pinned one, or the deploy key is refused.
    """
    program = shutil.which("ssh")
    if program is None:
        raise ToolError("ssh: not found on PATH; install the OpenSSH client (apt-get install openssh-client)")
    with ExitStack() as stack:
        folder = stack.enter_context(private_folder())
        key = folder / "key"
        key.touch(mode=0o600)
        key.write_text(target.deploy_key.get_secret_value().rstrip("\n") + "\n")
        known = folder / "known_hosts"
        known.write_text(f"{_ALIAS} {target.host_key.strip()}\n")
        base = [program, *_options(key, known, folder / "s"), "-p", str(target.port), "-l", target.user]
        log = stack.enter_context((folder / "log").open("w+b"))
        master = subprocess.Popen(
            [*base, "-o", "ControlMaster=yes", "-N", target.address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,  # Ctrl-C ends our work first, so that the tunnel outlives the tools that use it
        )
        stack.callback(_end, master)
        _wait(target, master, folder / "s", folder / "log")
        yield SshSession(target, [*base, "-o", "ControlMaster=no", target.address])


def explain(target: SshTarget, stderr: str) -> str:
    """Build a one-line message from OpenSSH's output: the cause, what to do, and its last lines."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip(" @\r\t")]
    said = " / ".join(lines[-3:]) or "no answer"
    # "Host key verification failed" alone is also what OpenSSH writes where it cannot read known_hosts.
    if any(words in stderr for words in ("IDENTIFICATION HAS CHANGED", "host key is known for", "HOST KEY CHANGED")):
        return (
            f"{target}: the droplet has a host key other than the pinned output access.host_key; if it was replaced "
            f"run `pulumi up`, otherwise do not log in: the connection may be intercepted (ssh: {said})"
        )
    if "Permission denied" in stderr:
        return (
            f"{target}: the deploy key is refused; use current outputs, or add its public half to the "
            f"droplet's authorized_keys through the provider's console (ssh: {said})"
        )
    return f"{target}: no connection: {said}; check that the droplet is on and port {target.port} is open to you"


def _options(key: Path, known: Path, control: Path) -> list[str]:
    options = {
        "IdentityFile": str(key),
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "UserKnownHostsFile": str(known),
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": _ALIAS,
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "BatchMode": "yes",
        "ConnectTimeout": str(CONNECT_SECONDS),
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "4",
        "ControlPath": str(control),
        "ControlPersist": "no",
        "LogLevel": "ERROR",
    }
    # -F: the caller's ~/.ssh/config must not redirect the connection
    return ["-F", "/dev/null", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]


def _wait(target: SshTarget, master: subprocess.Popen[bytes], control: Path, log: Path) -> None:
    deadline = time.monotonic() + CONNECT_SECONDS + 15
    while not control.exists():
        if master.poll() is not None:
            raise SshError(explain(target, log.read_text(errors="replace")))
        if time.monotonic() > deadline:
            raise SshError(explain(target, "no login after the connection was made"))
        time.sleep(0.02)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _read_all(pipe: IO[bytes], into: bytearray) -> None:
    with pipe:
        while block := pipe.read(1 << 16):
            into += block


def _write_all(pipe: IO[bytes], content: bytes) -> None:
    with suppress(BrokenPipeError), pipe:  # a command that ends without reading reports the reason on stderr
        pipe.write(content)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _short(line: str) -> str:
    first = line.strip().split("\n", 1)[0]
    return first if len(first) <= 60 else first[:57] + "…"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
