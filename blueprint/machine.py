"""Settings of one droplet, which `host` converges it to. One frozen group a concern; None switches a concern off.

Nothing in here is secret, and nothing waits for DigitalOcean: the settings are known before anything is created, so
that a preview can tell whether a droplet has to be converged.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from blueprint.fields import Cidr, Port, PostgresMajor, Schedule, Slug, SshPublicKey
from blueprint.settings.database import ManagedPostgresql
from blueprint.settings.environment import EnvironmentSettings


class Group(BaseModel):
    """Base of every group: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SshSettings(Group):
    """Who may log in: `user`, by the deploy key (one public line) and by people's `keys`, by name."""

    user: str
    deploy_key: SshPublicKey
    keys: dict[Slug, SshPublicKey] = Field(default_factory=dict)


class FirewallSettings(Group):
    """Who reaches sshd at `ssh_port`. 80 and 443 are open to all."""

    ssh_sources: tuple[Cidr, ...] = Field(min_length=1)
    ssh_port: Port = 22


class UpgradesSettings(Group):
    """Security updates, every day."""


class DockerSettings(Group):
    """The daemon. Each container keeps `log_files` logs of `log_size`."""

    log_size: str = "10m"
    log_files: int = Field(default=3, ge=1)


class NginxSettings(Group):
    """The server. `body_size` is the largest request that it takes."""

    body_size: str = "20m"


class Fail2banSettings(Group):
    """Bans of addresses that guess logins; those of `trusted` are never banned."""

    trusted: tuple[Cidr, ...] = ()


class JournalSettings(Group):
    """Bounds of systemd's journal."""

    size: str = "500M"
    age: str = "1month"


class PostgresqlClientSettings(Group):
    """Client programs of PostgreSQL, of these majors."""

    majors: tuple[PostgresMajor, ...] = Field(min_length=1)


class BackupTimerSettings(Group):
    """Backups by `schedule`, an OnCalendar expression; without a time zone it is UTC."""

    schedule: Schedule


class MachineSettings(Group):
    """One droplet. SSH and the firewall cannot be switched off."""

    hostname: str = Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")
    ssh: SshSettings
    firewall: FirewallSettings
    upgrades: UpgradesSettings | None = UpgradesSettings()
    docker: DockerSettings | None = DockerSettings()
    nginx: NginxSettings | None = NginxSettings()
    fail2ban: Fail2banSettings | None = Fail2banSettings()
    journal: JournalSettings | None = JournalSettings()
    postgresql_client: PostgresqlClientSettings | None = None


def machine_settings(
    settings: EnvironmentSettings, *, hostname: str, user: str, port: int, deploy_key: str
) -> MachineSettings:
    """Return the settings of the environment's droplet; `deploy_key` is the public line."""
    own = settings.backup.sources.values()
    majors: set[PostgresMajor] = {source.version for source in own if source.kind == "postgresql"}
    if isinstance(settings.database, ManagedPostgresql):
        majors.add(settings.database.version)
    sources = settings.access.ssh_from
    return MachineSettings(
        hostname=hostname,
        ssh=SshSettings(user=user, deploy_key=deploy_key, keys=settings.access.people),
        firewall=FirewallSettings(ssh_sources=sources, ssh_port=port),
        fail2ban=Fail2banSettings(trusted=sources),
        postgresql_client=PostgresqlClientSettings(majors=tuple(sorted(majors))) if majors else None,
    )


def backup_timer_settings(settings: EnvironmentSettings) -> BackupTimerSettings | None:
    """Return when the droplet makes backups; None without a destination."""
    return BackupTimerSettings(schedule=settings.backup.schedule) if settings.backup.destinations else None
