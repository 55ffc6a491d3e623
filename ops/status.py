"""Probe an environment. Each part is probed separately, so that one that is down does not hide the others."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Any

import httpx

from ops.core.errors import OpsError, StackError, ToolError
from ops.core.formatting import duration
from ops.core.workers import run_all
from ops.release.compose import containers_of
from ops.repository.freshness import Freshness, look
from ops.repository.stores.base import Store
from ops.sources.postgres.tools import Endpoint
from ops.stack import ssh
from ops.stack.outputs import LoadedStack
from ops.stack.ssh import SshSession
from ops.targets import backup_sets, destinations, servers

COMPOSE = ["docker", "compose", "--file", "/opt/ancla/app/compose.yaml", "ps", "--all", "--format", "json"]
COMPOSE_SECONDS = 60
URL_SECONDS = 10


class State(StrEnum):
    """State of a part; `attention` should be looked at but does not fail the command."""

    OK = "ok"
    ATTENTION = "attention"
    DOWN = "down"


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The result of one probe: the part, its state, and details for a person."""

    part: str
    name: str
    state: State
    detail: str


def probe_stack(stack: LoadedStack) -> list[Probe]:
    """Probe everything; a failure is a result, never an exception."""
    asked = {"droplet": _machine, "backup": _backups, "address": _address}

    def probe(part: str) -> list[Probe]:
        return _guarded(part, "all", partial(asked[part], stack))

    return [found for probes in run_all(probe, asked, workers=len(asked), name="probe") for found in probes]


def _machine(stack: LoadedStack) -> list[Probe]:
    """Probe the droplet, and through it the database."""
    droplet = stack.outputs.droplets[0] if stack.outputs.droplets else None
    name = droplet.name if droplet else "none"
    with ExitStack() as exit_stack:
        session: SshSession | None = None
        found: list[Probe] = []
        if stack.on_machine:
            found.append(Probe(part="droplet", name=name, state=State.OK, detail="this machine"))
        else:
            try:
                session = exit_stack.enter_context(ssh.connect(stack.ssh_target()))
                uptime = session.run(["uptime", "-p"], timeout=30, check=False).stdout.strip()
            except OpsError as error:
                found.append(Probe(part="droplet", name=name, state=State.DOWN, detail=str(error)))
                return [*found, *_unasked(stack)]
            detail = f"{stack.ssh_target()}, {uptime or 'up'}"
            found.append(Probe(part="droplet", name=name, state=State.OK, detail=detail))
        found += _guarded("services", "app", lambda: _services(stack, session))
        if stack.outputs.database is not None:
            found += _guarded("database", stack.outputs.database.host, partial(_databases, stack))
        return found


def _unasked(stack: LoadedStack) -> Iterable[Probe]:
    why = "cannot be probed: no login on the droplet"
    yield Probe(part="services", name="app", state=State.DOWN, detail=why)
    if stack.outputs.database is not None:
        yield Probe(part="database", name=stack.outputs.database.host, state=State.DOWN, detail=why)


def _guarded(part: str, name: str, ask: Callable[[], list[Probe]]) -> list[Probe]:
    try:
        return ask()
    except OpsError as error:
        detail = str(error)
    except Exception as error:  # noqa: BLE001  # whatever breaks one probe, a person wants to see the others
        detail = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return [Probe(part=part, name=name, state=State.DOWN, detail=detail)]


