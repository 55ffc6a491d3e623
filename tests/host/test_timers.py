"""The units of the machine, as systemd reads them."""

from __future__ import annotations

import configparser
import shutil
import subprocess

import pytest

from host.concerns.timers import BACKUP, FAILED, FRESHNESS, build_units
from host.templates import render


def read(text):
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # systemd's names have capitals
    parser.read_string(text)
    return parser


@pytest.mark.parametrize(
    ("schedule", "calendar"),
    [
        ("*-*-* 03:00:00", "*-*-* 03:00:00 UTC"),
        ("daily", "daily UTC"),
        ("Mon..Fri 03:00", "Mon..Fri 03:00 UTC"),
        ("*-*-* 03:00:00 UTC", "*-*-* 03:00:00 UTC"),
        ("*-*-* 03:00 America/Mexico_City", "*-*-* 03:00 America/Mexico_City"),
    ],
)
def test_a_schedule_without_a_zone_is_utc(schedule, calendar):
    timer = read(build_units(schedule)[f"{BACKUP}.timer"])["Timer"]
    assert timer["OnCalendar"] == calendar
    if program := shutil.which("systemd-analyze"):
        assert subprocess.run([program, "calendar", calendar], capture_output=True, check=False).returncode == 0


def test_a_missed_backup_is_made_up_for_and_many_machines_do_not_start_at_once():
    for name in (BACKUP, FRESHNESS):
        timer = read(build_units("daily")[f"{name}.timer"])["Timer"]
        assert timer["Persistent"] == "yes" or timer["Persistent"] == "true"
        assert timer["RandomizedDelaySec"] in ("3min", "5min")


def test_a_changed_schedule_is_one_changed_unit():
    before, after = build_units("daily"), build_units("*-*-* 04:00:00")
    assert [name for name in before if before[name] != after[name]] == [f"{BACKUP}.timer"]


def test_the_services_run_ops_end_at_a_time_and_tell_when_they_fail():
    units = build_units("daily")
    for name, command in ((BACKUP, "backup create --again-after 30"), (FRESHNESS, "backup fresh")):
        unit = read(units[f"{name}.service"])
        assert unit["Service"]["ExecStart"] == f"/usr/local/bin/ops {command}"
        assert unit["Service"]["TimeoutStartSec"]
        assert unit["Unit"]["OnFailure"] == FAILED.replace("@.", "@%n.")
        assert "Install" not in unit, "its timer is enabled, not itself"
    assert read(units[FAILED])["Service"]["ExecStart"] == "/usr/local/bin/ops watch failed %i"


def test_no_unit_holds_what_it_does_not_need():
    service = read(build_units("daily")[f"{BACKUP}.service"])["Service"]
    assert "CAP_SYS_ADMIN" not in service["CapabilityBoundingSet"]
    assert "CAP_NET_ADMIN" not in service["CapabilityBoundingSet"]
    for option in ("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectKernelModules", "RestrictNamespaces"):
        assert service[option] == "yes", option
    # The audit log and the state are below /var, and so is an app's SQLite file, whose copy needs a lock beside it.
    assert service["ProtectSystem"] == "full"


def test_the_audit_log_is_rotated_and_never_cut():
    text = render("audit.logrotate")
    assert "/var/log/ancla/audit.jsonl {" in text
    assert "copytruncate" not in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here; tests/hosts has one")
def test_systemd_finds_nothing_wrong_in_them(tmp_path):
    units = build_units("daily")
    for name, text in units.items():
        (tmp_path / name).write_text(text.replace("/usr/local/bin/ops", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", *(str(tmp_path / name) for name in units if "@" not in name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line for line in done.stderr.splitlines() if "ancla" in line] == []
