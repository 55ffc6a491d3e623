"""Import commands only when they are run: help and completion need only the name and first lines of each.

Importing all of them takes a second of CPU (boto3, psycopg, httpx and others); each command needs only some of them.
"""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group


class Lazy(TyperCommand):
    """Placeholder for a command until it is run. `target` is `module:name` of a function, or of a Typer of commands.

    `help` is the text of the listing: for a function, the first paragraph of its docstring.
    """

    def __init__(self, name: str, target: str, help: str) -> None:  # noqa: A002  # as typer calls it
        super().__init__(name, help=help)
        self.target = target

    def load(self, group: TyperGroup) -> Any:
        """Import the command and return it as typer builds it below `group`."""
        module, _, attribute = self.target.partition(":")
        found: Any = getattr(importlib.import_module(module), attribute)
        above = typer.Typer(rich_markup_mode=group.rich_markup_mode)
        if isinstance(found, typer.Typer):
            above.add_typer(found, name=self.name, help=self.help)
        else:
            above.command(self.name)(found)
        return get_group(above).commands[str(self.name)]


class LazyGroup(TyperGroup):
    """Group of lazy commands; see `lazy_group`."""

    lazy: ClassVar[tuple[Lazy, ...]] = ()

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands.update({str(command.name): command for command in self.lazy})

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command to run, and import it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load(self) if isinstance(command, Lazy) else command, rest


def lazy_group(*commands: Lazy) -> type[LazyGroup]:
    """Return a group class with these commands, for `typer.Typer(cls=…)`."""
    return type("LazyGroup", (LazyGroup,), {"lazy": commands})


def in_full(app: typer.Typer) -> Any:
    """Return an app's command with all subcommands imported, for readers of all of them such as the reference page."""
    return _loaded(get_command(app))


def _loaded(command: Any) -> Any:
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            command.commands[name] = _loaded(below.load(command) if isinstance(below, Lazy) else below)
    return command
