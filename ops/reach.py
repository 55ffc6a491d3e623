"""Ways from here to what a stack made: the stores, and the database, directly on the machine and else by a tunnel."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from ops import ssh
from ops.errors import SourceError, StackError
from ops.sources import pg_facts
from ops.sources.base import Source
from ops.sources.pg_tools import Endpoint
from ops.sources.postgres import PostgresDatabase
from ops.stack import LoadedStack
from ops.stores.base import Store
from ops.stores.s3 import S3Store


@contextmanager
def database_server(stack: LoadedStack) -> Generator[tuple[Endpoint, Endpoint]]:
    """Yield how to reach the stack's PostgreSQL as (administrator, app user), on its first database.

    Raises:
        StackError: the stack has no database, or its passwords are not in the outputs.
        SshError: the machine to tunnel over does not let us in.
    """
    database = stack.outputs.database
    if database is None:
        raise StackError(f"{stack.name}: the stack has no database")
    admin, user = stack.secrets.database_admin_password, stack.secrets.database_password
    if admin is None or user is None:
        raise StackError(f"{stack.name}: secrets.database_password: not in the outputs; run `pulumi up`")
    if database.port == database.pool_port:
        raise SourceError(f"{stack.name}: database.port is the pool's ({database.port}); a dump needs the direct port")
    endpoint = Endpoint(
        host=database.private_host,
        port=database.port,
        user=database.admin_user,
        password=admin,
        database=database.databases[0],
        ca_certificate=database.ca_certificate,
    )
    if stack.on_machine:
        yield endpoint, replace(endpoint, user=database.user, password=user)
        return
    with ssh.connect(stack.ssh_target()) as session, session.tunnel(database.private_host, database.port) as port:
        endpoint = replace(endpoint, hostaddr="127.0.0.1", port=port)
        yield endpoint, replace(endpoint, user=database.user, password=user)


SourceMaker = Callable[[], Source[Any]]


def databases(stack: LoadedStack) -> list[str]:
    """Name the databases of the stack's cluster; none where it has no cluster."""
    return list(stack.outputs.database.databases) if stack.outputs.database else []


def names(stack: LoadedStack) -> list[str]:
    """Name all that is backed up: the cluster's databases, then the sources of the stack file."""
    return [*databases(stack), *(source.name for source in stack.outputs.backup.sources)]


def chosen(stack: LoadedStack, sources: Mapping[str, SourceMaker], name: str | None) -> list[str]:
    """Return which of them to back up: the named one, or all.

    Raises:
        StackError: nothing by that name is backed up.
    """
    if name is not None and name not in sources:
        raise StackError(f"{stack.name}: no {name} is backed up; there are: {', '.join(sources)}")
    if not sources:
        raise StackError(f"{stack.name}: the stack has nothing that is backed up")
    return [name] if name is not None else list(sources)


@contextmanager
def sources(stack: LoadedStack) -> Generator[dict[str, SourceMaker]]:
    """Yield how to reach each thing that is backed up, by name; a tunnel stays open meanwhile.

    Raises:
        StackError, SshError: see `database_server`.
    """
    with ExitStack() as held:
        found: dict[str, SourceMaker] = {}
        if databases(stack):
            admin, owner = held.enter_context(database_server(stack))
            for name in databases(stack):
                found[name] = partial(readable_database, admin, owner, name)
        yield found


def readable_database(admin: Endpoint, owner: Endpoint, name: str) -> PostgresDatabase:
    """Return the database as the first of the two roles that may read all of it: the administrator, else the app user.

    A managed administrator is no superuser: what the app's role owns may be closed to it.
    """
    for endpoint in (admin, owner):
        with endpoint.on(name).connect() as connection:
            if not pg_facts.unreadable(connection):
                return PostgresDatabase(endpoint=endpoint.on(name))
    return PostgresDatabase(endpoint=admin.on(name))  # its plan names what cannot be read


def stores(stack: LoadedStack) -> dict[str, Store]:
    """Return the stack's stores for backups by bucket name, in their order.

    Raises:
        StackError: there is none, or a key pair is missing.
    """
    destinations = stack.outputs.backup.destinations
    if not destinations:
        raise StackError(f"{stack.name}: backup.destinations is empty; name a bucket there and run `pulumi up`")
    if len(stack.secrets.backup_keys) < len(destinations):
        raise StackError(f"{stack.name}: secrets.backup_keys: fewer key pairs than destinations; run `pulumi up`")
    return {
        bucket.name: S3Store(bucket, key) for bucket, key in zip(destinations, stack.secrets.backup_keys, strict=False)
    }


def store(stack: LoadedStack, name: str | None = None) -> Store:
    """Return one store: by bucket name, or the first.

    Raises:
        StackError: no destination by that name.
    """
    known = stores(stack)
    if name is None:
        return next(iter(known.values()))
    if name not in known:
        raise StackError(f"{stack.name}: no backup destination {name}; there are: {', '.join(known)}")
    return known[name]
