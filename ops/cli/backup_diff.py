"""`ops backup diff`: what differs between two backups of secrets, by names alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated

import typer

from ops.cli.options import IdentityOption, JsonOption, OutputsOption, StackOption
from ops.core import console
from ops.core.errors import StackError
from ops.core.workdir import private_folder
from ops.repository import catalog
from ops.repository.age import read_identities, refuse_closed
from ops.repository.download import Identities
from ops.repository.manifest import Manifest
from ops.repository.records import SecretsRecord
from ops.repository.stores.base import Store
from ops.restore.files import fetch
from ops.sources.secrets import ARCHIVE, Held, assignments, open_archive
from ops.stack.outputs import load_stack
from ops.targets import destinations


@dataclass(frozen=True, kw_only=True)
class NamesDiff:
    """Names that came, went, or have another value; a name is a file, or `FILE: VARIABLE`.

    `compared` says whether values were compared at all: for that both must be decrypted. No value is in here.
    """

    added: list[str]
    removed: list[str]
    changed: list[str] = field(default_factory=list[str])
    compared: bool = False


def diff_command(
    old: Annotated[str, typer.Argument(metavar="OLD", help="A backup's id.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="A later one's.")] = catalog.LATEST,
    name: Annotated[
        str, typer.Option("--name", "-n", help="The source of secrets, as the stack names it.")
    ] = "secrets",
    store: Annotated[str | None, typer.Option("--store", metavar="BUCKET", help="The destination to read.")] = None,
    identity: IdentityOption = None,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Name the secrets that differ between two backups; with --identity also those whose value changed. No value."""
    loaded = load_stack(stack, outputs)
    place = destinations.store(loaded, store)
    identities = read_identities(identity) if identity else ()
    left, right = (catalog.find(place, name, backup) for backup in (old, new))
    for manifest in (left, right):
        refuse_closed(manifest.recipients, identities, manifest.id, plan=True)
        if (signer := loaded.outputs.backup.signer) is not None and not manifest.signed_by(signer):
            console.step(
                f"{manifest.id}: this environment's key has not signed it: somebody else may have put it there"
            )
    found = names_diff(place, left, right, identities)
    if as_json:
        console.print_json({"old": left.id, "new": right.id, **asdict(found)})
        return
    for mark, names in (("+", found.added), ("-", found.removed), ("~", found.changed)):
        for item in names:
            console.out.print(f"{mark} {item}", markup=False)
    if not (found.added or found.removed or found.changed):
        console.out.print("no difference" if found.compared else "the same names")
    if not found.compared:
        console.out.print("values were not compared: that takes --identity", style="dim")


def names_diff(store: Store, left: Manifest, right: Manifest, identities: Identities) -> NamesDiff:
    """Compare two backups of secrets; their values in memory and a private folder, and only with identities.

    Raises:
        StackError: one is of another kind.
        IntegrityError, KeyProblemError: it cannot be read.
    """
    before, after = (_names(manifest) for manifest in (left, right))
    added, removed = sorted(after - before), sorted(before - after)
    encrypted = bool(left.recipients or right.recipients)
    if encrypted and not identities:
        return NamesDiff(added=added, removed=removed)
    old, new = (_values(store, manifest, identities) for manifest in (left, right))
    changed = [name for name in sorted(old.keys() & new.keys()) if old[name] != new[name]]
    return NamesDiff(added=added, removed=removed, changed=changed, compared=True)


def _names(manifest: Manifest) -> set[str]:
    record = manifest.source
    if not isinstance(record, SecretsRecord):
        raise StackError(f"{manifest.id}: is a backup of {record.kind}; only secrets are compared by name")
    return {item for file in record.files for item in (file.path, *(f"{file.path}: {name}" for name in file.names))}


def _values(store: Store, manifest: Manifest, identities: Identities) -> dict[str, object]:
    with private_folder() as folder:
        fetch(store, manifest, folder, identities)
        _, files = open_archive(folder / ARCHIVE)
    return {name: value for file in files for name, value in _facts(file).items()}


def _facts(file: Held) -> dict[str, object]:
    variables = {f"{file.path}: {name}": value for name, value in assignments(file.path, file.content)}
    rest = (file.mode, file.uid, file.gid) if variables else (file.mode, file.uid, file.gid, file.content)
    return {file.path: rest, **variables}
