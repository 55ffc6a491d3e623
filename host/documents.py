"""The documents that come on stdin, one model for each command."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any, TypeVar

import paramiko
from paramiko.pkey import UnknownKeyType
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from blueprint.fields import Port, PostgresName, SshPublicKey
from blueprint.machine import BackupTimerSettings, MachineSettings
from blueprint.outputs import EnvironmentOutputs, OutputSecrets
from host.errors import DocumentError


class Document(BaseModel):
    """How to reach a droplet. `deploy_key` is a private key, `host_key` the one line that is pinned."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str
    port: Port = 22
    user: str
    deploy_key: SecretStr
    host_key: SshPublicKey


class FirstContact(Document):
    """`bootstrap_host_key` (public line) is the droplet's first host key; `host_key_private` is its final one."""

    bootstrap_host_key: SshPublicKey
    host_key_private: SecretStr


class Converge(Document):
    """Configuration of the droplet."""

    machine: MachineSettings


class Ops(Document):
    """Ops on the droplet: its copy of the outputs, its secrets, and when it makes backups."""

    outputs: EnvironmentOutputs
    secrets: OutputSecrets
    timers: BackupTimerSettings | None


class DatabaseGrants(BaseModel):
    """The cluster as its administrator sees it. `ca_certificate` is PEM text; `user` is the app's role.

    `extensions` are created in each of `databases`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    private_host: str
    port: Port
    admin_user: str
    admin_password: SecretStr
    ca_certificate: str
    databases: tuple[PostgresName, ...] = Field(min_length=1)
    extensions: tuple[PostgresName, ...] = ()
    user: PostgresName


class Grants(Document):
    """Grant the app's role the rights it needs in its databases, and no others."""

    database: DatabaseGrants


class PlanRequest(BaseModel):
    """A droplet of the DigitalOcean image `image`, as it is known before it is created."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str
    machine: MachineSettings
    timers: BackupTimerSettings | None


D = TypeVar("D", bound=BaseModel)


def read_document(model: type[D], text: str) -> D:
    """Parse the document.

    Raises:
        DocumentError: names the field that does not fit; never quotes a value, since it may be a secret.
    """
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        raise DocumentError(f"stdin: {where}: {first['msg']}") from None


def private_key(text: SecretStr, what: str) -> paramiko.Ed25519Key:
    """Load an ed25519 private key in memory.

    Raises:
        DocumentError: it is not one.
    """
    try:
        return paramiko.Ed25519Key.from_private_key(io.StringIO(text.get_secret_value().strip() + "\n"))
    except (paramiko.SSHException, ValueError, IndexError):
        raise DocumentError(f"{what} is not an OpenSSH ed25519 private key; make one with `ops stack init`") from None


def public_key(line: str, what: str) -> paramiko.PKey:
    """Load the key of one `ssh-ed25519 AAAA… comment` line.

    Raises:
        DocumentError: it is not one.
    """
    kind, _, rest = line.partition(" ")
    try:
        return paramiko.PKey.from_type_string(kind, base64.b64decode(rest.split()[0], validate=True))
    except (paramiko.SSHException, UnknownKeyType, ValueError, IndexError):
        raise DocumentError(f"{what} is not an OpenSSH public key") from None


def revealed(value: Any) -> Any:
    """Return a model as JSON values, its secrets as text."""
    if isinstance(value, BaseModel):
        return {name: revealed(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict):
        return {name: revealed(item) for name, item in value.items()}
    return [revealed(item) for item in value] if isinstance(value, list | tuple) else value


def secrets_of(value: Any) -> Iterator[str]:
    """Yield every secret in a document, wherever it stands, and its lines, as a program may print them."""
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        yield from (part for part in (text, *text.splitlines()) if len(part) >= 4)
    elif isinstance(value, BaseModel):
        yield from secrets_of({name: getattr(value, name) for name in type(value).model_fields})
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from secrets_of(item)
