"""Define the options and arguments shared by commands about backups."""

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
    str | None, typer.Option("--name", "-n", help="Backup set, as named in the stack file (default: all).")
]
OneNameOption = Annotated[
    str | None, typer.Option("--name", "-n", help="Backup set, as named in the stack file (default: the first).")
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="DESTINATION",
        help="Destination to read, by its name or bucket (default: the stack's first).",
    ),
]
EachStoreOption = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="DESTINATION", help="Destination, by its name or bucket (default: all of the stack's)."
    ),
]
SpoolOption = Annotated[
    Path | None,
    typer.Option(
        "--spool", envvar="ANCLA_SPOOL", metavar="FOLDER", help="Folder for temporary files (default: $TMPDIR)."
    ),
]
BackupArgument = Annotated[str, typer.Argument(metavar="[BACKUP]", help="Backup id, as shown by `backup list`.")]


def identities_of(file: Path | None) -> Identities:
    """Return the age identities in a file, or none without a file."""
    return read_identities(file) if file else ()


def one_name(stack: LoadedStack, name: str | None) -> str:
    """Return the chosen backup set, by default the first one of the stack.

    Raises:
        StackError: the stack has no backup set, or none of that name.
    """
    known = backup_sets.names(stack)
    if not known:
        raise StackError(f"{stack.name}: the stack has nothing that is backed up")
    if name is not None and name not in known:
        raise StackError(f"{stack.name}: no {name} is backed up; there are: {', '.join(known)}")
    return name or known[0]
