"""Restores of the kit's databases: the target that `ops restore` makes, by fewer words."""

from __future__ import annotations

from ops.restore.restore import RestoreJob as Job
from ops.restore.restore import plan, run
from ops.restore.table_subset_plan import part_of
from ops.sources.postgres.target import DatabaseTarget

__all__ = ["RestoreJob", "plan", "run"]


def RestoreJob(*, store, manifest, admin, owner, live=(), target=None, tables=(), **more):  # noqa: N802  # as a class
    """Return the job of a restore into a database of the kit's server."""
    into = DatabaseTarget(
        admin=admin,
        owner=owner,
        backup=manifest.id,
        of=manifest.name,
        into=target or None,
        live=tuple(live),
        tables=tuple(tables),
        complete=manifest.source,
    )
    return Job(store=store, manifest=part_of(manifest, tuple(tables)), target=into, **more)
