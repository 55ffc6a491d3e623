"""One SSH connection: the key in memory, the host key pinned; no agent, no files, no user configuration."""

from __future__ import annotations

import logging
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import paramiko
from paramiko.ssh_exception import NoValidConnectionsError
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed
from typing_extensions import override

from host.documents import Document, private_key, public_key
from host.errors import ConvergeError, UnreachableError

# A refused connection is tried again and told in one line; paramiko would print a traceback for each.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

WAIT = 300.0
"""Seconds that a new droplet may take: DigitalOcean boots in about a minute, cloud-init may run upgrades before."""
WRONG_KEY_WAIT = 30.0
"""Seconds to go on when a wrong host key is shown: a reserved IP may still answer from elsewhere for a moment."""


def say(line: str) -> None:
    """Write a line of progress."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@dataclass(frozen=True, kw_only=True)
class Result:
    """Result of a remote command."""

    code: int
    stdout: str
    stderr: str


class Connection:
    """A session on the droplet. `host_key` is the public key it showed, one of those that were pinned."""

    def __init__(self, client: paramiko.SSHClient, where: str, host_key: paramiko.PKey) -> None:
        self._client = client
        self.where = where
        self.host_key = host_key

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def run(self, script: str, *, stdin: str = "", sudo: bool = False, timeout: float = 120) -> Result:
        """Run a POSIX shell script and wait for it. Secrets belong in `stdin`. `timeout` is seconds of silence.

        Raises:
            UnreachableError: the connection broke.
        """
        command = f"{'sudo -n ' if sudo else ''}sh -c {shlex.quote(script)}"
        try:
            into, out, err = self._client.exec_command(command, timeout=timeout)
            into.write(stdin)
            into.channel.shutdown_write()
            return Result(
                stdout=out.read().decode(errors="replace"),
                stderr=err.read().decode(errors="replace"),
                code=out.channel.recv_exit_status(),
            )
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise UnreachableError(f"{self.where}: the connection broke ({_why(error)}); run it again") from None

    def check(self, script: str, what: str, *, stdin: str = "", sudo: bool = False, timeout: float = 120) -> str:
        """Run a script that must succeed; return its stdout.

        Raises:
            ConvergeError: it failed; the detail is its stderr.
        """
        result = self.run(script, stdin=stdin, sudo=sudo, timeout=timeout)
        if result.code != 0:
            detail = (result.stderr or result.stdout).strip()
            raise ConvergeError(f"{self.where}: {what} failed (exit {result.code})", detail)
        return result.stdout


def _why(error: BaseException) -> str:
    if isinstance(error, paramiko.AuthenticationException):
        return "login refused"
    if isinstance(error, NoValidConnectionsError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, _WrongHostKeyError):
        return f"it shows another host key: {error}"
    return str(error) or type(error).__name__


class _WrongHostKeyError(Exception):
    pass


class _Pinned(paramiko.MissingHostKeyPolicy):
    """Reject every host key except those pinned, whatever their type."""

    def __init__(self, pinned: tuple[paramiko.PKey, ...]) -> None:
        self._pinned = pinned

    @override
    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        if key not in self._pinned:
            raise _WrongHostKeyError(f"{key.get_name()} {key.fingerprint}")


def _open(document: Document, key: paramiko.PKey, pinned: tuple[paramiko.PKey, ...], timeout: float) -> Connection:
    types = {one.get_name() for one in pinned}
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(_Pinned(pinned))
    try:
        client.connect(
            document.address,
            document.port,
            document.user,
            pkey=key,
            allow_agent=False,
            look_for_keys=False,
            timeout=timeout,
            banner_timeout=timeout,
            auth_timeout=timeout,
            # A droplet has several host keys until it is hardened: request the type that is pinned.
            disabled_algorithms={"keys": [name for name in _HOST_KEY_TYPES if name not in types]},
        )
    except BaseException:
        client.close()
        raise
    transport = client.get_transport()
    assert transport is not None  # noqa: S101 -- a connected client has one
    transport.set_keepalive(15)
    return Connection(client, f"{document.address}:{document.port}", transport.get_remote_server_key())


_HOST_KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
    "ssh-rsa",
)


def connect(
    document: Document,
    *,
    also_accept: str | None = None,
    wait: float = WAIT,
    progress: Callable[[str], None] = say,
) -> Connection:
    """Log in, trying again until `wait` seconds are over. `also_accept` is a second host key that is accepted.

    Raises:
        UnreachableError: no login in time; says what was seen last.
    """
    key = private_key(document.deploy_key, "deploy_key")
    lines = [(document.host_key, "host_key")] + ([(also_accept, "bootstrap_host_key")] if also_accept else [])
    pinned = tuple(public_key(line, what) for line, what in lines)
    where = f"{document.user}@{document.address}:{document.port}"
    started = time.monotonic()

    def stop(state: RetryCallState) -> bool:
        wrong = state.outcome is not None and isinstance(state.outcome.exception(), _WrongHostKeyError)
        return stop_after_delay(min(wait, WRONG_KEY_WAIT) if wrong else wait)(state)

    def tell(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if error and state.attempt_number % 5 == 1:
            progress(f"{where}: waiting for it to answer, {time.monotonic() - started:.0f} s ({_why(error)})")

    try:
        for attempt in Retrying(
            retry=retry_if_exception_type((OSError, EOFError, paramiko.SSHException, _WrongHostKeyError)),
            stop=stop,
            wait=wait_fixed(1),
            before_sleep=tell,
            reraise=True,
        ):
            with attempt:
                return _open(document, key, pinned, timeout=10)
    except _WrongHostKeyError as error:
        raise UnreachableError(
            f"{where} shows host key {error}, which is not the pinned one: nothing was sent; "
            "find out why before you continue (another host at this address, or an attacker in between)"
        ) from None
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise UnreachableError(
            f"{where} gave no login in {wait:.0f} s ({_why(error)}); "
            "see that the droplet is on, that you are in access.sshFrom, and that the deploy key is the stack's"
        ) from None
    raise AssertionError("unreachable")  # the loop returns or raises
