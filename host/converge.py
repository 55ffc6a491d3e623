"""Converge a droplet to the document, by pyinfra over one pinned connection, and report how many changes were made.

Killed at any point it is simply run again: every operation looks first, and what a service runs with is remembered.
"""

from __future__ import annotations

import logging
import re
import tempfile
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyinfra.api.config import Config
from pyinfra.api.connect import connect_all, disconnect_all
from pyinfra.api.deploy import add_deploy
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.inventory import Inventory
from pyinfra.api.operation import operation
from pyinfra.api.operations import run_ops
from pyinfra.api.state import BaseStateCallback, State, StateStage
from pyinfra.context import host
from pyinfra.facts.server import OsRelease
from pyinfra.operations import server
from typing_extensions import override

from host.connection import Connection, connect, say
from host.docker import docker, docker_configuration
from host.documents import Converge, private_key
from host.errors import ConvergeError, HostError
from host.firewall import firewall, lets_in
from host.nginx import nginx
from host.operations import ShellLines, packages
from host.ops import ops
from host.packages import build_packages, distribution, needs_pgdg, servers
from host.ssh import CONFIGURATION, ssh
from host.timers import timers
from host.upkeep import fail2ban, logs, upgrades

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def converge(document: Converge) -> dict[str, int]:
    """Converge the droplet; return {"operations": their number, "changed": how many changed something}.

    Raises:
        UnreachableError: no login.
        ConvergeError: an operation failed; the message names it, the detail is the droplet's output.
    """
    started = time.monotonic()
    with connect(document, wait=120) as way_back, _pyinfra(document) as (state, log):
        where = way_back.where
        _refuse_to_lock_out(document, way_back)
        add_deploy(state, machine, document)
        state.add_callback_handler(_progress(where))
        state.set_stage(StateStage.Execute)
        try:
            run_ops(state)
        except PyinfraError:
            raise ConvergeError(f"{where}: {_failed(state)} failed; nothing after it was done", log.text()) from None
        operations = [data.operation_meta for data in next(iter(state.ops.values())).values()]
        changed = sum(meta.did_change() for meta in operations)
        if changed:
            _prove_login(document, way_back)
    say(f"{where}: {len(operations)} operations, {changed} changed, {time.monotonic() - started:.1f} s")
    return {"operations": len(operations), "changed": changed}


def machine(document: Converge) -> None:
    """Define the droplet's configuration, in order. Runs while pyinfra prepares: it may read facts, not change them."""
    release: dict[str, str] = host.get_fact(OsRelease)
    kind = distribution(release.get("id", "?"), release.get("version_id", "?"))
    postgresql = servers(document.outputs)
    server.hostname(name="hostname", hostname=document.hostname)
    upgrades()
    docker_configuration()
    if needs_pgdg(kind, postgresql):
        packages(name="packages: for PostgreSQL's own repository", names=["ca-certificates", "postgresql-common"])
        _pgdg(name="packages: PostgreSQL's own repository")
    packages(name="packages", names=build_packages(kind, postgresql))
    # The firewall is closed before any of our services listens.
    firewall(ssh_port=document.port, ssh_sources=document.ssh_sources)
    ssh(document.user, private_key(document.deploy_key, "deploy_key"), document.ssh_keys)
    docker(compose_package=kind.compose)
    nginx()
    fail2ban(document.ssh_sources)
    logs()
    ops(python=kind.python, outputs=document.outputs, secrets=document.secrets)
    timers(document.backup_schedule, destinations=len(document.outputs.get("backup", {}).get("destinations", ())))


@operation()
def _pgdg() -> Generator[str, Any, None]:
    if host.get_fact(ShellLines, script="ls /etc/apt/sources.list.d/pgdg.* 2>/dev/null || true"):
        host.noop("PostgreSQL's repository is on")
        return
    yield "/usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y"


