"""Values that are encrypted in the stack file."""

from __future__ import annotations

from pydantic import Field, SecretStr

from blueprint.fields import EnvironmentVariable, Slug
from blueprint.model import Settings

_KEY = "OpenSSH ed25519 private key; `ops stack init` makes it"


class KeyPair(Settings):
    """A key pair of an S3-compatible store."""

    access_key: str = Field(description="The key's id; changed in place.")
    secret_key: SecretStr = Field(description="The key itself; changed in place.")


class TlsSecrets(Settings):
    """A certificate of one's own, for `edge.tls.issuer: custom`."""

    certificate: SecretStr = Field(description="The certificate and its chain, in PEM; changed in place.")
    key: SecretStr = Field(description="Its private key, in PEM; changed in place.")


class Secrets(Settings):
    """Values that are encrypted in the stack file, or come by the environment in the sandbox."""

    deploy_key: SecretStr | None = Field(
        default=None,
        description=f"Key that logs in to droplets as deploy ({_KEY}); a change is applied to the running droplet.",
    )
    bootstrap_host_key: SecretStr | None = Field(
        default=None, description=f"Host key a droplet is born with ({_KEY}); holds for the next droplet."
    )
    host_key: SecretStr | None = Field(
        default=None,
        description=(
            f"Host key a droplet keeps after the first contact ({_KEY}); a change is applied to the running droplet."
        ),
    )
    backup_signing_key: SecretStr | None = Field(
        default=None,
        description=(
            f"Key by which a manifest proves that it is of this environment ({_KEY}); holds from the next backup on, "
            "and earlier backups are no longer trusted."
        ),
    )
    app: dict[EnvironmentVariable, SecretStr] = Field(
        default_factory=dict, description="Values that services name, by variable; they hold from the next release on."
    )
    logins: dict[Slug, SecretStr] = Field(
        default_factory=dict, description="Passwords of access.logins, by name; changed in place."
    )
    channels: dict[Slug, SecretStr] = Field(
        default_factory=dict,
        description="Secret addresses of alerts.channels, by name, such as a Slack webhook; changed in place.",
    )
    notifications: tuple[SecretStr, ...] = Field(
        default=(),
        description="Addresses of apprise for reports of failed or missing backups (default: none); changed in place.",
    )
    heartbeat: SecretStr | None = Field(
        default=None,
        description="URL that each complete backup requests, where alerts.heartbeat is true; changed in place.",
    )
    tls: TlsSecrets | None = Field(
        default=None, description="A certificate of one's own (default: none); changed in place."
    )
    extras: dict[str, dict[EnvironmentVariable, SecretStr]] = Field(
        default_factory=dict, description="Values of extras, by entry and variable; they hold from the next release on."
    )
    backup_keys: dict[Slug, KeyPair] = Field(
        default_factory=dict,
        description="Key pairs of the backup destinations outside Spaces, by the destination's name; changed in place.",
    )