def _services(stack: LoadedStack, session: SshSession | None) -> list[Probe]:
    if session is not None:
        result = session.run(["sudo", "-n", *COMPOSE], timeout=COMPOSE_SECONDS, check=False)
        code, text, error = result.returncode, result.stdout, result.stderr
    else:
        try:
            done = subprocess.run(COMPOSE, capture_output=True, text=True, timeout=COMPOSE_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise ToolError(f"docker: no answer within {COMPOSE_SECONDS} s; `systemctl status docker`") from None
        except OSError as error:
            raise ToolError(f"docker: cannot be run: {error.strerror}") from None
        code, text, error = done.returncode, done.stdout, done.stderr
    # static files have no container: the page itself is asked for by `_address`
    wanted = {name: service.containers for name, service in stack.outputs.services.items() if service.containers}
    if code != 0:
        hint = "no release yet; run `ops deploy`" if "no such file" in error.lower() else " ".join(error.split())
        return [Probe(part="service", name=name, state=State.DOWN, detail=hint) for name in wanted]
    return judge_services(wanted, parse_compose(text))


def parse_compose(text: str) -> list[dict[str, Any]]:
    """Parse `docker compose ps --format json`: one object per line, or one list, depending on the version."""
    text = text.strip()
    if text.startswith("["):
        return json.loads(text)
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def judge_services(wanted: Mapping[str, int], containers: list[dict[str, Any]]) -> list[Probe]:
    """Compare the containers with the services that should run, and how many of each."""
    probes: list[Probe] = []
    for name, instances in wanted.items():
        names = {container for container, _ in containers_of(name, instances)}
        own = [container for container in containers if container.get("Service") in names]
        if not own:
            probes.append(Probe(part="service", name=name, state=State.DOWN, detail="no container"))
            continue
        healthy = [c for c in own if c.get("State") == "running" and c.get("Health", "") in ("", "healthy")]
        state = State.OK if len(healthy) >= instances else State.ATTENTION if healthy else State.DOWN
        detail = ", ".join(sorted({str(c.get("Status") or c.get("State")) for c in own}))
        image = str(own[0].get("Image", "")).rsplit("/", 1)[-1]
        probes.append(Probe(part="service", name=name, state=state, detail=f"{image}: {detail}"))
    return probes


def _databases(stack: LoadedStack) -> list[Probe]:
    with servers.database_server(stack) as (_, owner):
        return [
            probe
            for name in servers.databases(stack)
            for probe in _guarded("database", name, partial(_database, owner.on(name)))
        ]


def _database(endpoint: Endpoint) -> list[Probe]:
    begun = time.monotonic()
    with endpoint.connect() as connection:
        row = connection.execute(
            "SELECT current_setting('server_version'), pg_size_pretty(pg_database_size(current_database()))"
        ).fetchone()
    version, size = row or ("?", "?")
    seconds = time.monotonic() - begun
    detail = f"PostgreSQL {version}, {size}, as {endpoint.user} in {seconds * 1000:.0f} ms"
    return [Probe(part="database", name=endpoint.database, state=State.OK, detail=detail)]


def _backups(stack: LoadedStack) -> list[Probe]:
    """Check the newest backup of every set in every store, as `ops backup fresh` does."""
    names = backup_sets.names(stack)
    if not names or not stack.outputs.backup.destinations:
        return []
    try:
        stores = destinations.stores(stack).values()
    except StackError as error:
        return [Probe(part="backup", name="all", state=State.DOWN, detail=str(error))]
    return [probe for place in stores for probe in _guarded("backup", place.name, partial(_kept, stack, place, names))]


def _kept(stack: LoadedStack, place: Store, names: list[str]) -> list[Probe]:
    backup = stack.outputs.backup
    found = look(
        place,
        names,
        budget_hours=backup.max_age_hours,
        signer=backup.signer,
        now=datetime.now(UTC),
        recipients=backup.recipients,
    )
    return [judge_backup(item) for item in found]


def judge_backup(found: Freshness) -> Probe:
    """Judge the backups of one set in one store. None at all is normal for a new stack or store."""
    if found.fresh and found.age is not None:
        detail = f"{found.backup} in {found.store}, {duration(found.age)} old (budget {duration(found.budget)})"
        return Probe(part="backup", name=found.name, state=State.OK, detail=detail)
    if found.age is None and not found.passed_over:
        detail = f"none in {found.store} yet; run `ops backup create`"
        return Probe(part="backup", name=found.name, state=State.ATTENTION, detail=detail)
    return Probe(part="backup", name=found.name, state=State.DOWN, detail=str(found))


def _address(stack: LoadedStack) -> list[Probe]:
    """Request the app's page by its name, as a visitor does, through the environment's proxy if any."""
    url = f"http://{stack.outputs.domain}/"
    begun = time.monotonic()
    try:
        response = httpx.get(url, timeout=URL_SECONDS)
    except httpx.HTTPError as error:
        return [Probe(part="address", name=url, state=State.DOWN, detail=f"no answer: {error or type(error).__name__}")]
    detail = f"HTTP {response.status_code} in {(time.monotonic() - begun) * 1000:.0f} ms"
    state = State.OK if response.status_code < httpx.codes.BAD_REQUEST else State.DOWN
    return [Probe(part="address", name=url, state=state, detail=detail)]
