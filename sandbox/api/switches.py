"""How much of the real service's trouble the account has: set by tests and by whoever tries something out.

They outlive a restart. At their defaults the sandbox is quicker and kinder than DigitalOcean (`docs/fidelity.md`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from sandbox.api.context import Cloud
from sandbox.store import Record, Store


class Switches(BaseModel):
    """The switches of one account.

    `fork_times` says what a fork at a time between two backups has: the data of that time (`exact`), that of the
    backup before it (`backup_before`), or nothing, because it is refused (`backups_only`). `monitored_databases` keeps
    a superuser's session on every database, opened again when it is ended.
    """

    model_config = ConfigDict(extra="forbid")
    fork_times: Literal["exact", "backup_before", "backups_only"] = "exact"
    monitored_databases: bool = False


def switches_of(store: Store) -> Switches:
    """Return the account's switches."""
    return Switches.model_validate(store.get_meta("switches", {}))


def change_switches(cloud: Cloud, changes: Record) -> Switches:
    """Change those that are named, for good.

    Raises:
        ValidationError: there is no such switch, or it cannot have this value.
    """
    with cloud.change():
        made = Switches.model_validate({**switches_of(cloud.store).model_dump(), **changes})
        cloud.store.set_meta("switches", made.model_dump(mode="json"))
        for database in cloud.store.list("database", deleting=False):
            cloud.touch(f"cluster:{database['id']}")
    return made