@contextmanager
def _pyinfra(document: Converge) -> Generator[tuple[State, _Log]]:
    """Yield a connected pyinfra state: the key in memory, the host key pinned, no user configuration read."""
    log = _Log(document)
    logger = logging.getLogger("pyinfra")
    logger.propagate = False
    logger.addHandler(log)
    with tempfile.TemporaryDirectory(prefix="ancla-") as folder:
        known = Path(folder, "known_hosts")  # public keys only
        name = document.address if document.port == 22 else f"[{document.address}]:{document.port}"
        known.write_text(f"{name} {' '.join(document.host_key.split()[:2])}\n")
        data = {
            "ssh_port": document.port,
            "ssh_user": document.user,
            "ssh_allow_agent": False,
            "ssh_look_for_keys": False,
            "ssh_config_file": str(Path(folder, "no-config")),
            "ssh_known_hosts_file": str(known),
            "ssh_strict_host_key_checking": "yes",
            "ssh_paramiko_connect_kwargs": {"pkey": private_key(document.deploy_key, "deploy_key")},
        }
        inventory = Inventory(([(document.address, data)], {}))
        # No check for changes ahead: each operation looks once, at its turn, when what an earlier one makes is there.
        state = State(inventory, Config(SUDO=True, CONNECT_TIMEOUT=15), check_for_changes=False)
        state.set_stage(StateStage.Connect)
        try:
            try:
                connect_all(state)
            except PyinfraError:
                raise ConvergeError(f"{document.address}: pyinfra could not log in", log.text()) from None
            state.set_stage(StateStage.Prepare)
            yield state, log
        finally:
            disconnect_all(state)
            logger.removeHandler(log)


def _refuse_to_lock_out(document: Converge, way_back: Connection) -> None:
    source = way_back.check('printf %s "${SSH_CONNECTION%% *}"', "asking where we come from")
    if source and not lets_in(document.ssh_sources, source):
        raise ConvergeError(
            f"{way_back.where}: sees us as {source}, which access.sshSources does not let in "
            f"({', '.join(document.ssh_sources)}): going on would close the door behind us; add the address there"
        )


def _prove_login(document: Converge, way_back: Connection) -> None:
    """Log in again. If that fails, revert our sshd settings over the connection that is still open."""
    try:
        connect(document, wait=20).__exit__(None, None, None)
    except HostError as error:
        undo = f"mv -f {CONFIGURATION} {CONFIGURATION}.refused; /usr/sbin/sshd -t && systemctl reload ssh"
        way_back.check(undo, "taking the sshd settings back", sudo=True)
        raise ConvergeError(
            f"after the change no new login worked; sshd has its former settings ({CONFIGURATION}.refused): {error}"
        ) from None


def _failed(state: State) -> str:
    for ops_of_host in state.ops.values():
        for key, data in ops_of_host.items():
            if data.operation_meta.is_complete() and not data.operation_meta.did_succeed():
                return ", ".join(sorted(state.get_op_meta(key).names))
    return "an operation"


def _progress(where: str) -> BaseStateCallback:
    """Return a callback that writes one line for each operation that changed something."""
    since = [time.monotonic()]

    class Progress(BaseStateCallback):
        @staticmethod
        @override
        def operation_end(state: State, op_hash: Any) -> None:
            started, since[0] = since[0], time.monotonic()
            for data in (found[op_hash] for found in state.ops.values() if op_hash in found):
                if data.operation_meta.is_complete() and data.operation_meta.did_change():
                    name = ", ".join(sorted(state.get_op_meta(op_hash).names))
                    say(f"{where}: {name}: changed ({since[0] - started:.1f} s)")

    return Progress()


class _Log(logging.Handler):
    """Return pyinfra's last error lines, without secrets of the document."""

    def __init__(self, document: Converge) -> None:
        super().__init__(logging.WARNING)
        self._lines: deque[str] = deque(maxlen=15)
        self._secrets = sorted(_strings(document.secrets), key=len, reverse=True)

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self._lines += _ESCAPES.sub("", record.getMessage()).strip().splitlines()

    def text(self) -> str:
        """Return the lines, secrets replaced."""
        text = "\n".join(self._lines)
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        return text


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str) and len(value) >= 4:
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
