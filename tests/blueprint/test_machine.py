"""The settings of a droplet, from a stack file's."""

from __future__ import annotations

from pathlib import Path

from blueprint.machine import MachineSettings, backup_timer_settings, machine_settings
from blueprint.pulumi_config import load_stack_file
from blueprint.settings.backup import BackupSettings, PostgresqlEntry, SecretsEntry, SourceEntry
from blueprint.settings.database import NoDatabase
from blueprint.settings.environment import EnvironmentSettings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEDj0m0v1V5gqf3v2pJmB0q1m4bQ2yqk0cQW1Zk3p0aC"
SOURCES: dict[str, SourceEntry] = {
    "own": PostgresqlEntry(version="17", database="own", user="u", password="P"),
    "secrets": SecretsEntry(paths=("/x",)),
}


def environment(**changes: object) -> EnvironmentSettings:
    return load_stack_file(ROOT / "Pulumi.staging.yaml", environ={}).model_copy(update=changes)


def machine(settings: EnvironmentSettings) -> MachineSettings:
    return machine_settings(settings, hostname="acme", user="deploy", port=22, deploy_key=DEPLOY)


def majors(settings: EnvironmentSettings) -> tuple[str, ...]:
    client = machine(settings).postgresql_client
    return client.majors if client else ()


def test_a_server_of_ones_own_gets_a_client_of_its_major_with_a_cluster_and_without():
    backup = BackupSettings(sources=SOURCES)
    assert majors(environment(backup=BackupSettings())) == ("15",)
    assert majors(environment(backup=backup)) == ("15", "17")
    assert majors(environment(backup=backup, database=NoDatabase(kind="none"))) == ("17",)
    assert majors(environment(backup=BackupSettings(), database=NoDatabase(kind="none"))) == ()


def test_who_may_log_in_is_never_banned():
    settings = environment()
    made = machine(settings)
    assert made.fail2ban is not None
    assert made.firewall.ssh_sources == made.fail2ban.trusted == settings.access.ssh_from
    assert made.ssh.keys == settings.access.people


def test_without_a_destination_there_are_no_timers():
    assert backup_timer_settings(environment(backup=BackupSettings())) is None
    timers = backup_timer_settings(environment())
    assert timers is not None
    assert timers.schedule == environment().backup.schedule


def test_settings_of_a_droplet_go_through_json_unchanged():
    made = machine(environment())
    assert MachineSettings.model_validate_json(made.model_dump_json()) == made
