"""From a stack to its backup sets: their names, and how each is read."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from blueprint.backup import BucketSource, PostgresqlSource, SecretsSource, SourceSettings, SqliteSource, TableFilter
from ops.core import console
from ops.core.errors import StackError
from ops.repository.incremental import base_of
from ops.sources.base import Source
from ops.sources.bucket.source import Bucket
from ops.sources.postgres.source import PostgresDatabase
from ops.sources.secrets import SecretFiles
from ops.sources.sqlite import SqliteFile
from ops.stack.outputs import LoadedStack
from ops.targets.destinations import assets, stores
from ops.targets.servers import database_server, databases, own_server, readable_database, setting_of

SourceMaker = Callable[[], Source[Any]]


FILES = (SqliteSource, SecretsSource)
"""Kinds that are files of the machine: they are read there, and by nobody over the network."""


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
    return not stack.on_machine and isinstance(setting_of(stack, name), FILES)


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
