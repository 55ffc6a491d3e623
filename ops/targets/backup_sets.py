"""Map a stack to its backup sets: their names, and how each is read."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

from blueprint.settings.backup import APP_ENV, SecretsSource, SourceSettings, SqliteSource
from ops.core.errors import StackError
from ops.sources.base import Source
from ops.stack.outputs import LoadedStack
from ops.targets.kinds import KINDS, filtered
from ops.targets.servers import database_server, databases, readable_database, setting_of

SourceMaker = Callable[[], Source[Any]]


FILES = (SqliteSource, SecretsSource)
"""Kinds that are files of the droplet: they can only be read there."""


def names(stack: LoadedStack) -> list[str]:
    """List the backup sets: the cluster's databases that are not excluded, then the other sources."""
    return [*_backed_up(stack), *(source.name for source in stack.outputs.backup.sources)]


def due(stack: LoadedStack) -> list[str]:
    """List the backup sets that there is something to back up of: the app's secrets are there from a release on."""
    return [name for name in names(stack) if not (stack.on_machine and _is_to_come(setting_of(stack, name)))]


def _is_to_come(setting: SourceSettings | None) -> bool:
    """Return True for the app's secrets before the first release, which writes them with its compose file."""
    if not isinstance(setting, SecretsSource) or setting.paths != (APP_ENV,):
        return False
    try:
        return not Path(APP_ENV).with_name("compose.yaml").exists()
    except PermissionError:  # only root sees; the source says so
        return False


def _backed_up(stack: LoadedStack) -> list[str]:
    return [name for name in databases(stack) if name not in stack.outputs.backup.exclude]


def chosen(stack: LoadedStack, name: str | None) -> list[str]:
    """Return the backup sets to back up: the named one, or all.

    Raises:
        StackError: there is no such backup set.
    """
    known = names(stack)
    if name is not None and name not in known:
        raise StackError(f"{stack.name}: no {name} is backed up; there are: {', '.join(known)}")
    if not known:
        raise StackError(f"{stack.name}: the stack has nothing that is backed up")
    return [name] if name is not None else due(stack)


def elsewhere(stack: LoadedStack, name: str) -> bool:
    """Return True if the set is a file of the droplet, and this is not the droplet."""
    return not stack.on_machine and isinstance(setting_of(stack, name), FILES)


@contextmanager
def sources(stack: LoadedStack) -> Generator[dict[str, SourceMaker]]:
    """Yield a maker of the source for each set that can be read from here, by name. A tunnel stays open once opened.

    The makers raise what `database_server` raises.
    """
    with ExitStack() as held:
        server = cache(lambda: held.enter_context(database_server(stack)))
        found: dict[str, SourceMaker] = {
            name: (lambda name=name: filtered(stack, name, readable_database(*server(), name)))
            for name in _backed_up(stack)
        }
        for setting in stack.outputs.backup.sources:
            if not elsewhere(stack, setting.name):
                found[setting.name] = partial(_source, stack, setting, held)
        yield found


def _source(stack: LoadedStack, setting: SourceSettings, held: ExitStack) -> Source[Any]:
    return KINDS[setting.kind].source(setting, stack, held)
