"""Define the errors that `ops` raises on purpose. A message is one line: what, where (stack, host, bucket), what to do.

::

    OpsError                    exit 1   the command failed
    ├── StackError                       the stack, its settings or its outputs cannot be read
    ├── ToolError                        a program is missing, or too old for the server
    ├── SshError                         no connection, or a host key other than the pinned one
    │   └── RemoteCommandError           a command on the droplet failed
    ├── DatabaseUnreachableError         a database server does not answer, or refuses the login
    ├── SourceError                      the source of a backup cannot be read
    │   └── DatabaseError                a PostgreSQL server refused a statement, or the connection broke
    │       └── DatabaseUnreachableError no connection: no answer, a wrong password, an unverified certificate
    ├── BusyError                        another run is doing the same work
    ├── SpoolError                       this computer's disk is full or not writable
    ├── StoreError                       the backup store (bucket or folder) answers with an error
    │   ├── StoreUnreachableError        no answer at all, or the key pair is refused
    │   ├── DeleteRefusedError           an object is locked, or the key pair may not delete it
    │   └── ObjectMissingError           the object does not exist
    ├── BackupNotFoundError              there is no backup with that name, or none at all
    ├── ManifestError                    the manifest is unreadable, from a newer Ancla, or of another backup
    ├── KeyProblemError                  an identity, a recipient or a signing key is missing or invalid
    ├── IntegrityError                   the bytes read differ from those written
    ├── RestoreRefusedError              the target is live, is not empty, or cannot hold the data
    ├── RestoreError                     the restore failed midway; the message names the target
    ├── CloudError                       the DigitalOcean API refused, or does not answer
    ├── RegistryError                    there is no such image, or the registry refuses or does not answer
    ├── ReleaseError                     the release failed; the message says which release is running now
    └── VerdictError            exit 3   it ran, and the result is negative: a failed drill, a cost above budget

Exit 2 is a wrong command line (click's own), 130 an interrupt.
"""

from __future__ import annotations

from typing import ClassVar


class OpsError(Exception):
    """Base of all. `str(error)` is the line shown to the user; it never holds a secret."""

    exit_code: ClassVar[int] = 1


class StackError(OpsError):
    """The stack, its settings or its outputs cannot be read."""


class ToolError(OpsError):
    """A program is missing on this computer, or is too old for the server."""


class SshError(OpsError):
    """No connection to the droplet, or its host key is not the pinned one."""


class RemoteCommandError(SshError):
    """A command on the droplet failed. `returncode` is its exit code; `stderr` what it wrote there."""

    def __init__(self, message: str, *, returncode: int, stderr: str = "") -> None:
        super().__init__(message)
        self.returncode = returncode
        self.stderr = stderr


class SourceError(OpsError):
    """The source of a backup cannot be read."""


class DatabaseError(SourceError):
    """A PostgreSQL server (source, target or scratch) refused a statement, or the connection broke."""


class DatabaseLostError(DatabaseError):
    """The connection to a PostgreSQL server broke in the middle: a restart, a failover, a network."""


class DatabaseUnreachableError(DatabaseError):
    """No connection to a PostgreSQL server: no answer, a wrong password, a certificate or no such database."""


class BusyError(OpsError):
    """Another run is doing the same work, here or on another computer."""


class SpoolError(OpsError):
    """The spool folder of this computer is full or not writable."""


class StoreError(OpsError):
    """The backup store answers with an error."""


class StoreUnreachableError(StoreError):
    """The store does not answer, or refuses the key pair."""


class DeleteRefusedError(StoreError):
    """The store does not delete an object: it is locked until a time, or the key pair may not delete."""


class ObjectMissingError(StoreError):
    """The object does not exist in the store."""


class BackupNotFoundError(OpsError):
    """There is no backup with that name, or none at all."""


class ManifestError(OpsError):
    """The manifest is unreadable, of a newer version, or belongs to another backup."""


class KeyProblemError(OpsError):
    """An identity, a recipient or a signing key is missing, is invalid, or does not match."""


class IntegrityError(OpsError):
    """The bytes read differ from those written."""


class RestoreRefusedError(OpsError):
    """The target is live, is not empty, or cannot hold the data. Nothing was changed."""


class RestoreError(OpsError):
    """The restore failed midway. The message names the target that is left."""


class CloudError(OpsError):
    """The DigitalOcean API refused, or does not answer."""


class RegistryError(OpsError):
    """There is no such image, or the registry refuses access or does not answer."""


class ReleaseError(OpsError):
    """The release cannot be planned, or failed; then the previous one runs again. `log` is the app's last output."""

    def __init__(self, message: str, log: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.log = log


class VerdictError(OpsError):
    """The command ran, and the result is negative: a failed drill, a cost above budget, an unhealthy environment."""

    exit_code: ClassVar[int] = 3
