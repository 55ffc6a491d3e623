"""Map a stack to its database servers: directly on the droplet, through a tunnel elsewhere."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace

from blueprint.settings.backup import PostgresqlSource, SourceSettings
from ops.core.errors import SourceError, StackError
from ops.sources.postgres import catalog_queries
from ops.sources.postgres.source import PostgresDatabase
from ops.sources.postgres.tools import Endpoint
from ops.stack import ssh
from ops.stack.outputs import LoadedStack


@contextmanager
def database_server(stack: LoadedStack) -> Generator[tuple[Endpoint, Endpoint]]:
    """Yield the endpoints of the stack's PostgreSQL as (administrator, app user), on its first database.

    Raises:
        StackError: the stack has no database, or its passwords are not in the outputs.
        SshError: the droplet for the tunnel refuses the login.
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


def databases(stack: LoadedStack) -> list[str]:
    """List the databases of the stack's cluster; empty if it has no cluster."""
    return list(stack.outputs.database.databases) if stack.outputs.database else []


def setting_of(stack: LoadedStack, name: str) -> SourceSettings | None:
    """Return the stack file's source of that name; None if it is not in `backup.sources`."""
    return next((setting for setting in stack.outputs.backup.sources if setting.name == name), None)


@contextmanager
def own_server(stack: LoadedStack, setting: PostgresqlSource) -> Generator[Endpoint]:
    """Yield the endpoint of a database on a self-managed server: directly on the droplet, through a tunnel elsewhere.

    Raises:
        StackError: its password is not among the app's secrets.
        SshError: the droplet refuses the login.
    """
    password = stack.secrets.app.get(setting.password)
    if password is None:
        raise StackError(
            f"{stack.name}: backup.sources.{setting.name}: {setting.password} is not in secrets.app; "
            f"`pulumi config set --secret --path 'ancla:secrets.app.{setting.password}'`, then `pulumi up`"
        )
    endpoint = Endpoint(
        host=setting.host,
        port=setting.port,
        user=setting.user,
        password=password,
        database=setting.database,
        ca_certificate=setting.ca_certificate,
        sslmode=setting.sslmode,
    )
    if stack.on_machine:
        yield endpoint
        return
    with ssh.connect(stack.ssh_target()) as session, session.tunnel(setting.host, setting.port) as port:
        yield replace(endpoint, hostaddr="127.0.0.1", port=port)


@contextmanager
def server_of(stack: LoadedStack, name: str) -> Generator[tuple[Endpoint, Endpoint]]:
    """Yield the endpoints of the server of a database as (administrator, owner).

    Raises:
        StackError, SshError: see `database_server` and `own_server`.
    """
    setting = setting_of(stack, name)
    if isinstance(setting, PostgresqlSource):
        with own_server(stack, setting) as endpoint:
            yield endpoint, endpoint
        return
    with database_server(stack) as both:
        yield both


def live(stack: LoadedStack) -> tuple[str, ...]:
    """List every live database, on whatever server."""
    own = [setting.database for setting in stack.outputs.backup.sources if isinstance(setting, PostgresqlSource)]
    return (*databases(stack), *own)


def readable_database(admin: Endpoint, owner: Endpoint, name: str) -> PostgresDatabase:
    """Return the database as the first of the two roles that may read all of it: the administrator, or the app user.

    A managed administrator is not a superuser: it may not read everything the app's role owns.
    """
    for endpoint in (admin, owner):
        with endpoint.on(name).connect() as connection:
            if not catalog_queries.unreadable(connection):
                return PostgresDatabase(endpoint=endpoint.on(name))
    return PostgresDatabase(endpoint=admin.on(name))  # its plan names what cannot be read
