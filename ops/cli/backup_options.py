"""Options and arguments that the commands about backups share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.core.errors import StackError
from ops.repository.age import read_identities
from ops.repository.download import Identities
from ops.stack.outputs import LoadedStack
from ops.targets import backup_sets

NameOption = Annotated[
    str | None,
    typer.Option("--name", "-n", help="What is backed up, as the stack names it; all of it when left out."),
]


OneNameOption = Annotated[
    str | None, typer.Option("--name", "-n", help="What is backed up, as the stack names it; the first when left out.")
]


StoreOption = Annotated[
    str | None, typer.Option("--store", metavar="BUCKET", help="The destination; the stack's first when left out.")
]


SpoolOption = Annotated[
    Path | None,
    typer.Option("--spool", envvar="ANCLA_SPOOL", metavar="FOLDER", help="Where the dump passes through; TMPDIR else."),
]


BackupArgument = Annotated[str, typer.Argument(metavar="[BACKUP]", help="A backup's id, as `backup list` shows it.")]


def identities_of(file: Path | None) -> Identities:
    """Read the identities of a file, where one is given."""
    return read_identities(file) if file else ()


def one_name(stack: LoadedStack, name: str | None) -> str:
    """Return the name of what is meant.

    Raises:
        StackError: nothing by that name is backed up.
    """
    known = backup_sets.names(stack)
    if not known:
        raise StackError(f"{stack.name}: the stack has nothing that is backed up")
    if name is not None and name not in known:
        raise StackError(f"{stack.name}: no {name} is backed up; there are: {', '.join(known)}")
    return name or known[0]
