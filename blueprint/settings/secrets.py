"""Values that are encrypted in the stack file."""

from __future__ import annotations

from pydantic import Field, SecretStr

from blueprint.fields import EnvironmentVariable, Slug
from blueprint.model import Settings


class KeyPair(Settings):
    """A key pair of an S3-compatible store."""

    access_key: str
    secret_key: SecretStr


class Secrets(Settings):
    """Values that are encrypted in the stack file, or come by the environment in the sandbox.

    `deploy_key`, `bootstrap_host_key` and `host_key` are OpenSSH ed25519 private keys that `ops stack init` makes:
    who logs in, the host key a droplet is born with, and the host key it keeps after the first contact;
    `backup_signing_key` is another one, by which a manifest proves that it is of this environment. `backup_keys` are of
    the destinations outside Spaces, by bucket. `notifications` are apprise addresses for reports of failed or missing
    backups, `heartbeat` a URL that is requested after each backup (a dead man's switch). `channels` are the secret
    addresses of `alerts.channels`, by name: a Slack webhook.
    """

    deploy_key: SecretStr | None = None
    bootstrap_host_key: SecretStr | None = None
    host_key: SecretStr | None = None
    backup_signing_key: SecretStr | None = None
    backup_keys: dict[str, KeyPair] = Field(default_factory=dict)
    notifications: tuple[SecretStr, ...] = ()
    heartbeat: SecretStr | None = None
    channels: dict[Slug, SecretStr] = Field(default_factory=dict)
    app: dict[EnvironmentVariable, SecretStr] = Field(default_factory=dict)
