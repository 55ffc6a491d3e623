"""Stack outputs: everything `ops` and CI may know of a stack, as one versioned model.

Each field is one stack output of the same name; `pulumi stack output --json --show-secrets` parses into the model.
Everything secret is in the one output `secrets`, so that the rest can be read without the passphrase.
On the droplet a reduced copy is read instead, whose `secrets` names a file (mode 0600).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from blueprint.fields import Duration
from blueprint.settings.backup import RetentionSettings, SourceSettings, TableFilter
from blueprint.settings.services import ServiceSettings

SCHEMA_VERSION = 1
HIDDEN = "[secret]"


class Outputs(BaseModel):
    """Base of every group: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DropletOutput(Outputs):
    """One droplet. Addresses are IPv4; `address` is the one to use (the reserved IP where there is one)."""

    id: str
    name: str
    address: str
    public_ip: str
    private_ip: str


class AccessOutput(Outputs):
    """How to log in: `user` by the deploy key, host key pinned (one line, `ssh-ed25519 …`)."""

    user: str
    port: int
    host_key: str


class PoolOutput(Outputs):
    """A connection pool of a cluster: clients connect to `name` as to a database, and get to `database`."""

    name: str
    database: str


class DatabaseOutput(Outputs):
    """A PostgreSQL cluster. `private_host` is reachable from the VPC alone; ports are 25060 and 25061 (pools)."""

    id: str
    version: str
    host: str
    private_host: str
    port: int
    user: str
    admin_user: str
    databases: list[str]
    pools: dict[str, PoolOutput]
    pool_port: int | None
    ca_certificate: str

    @property
    def app_pool(self) -> PoolOutput | None:
        """The pool that the app connects through: the first by name that leads to its database."""
        leading = (self.pools[name] for name in sorted(self.pools))
        return next((pool for pool in leading if pool.database == self.databases[0]), None)


class BucketOutput(Outputs):
    """A bucket of an S3-compatible store. `endpoint` has no bucket name in it, such as https://nyc3.digitaloceanspaces.com."""

    name: str
    region: str
    endpoint: str
    prefix: str = ""


PUBLIC_READ = "public-read"
"""The ACL by which everybody reads an object of a public bucket. The bucket itself is private."""


PRIVATE = "private"
"""The ACL by which the bucket's key alone reads an object."""


class AppBucketOutput(Outputs):
    """A bucket of the app and the address its objects are read from (`url`, no trailing slash).

    `public`: everybody may read an object that has the ACL `PUBLIC_READ`.
    """

    bucket: BucketOutput
    public: bool
    url: str
    cdn_id: str | None

    @property
    def acl(self) -> str:
        """The ACL that an object is uploaded with."""
        return PUBLIC_READ if self.public else PRIVATE


class RegistryOutput(Outputs):
    """The container registry; `endpoint` is host and name, such as registry.digitalocean.com/acme."""

    name: str
    endpoint: str


class DestinationOutput(BucketOutput):
    """A bucket for backups. `keep_last` backups stay there; None: what the environment's retention keeps."""

    keep_last: int | None = None


class BackupOutput(Outputs):
    """Backup sources beside the databases, destinations, recipients, and the budgets of freshness and recovery.

    `destinations` are by their names; `exclude` are names of databases that are not backed up. `signer` is the public
    half (one OpenSSH line) of the key that signs manifests, `signers` are those of evidence and of the ledger.
    """

    destinations: dict[str, DestinationOutput]
    sources: list[SourceSettings] = Field(default_factory=list)
    tables: dict[str, TableFilter] = Field(default_factory=dict)
    recipients: list[str] = Field(default_factory=list)
    level: int = 3
    assertions: list[str] = Field(default_factory=list)
    signer: str | None = None
    signers: list[str] = Field(default_factory=list)
    exclude: list[str] = Field(default_factory=list)
    schedule: str
    retention: RetentionSettings
    max_age: Duration
    rto: Duration

    @property
    def max_age_hours(self) -> float:
        """The age budget in hours."""
        return self.max_age / 3600

    @property
    def rto_minutes(self) -> float:
        """The budget of recovery in minutes."""
        return self.rto / 60


class BucketKey(Outputs):
    """A key pair for one bucket, never for the account."""

    access_key: str
    secret_key: SecretStr


class OutputSecrets(Outputs):
    """Every secret value of the stack; a droplet has no deploy key.

    `bucket_keys` are by the names of `buckets`, `backup_keys` by those of `backup.destinations`.
    """

    deploy_key: SecretStr | None = None
    database_password: SecretStr | None = None
    database_admin_password: SecretStr | None = None
    bucket_keys: dict[str, BucketKey] = Field(default_factory=dict)
    backup_keys: dict[str, BucketKey] = Field(default_factory=dict)
    backup_signing_key: SecretStr | None = None
    notifications: list[SecretStr] = Field(default_factory=list)
    heartbeat: SecretStr | None = None
    app: dict[str, SecretStr] = Field(default_factory=dict)


class SecretsFile(Outputs):
    """On the droplet: where the secret values are, as JSON of `OutputSecrets` without the deploy key."""

    file: str


class EnvironmentOutputs(Outputs):
    """Everything `ops` and CI may know of a stack."""

    schema_version: Literal[1] = SCHEMA_VERSION
    environment: str
    project: str
    domain: str
    region: str
    account: str
    droplets: list[DropletOutput]
    access: AccessOutput
    database: DatabaseOutput | None
    buckets: dict[str, AppBucketOutput]
    registry: RegistryOutput | None
    services: dict[str, ServiceSettings]
    backup: BackupOutput
    secrets: OutputSecrets | SecretsFile


class OutputsError(ValueError):
    """The outputs cannot be read; the message says why and what to do."""


def parse_outputs(raw: dict[str, Any]) -> EnvironmentOutputs:
    """Parse what `pulumi stack output --json` printed.

    Raises:
        OutputsError: nothing was exported yet, another schema version, hidden secrets, or a field that does not fit.
    """
    if not raw:
        raise OutputsError("the stack has no outputs: run `pulumi up` first")
    version = raw.get("schema_version")
    if version != SCHEMA_VERSION:
        raise OutputsError(
            f"schema_version: found {version!r}, this Ancla reads {SCHEMA_VERSION}; "
            "run `pulumi up` with this version, or use the version that made the stack"
        )
    if raw.get("secrets") == HIDDEN:
        raise OutputsError("secrets: hidden; read the outputs with `pulumi stack output --json --show-secrets`")
    try:
        return EnvironmentOutputs.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise OutputsError(f"{where}: {first['msg']}; run `pulumi up` with this version of Ancla") from None
