"""Everything `ops` may raise on purpose. A message is one line: what, where (stack, host, bucket, key), what to do.

::

    OpsError                    exit 1   could not do it
    ├── StackError                       the stack, its settings or its outputs cannot be read
    ├── ToolError                        a program is missing, or too old for the server
    ├── SshError                         no connection, or another host key than the pinned one
    │   └── RemoteCommandError           the command ran on the machine and failed
    ├── DatabaseUnreachableError         a database server does not answer, or refuses the login
    ├── SourceError                      what is to be backed up cannot be read
    │   └── DatabaseError                a PostgreSQL server refused a statement, or the connection broke
    │       └── DatabaseUnreachableError no connection: no answer, a wrong password, an unverified certificate
    ├── BusyError                        another run is at the same work
    ├── SpoolError                       no room, or no right to write, on this machine's disk
    ├── StoreError                       the bucket or folder of the backups does not answer as it should
    │   ├── StoreUnreachableError        no answer at all, or the key pair is refused
    │   ├── DeleteRefusedError           it does not let an object go: a lock, or a key that may not delete
    │   └── ObjectMissingError           the object is not there
    ├── BackupNotFoundError              no backup by that name, or none at all
    ├── ManifestError                    not readable, made by a newer Ancla, or not the one it says it is
    ├── KeyProblemError                  an identity, a recipient or a signing key is missing or not one
    ├── IntegrityError                   a byte is not the byte that was written
    ├── RestoreRefusedError              the target is live, is not empty, or cannot hold the data
    ├── RestoreError                     the restore began and failed; the target is named
    ├── CloudError                       the DigitalOcean API refused, or does not answer
    ├── RegistryError                    no such image, or the registry refuses or does not answer
    ├── ReleaseError                     the release failed; the message says what is running now
    └── VerdictError            exit 3   it worked, and the answer is no: a red drill, a cost above the budget

Exit 2 is a wrong command line (click's own), 130 an interrupt.
"""

from __future__ import annotations

from typing import ClassVar


class OpsError(Exception):
    """Base of all. `str(error)` is the line a person reads; it never holds a secret."""

    exit_code: ClassVar[int] = 1


class StackError(OpsError):
    """The stack, its settings or its outputs cannot be read."""


class ToolError(OpsError):
    """A program is missing on this machine, or is too old for the server."""


class SshError(OpsError):
    """No connection to the machine, or it shows another host key than the pinned one."""


class RemoteCommandError(SshError):
    """The command ran on the machine and failed. `returncode` is its own; `stderr` is what it wrote there."""

    def __init__(self, message: str, *, returncode: int, stderr: str = "") -> None:
        super().__init__(message)
        self.returncode = returncode
        self.stderr = stderr


class SourceError(OpsError):
    """What is to be backed up cannot be read."""


class DatabaseError(SourceError):
    """A PostgreSQL server refused a statement, or the connection broke: of a source, a target or a scratch server."""


class DatabaseUnreachableError(DatabaseError):
    """No connection to a PostgreSQL server: no answer, a wrong password, a certificate or no such database."""


class BusyError(OpsError):
    """Another run is at the same work, here or on another machine."""


class SpoolError(OpsError):
    """No room, or no right to write, in the spool folder of this machine."""


class StoreError(OpsError):
    """The store of the backups does not answer as it should."""


class StoreUnreachableError(StoreError):
    """The store does not answer at all, or refuses the key pair."""


class DeleteRefusedError(StoreError):
    """The store does not let an object go: it is locked until a time, or the key pair may not delete."""


class ObjectMissingError(StoreError):
    """The object is not in the store."""


class BackupNotFoundError(OpsError):
    """No backup by that name, or none at all."""


class ManifestError(OpsError):
    """The manifest is not readable, is of a newer version, or is not of the backup it lies in."""


class KeyProblemError(OpsError):
    """An identity, a recipient or a signing key is missing, is not one, or does not fit."""


class IntegrityError(OpsError):
    """A byte read is not the byte that was written."""


class RestoreRefusedError(OpsError):
    """The target is live, is not empty, or cannot hold the data. Nothing was changed."""


class RestoreError(OpsError):
    """The restore began and failed. The message names the target that is left."""


class CloudError(OpsError):
    """The DigitalOcean API refused, or does not answer."""


class RegistryError(OpsError):
    """There is no such image, or the registry refuses us or does not answer."""


class ReleaseError(OpsError):
    """The release cannot be planned, or failed; then the former one is back. `log` is what the app said last."""

    def __init__(self, message: str, log: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.log = log


class VerdictError(OpsError):
    """It worked, and the answer is no: a red drill, a cost above the budget, an unhealthy environment."""

    exit_code: ClassVar[int] = 3
