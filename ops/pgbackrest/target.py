"""Locate a stanza's server: this computer, or the stack's droplet, where the same command is run over SSH."""

from __future__ import annotations

from dataclasses import dataclass

from blueprint.settings.backup import PostgresqlSource
from ops.core.errors import StackError
from ops.stack.outputs import LoadedStack

OWN = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A stanza and its stack; None if no stack is read (`--here`)."""

    stanza: str
    stack: LoadedStack | None

    @property
    def here(self) -> bool:
        """Return True if its server is on this computer."""
        return self.stack is None or self.stack.on_machine


def target(stack: LoadedStack | None, stanza: str | None) -> Target:
    """Find the stanza by name, or the only one.

    Raises:
        StackError: the stack has none or more than one, or its server is on a computer that the stack cannot log in to.
    """
    if stack is None:
        if stanza is None:
            raise StackError("--here: no stack is read: name the stanza with --stanza")
        return Target(stanza=stanza, stack=None)
    sources = [s for s in stack.outputs.backup.sources if isinstance(s, PostgresqlSource) and s.stanza]
    names = sorted({str(source.stanza) for source in sources})
    if stanza is None and len(names) != 1:
        known = f"has {', '.join(names)}: name one with --stanza" if names else "has no backup.sources with a stanza"
        raise StackError(f"{stack.name}: the stack {known}; on the server's own machine: --here --stanza NAME")
    if stanza is not None and stanza not in names:
        known = ", ".join(names) or "none"
        raise StackError(f"{stack.name}: no backup.sources has stanza {stanza}; there are: {known}")
    chosen = next(source for source in sources if stanza in (None, source.stanza))
    if chosen.host not in OWN:
        raise StackError(
            f"{stack.name}: the server of stanza {chosen.stanza} is at {chosen.host}, not on the droplet; "
            f"run this there: `ops backrest info --here --stanza {chosen.stanza}`"
        )
    return Target(stanza=str(chosen.stanza), stack=stack)
