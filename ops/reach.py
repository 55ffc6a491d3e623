"""Ways from here to what a stack made: the stores, and the database, directly on the machine and else by a tunnel."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from blueprint.backup import BucketSource, PostgresqlSource, SecretsSource, SourceSettings, SqliteSource, TableFilter
from ops import console, ssh
from ops.backup.chain import base_of
from ops.errors import SourceError, StackError
from ops.sources import pg_facts
from ops.sources.base import Source
from ops.sources.bucket import Bucket
from ops.sources.pg_tools import Endpoint
from ops.sources.postgres import PostgresDatabase
from ops.sources.secrets import SecretFiles
from ops.sources.sqlite import SqliteFile
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
FILES = (SqliteSource, SecretsSource)
"""Kinds that are files of the machine: they are read there, and by nobody over the network."""


def databases(stack: LoadedStack) -> list[str]:
    """Name the databases of the stack's cluster; none where it has no cluster."""
    return list(stack.outputs.database.databases) if stack.outputs.database else []


def names(stack: LoadedStack) -> list[str]:
    """Name all that is backed up: the cluster's databases, then the sources of the stack file."""
    return [*databases(stack), *(source.name for source in stack.outputs.backup.sources)]


def chosen(stack: LoadedStack, name: str | None) -> list[str]:
    """Return which of them to back up: the named one, or all.

    Raises:
        StackError: nothing by that name is backed up.
    """
    known = names(stack)
    if name is not None and name not in known:
        raise StackError(f"{stack.name}: no {name} is backed up; there are: {', '.join(known)}")
    if not known:
        raise StackError(f"{stack.name}: the stack has nothing that is backed up")
    return [name] if name is not None else known


def elsewhere(stack: LoadedStack, name: str) -> bool:
    """Say whether it is a file of the machine, and this is not the machine."""
    return not stack.on_machine and isinstance(_setting(stack, name), FILES)


@contextmanager
def sources(stack: LoadedStack) -> Generator[dict[str, SourceMaker]]:
    """Yield how to reach each thing that can be read from here, by name. A tunnel stays open once it was needed.

    The makers raise what `database_server` raises.
    """
    with ExitStack() as held:
        server = cache(lambda: held.enter_context(database_server(stack)))
        found: dict[str, SourceMaker] = {
            name: (lambda name=name: _filtered(stack, name, readable_database(*server(), name)))
            for name in databases(stack)
        }
        for setting in stack.outputs.backup.sources:
            if not elsewhere(stack, setting.name):
                found[setting.name] = partial(_source, stack, setting, held)
        yield found


def _source(stack: LoadedStack, setting: SourceSettings, held: ExitStack) -> Source[Any]:
    match setting:
        case PostgresqlSource():
            endpoint = held.enter_context(own_server(stack, setting))
            return _filtered(stack, setting.name, PostgresDatabase(endpoint=endpoint))
        case SqliteSource():
            return SqliteFile(path=Path(setting.path))
        case SecretsSource():
            return SecretFiles(paths=tuple(Path(path) for path in setting.paths))
        case BucketSource():
            known = tuple(stores(stack).values())
            return Bucket(
                store=assets(stack, setting.prefix),
                base=lambda: base_of(known, setting.name, signer=stack.outputs.backup.signer),
                say=console.step,
            )


def _filtered(stack: LoadedStack, name: str, database: PostgresDatabase) -> PostgresDatabase:
    tables = stack.outputs.backup.tables.get(name, TableFilter())
    return replace(database, only_tables=tables.include, without_tables=tables.exclude)


def _setting(stack: LoadedStack, name: str) -> SourceSettings | None:
    return next((setting for setting in stack.outputs.backup.sources if setting.name == name), None)


@contextmanager
def own_server(stack: LoadedStack, setting: PostgresqlSource) -> Generator[Endpoint]:
    """Yield how to reach a database on a server of one's own: directly on the machine, else by a tunnel over it.

    Raises:
        StackError: its password is not among the app's secrets.
        SshError: the machine does not let us in.
    """
    password = stack.secrets.app.get(setting.password)
    if password is None:
        raise StackError(
            f"{stack.name}: backup.sources.{setting.name}: {setting.password} is not in secrets.app; "
            f"`pulumi config set --secret --path 'ancla:secrets.app.{setting.password}'`, then `pulumi up`"
        )
    endpoint = Endpoint(
        host=setting.host, port=setting.port, user=setting.user, password=password, database=setting.database
    )
    if stack.on_machine:
        yield endpoint
        return
    with ssh.connect(stack.ssh_target()) as session, session.tunnel(setting.host, setting.port) as port:
        yield replace(endpoint, hostaddr="127.0.0.1", port=port)


@contextmanager
def server_of(stack: LoadedStack, name: str) -> Generator[tuple[Endpoint, Endpoint]]:
    """Yield how to reach the server that a database of that name is on, as (administrator, owner).

    Raises:
        StackError, SshError: see `database_server` and `own_server`.
    """
    setting = _setting(stack, name)
    if isinstance(setting, PostgresqlSource):
        with own_server(stack, setting) as endpoint:
            yield endpoint, endpoint
        return
    with database_server(stack) as both:
        yield both


def live(stack: LoadedStack) -> tuple[str, ...]:
    """Name every database that is live, on whatever server."""
    own = [setting.database for setting in stack.outputs.backup.sources if isinstance(setting, PostgresqlSource)]
    return (*databases(stack), *own)


def assets(stack: LoadedStack, prefix: str) -> S3Store:
    """Return the assets bucket under a prefix.

    Raises:
        StackError: the stack has none, or its key pair is not in the outputs.
    """
    if stack.outputs.assets is None or stack.secrets.assets_key is None:
        raise StackError(f"{stack.name}: the stack has no assets bucket, or its key pair is not in the outputs")
    return S3Store(stack.outputs.assets.bucket.model_copy(update={"prefix": prefix}), stack.secrets.assets_key)


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
        StackError: there is none, two have one name, or a key pair is missing.
    """
    destinations = stack.outputs.backup.destinations
    if not destinations:
        raise StackError(f"{stack.name}: backup.destinations is empty; name a bucket there and run `pulumi up`")
    buckets = [bucket.name for bucket in destinations]
    for name in sorted({name for name in buckets if buckets.count(name) > 1}):
        raise StackError(f"{stack.name}: backup.destinations: two of them have the bucket {name}; name another one")
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
