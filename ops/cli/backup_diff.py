"""`ops backup diff`: compare two backups of secrets by name."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli.backup_options import StoreOption
from ops.cli.options import IdentityOption, JsonOption, OutputsOption, StackOption
from ops.core import console
from ops.core.errors import StackError
from ops.core.workdir import private_folder
from ops.repository import catalog
from ops.repository.age import read_identities, require_identity
from ops.repository.download import Identities
from ops.repository.incremental import pieces
from ops.repository.manifest import Manifest
from ops.repository.records import SecretsRecord, shown_name
from ops.repository.stores.base import Store
from ops.restore.download import fetch
from ops.sources.secrets import ARCHIVE, assignments, open_archive
from ops.stack.outputs import load_stack
from ops.targets import destinations


def diff_command(
    old: Annotated[str, typer.Argument(metavar="OLD", help="Id of the older backup.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Id of the newer backup.")] = catalog.LATEST,
    name: Annotated[
        str, typer.Option("--name", "-n", help="Source of secrets, as named in the stack file.")
    ] = "secrets",
    store: StoreOption = None,
    identity: IdentityOption = None,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the names of secrets that differ between two backups, with --identity also those whose value changed.

    Values are never printed.
    """
    loaded = load_stack(stack, outputs)
    place = destinations.store(loaded, store)
    identities = read_identities(identity) if identity else ()
    left, right = (catalog.find(place, name, backup) for backup in (old, new))
    for manifest in (left, right):
        require_identity(manifest.recipients, identities, manifest.id, plan=True)
        if (signer := loaded.outputs.backup.signer) is not None and not manifest.signed_by(signer):
            console.step(f"{manifest.id}: not signed by this environment's key: somebody else may have put it there")
    encrypted = bool(left.recipients or right.recipients)
    before, after = ({} if encrypted and not identities else _values(place, each, identities) for each in (left, right))
    old_names, new_names = _names(left), _names(right)
    found = {
        "added": sorted(new_names - old_names),
        "removed": sorted(old_names - new_names),
        "changed": sorted(name for name in before.keys() & after.keys() if before[name] != after[name]),
    }
    compared = bool(before)
    if as_json:
        console.print_json({"old": left.id, "new": right.id, **found, "compared": compared})
        return
    for mark, names in zip("+-~", found.values(), strict=True):
        for item in names:
            console.out.print(f"{mark} {item}", markup=False)
    if not any(found.values()):
        console.out.print("no difference" if compared else "the same names")
    if not compared:
        console.out.print("values were not compared; give --identity to compare them", style="dim")


def _names(manifest: Manifest) -> set[str]:
    record = manifest.source
    if not isinstance(record, SecretsRecord):
        raise StackError(f"{manifest.id}: is a backup of {record.kind}; only secrets are compared by name")
    return {
        *(f"{file.path}: {name}" for file in record.files for name in file.names),
        *(item.path for item in (*record.files, *record.folders, *record.links)),
    }


def _values(store: Store, manifest: Manifest, identities: Identities) -> dict[str, object]:
    """Decrypt a backup in a private folder and return its values by name, to be compared and never shown."""
    with private_folder() as folder:
        fetch(store, pieces(store, manifest), folder, identities)
        _, held = open_archive(folder / ARCHIVE)
    values: dict[str, object] = {}
    for item in held:
        path = shown_name(item.path)
        variables = {f"{path}: {name}": value for name, value in assignments(item.path, item.content)}
        rest = (item.kind, item.mode, item.uid, item.gid, item.target)
        values |= {path: rest if variables else (*rest, item.content), **variables}
    return values
