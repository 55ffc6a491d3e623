"""The secrets that an environment needs."""

from __future__ import annotations

from pydantic.alias_generators import to_camel

from blueprint.settings.environment import EnvironmentSettings


def missing_secrets(settings: EnvironmentSettings) -> list[str]:
    """Name each secret (as a path in the stack file) that the settings need and do not have."""
    missing = [
        f"secrets.{to_camel(name)}"
        for name in ("deploy_key", "bootstrap_host_key", "host_key")
        if getattr(settings.secrets, name) is None
    ]
    if settings.backup.destinations and settings.secrets.backup_signing_key is None:
        missing.append("secrets.backupSigningKey")
    missing += [
        f"secrets.backupKeys.{destination.bucket}"
        for destination in settings.backup.destinations
        if destination.endpoint is not None and destination.bucket not in settings.secrets.backup_keys
    ]
    if settings.monitoring.slack is not None and settings.secrets.slack_webhook is None:
        missing.append("secrets.slackWebhook")
    wanted = sorted(
        {name for service in settings.services.values() for name in service.secrets}
        | {source.password for source in settings.backup.sources if source.kind == "postgresql"}
    )
    missing += [f"secrets.app.{name}" for name in wanted if name not in settings.secrets.app]
    return missing
