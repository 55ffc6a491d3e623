"""The stack's own keys: the one place where secret settings become text and keyed hashes."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

from blueprint.keys import public_line
from blueprint.settings.environment import EnvironmentSettings


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Private keys (never shown) and their public halves, each one OpenSSH line."""

    deploy_key: str = field(repr=False)
    deploy_public: str
    bootstrap_host_key: str = field(repr=False)
    bootstrap_host_public: str
    host_key: str = field(repr=False)
    host_public: str
    app: Mapping[str, str] = field(repr=False, default_factory=dict[str, str])
    channels: Mapping[str, str] = field(repr=False, default_factory=dict[str, str])
    backup_signing_key: str | None = field(repr=False, default=None)
    backup_signer: str | None = None
    notifications: tuple[str, ...] = field(repr=False, default=())
    heartbeat: str | None = field(repr=False, default=None)


def keyed_hash(key: str, value: str) -> str:
    """Return a hash that tells a change of a secret, and tells nothing of it to who lacks the key."""
    return hmac.new(key.encode(), value.encode(), hashlib.sha256).hexdigest()[:32]


def credentials_of(settings: EnvironmentSettings) -> Credentials:
    """Take the keys out of settings that `blueprint.pulumi_config.check_buildable` has accepted.

    Raises:
        ValueError: a key is missing.
    """
    secrets = settings.secrets

    def pair(name: str, key: SecretStr | None) -> tuple[str, str]:
        if key is None:
            raise ValueError(f"secrets.{name} is missing")
        return key.get_secret_value(), public_line(key)

    deploy, deploy_public = pair("deployKey", secrets.deploy_key)
    bootstrap, bootstrap_public = pair("bootstrapHostKey", secrets.bootstrap_host_key)
    host, host_public = pair("hostKey", secrets.host_key)
    return Credentials(
        deploy_key=deploy,
        deploy_public=deploy_public,
        bootstrap_host_key=bootstrap,
        bootstrap_host_public=bootstrap_public,
        host_key=host,
        host_public=host_public,
        app={name: value.get_secret_value() for name, value in secrets.app.items()},
        backup_signing_key=_text(secrets.backup_signing_key),
        backup_signer=public_line(secrets.backup_signing_key) if secrets.backup_signing_key else None,
        notifications=tuple(address.get_secret_value() for address in secrets.notifications),
        heartbeat=_text(secrets.heartbeat) if settings.alerts.heartbeat else None,
        channels={name: value.get_secret_value() for name, value in secrets.channels.items()},
    )


def _text(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
