"""How much of the real service's trouble the account has: set by tests and by whoever tries something out.

They outlive a restart. At their defaults the sandbox is quicker and kinder than DigitalOcean (`docs/fidelity.md`).
"""

from __future__ import annotations

import time
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sandbox.api.context import Cloud, job
from sandbox.store import Record, Store


class Switches(BaseModel):
    """The switches of one account.

    `addresses` are those of the team's members, beside the account's own: alerts go to no others. `unseen_seconds` is
    how long a new bucket, database, user or pool is not found (404). `deleted_name_seconds` is how long the name of a
    deleted bucket stays taken. `foreign_buckets` and `foreign_registries` are names that other accounts have.
    `limited_keys_set_no_acl` and `limited_keys_read_no_acl` refuse limited Spaces keys `x-amz-acl` and `GET ?acl`.
    `fork_times` says what a fork at a time between two backups has: the data of that time (`exact`), that of the
    backup before it (`backup_before`), or nothing, because it is refused (`backups_only`). `monitored_databases` keeps
    a superuser's session on every database, opened again when it is ended.
    """

    model_config = ConfigDict(extra="forbid")
    addresses: tuple[str, ...] = ("ops@nextgentech.mx",)  # of the stack files that ship
    unseen_seconds: float = Field(default=0, ge=0)
    deleted_name_seconds: float = Field(default=0, ge=0)
    foreign_buckets: tuple[str, ...] = ()
    foreign_registries: tuple[str, ...] = ()
    limited_keys_set_no_acl: bool = False
    limited_keys_read_no_acl: bool = False
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
        cloud.touch("spaces_switches")
    return made


@job("spaces_switches")
def converge_switches(cloud: Cloud, _: str) -> None:
    """Apply the switches to the Spaces part."""
    cloud.parts.spaces.set_switches(switches_of(cloud.store).model_dump(mode="json"))


def unseen(store: Store, made: float | None) -> bool:
    """Return True if an object made at this time (`time.time()`) is so new that it is not found yet."""
    return made is not None and time.time() - made < switches_of(store).unseen_seconds
