"""Backups without a desk: timers fire on the machine, a missed one is told, and the telling ends with the next one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.hosts.staging import Staging

pytestmark = [pytest.mark.hosts, pytest.mark.containers]
PORT = 9799
RECEIVER = f"""
import http.server, json
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        with open("/run/received.jsonl", "a") as file:
            file.write(json.dumps([self.command, self.path, json.loads(body) if body else None]) + "\\n")
        self.send_response(200)
        self.end_headers()
    do_POST = do_GET
http.server.ThreadingHTTPServer(("127.0.0.1", {PORT}), Receiver).serve_forever()
"""
SETTLED = "while systemctl --quiet list-units 'ancla-*' --state=activating | grep -q .; do sleep 1; done"
DROP_IN = "/run/systemd/system/ancla-{}.d/test.conf"


def until(what: str, question: Callable[[], Any], seconds: float = 240) -> Any:
    """Ask until the answer is something."""
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < deadline, f"after {seconds} s: {what}"
        time.sleep(1)
    return answer


@pytest.fixture
def listener(staging: Staging) -> Iterator[Callable[[], list[Any]]]:
    """The machine with addresses to tell, and who listens there. Returns what was received."""
    addresses = {
        "notifications": [f"json://127.0.0.1:{PORT}/t0ken"],
        "heartbeat": f"http://127.0.0.1:{PORT}/beat",
    }
    staging.on_droplet(
        f"cat >/run/receiver.py <<'END'\n{RECEIVER}\nEND\n"
        "systemd-run --quiet --unit=test-receiver --collect python3 /run/receiver.py\n"
        "cp -p /etc/ancla/secrets.json /run/secrets.before\n"
        "python3 - <<'END'\n"
        "import json, pathlib\n"
        "path = pathlib.Path('/etc/ancla/secrets.json')\n"
        f"path.write_text(json.dumps(json.loads(path.read_text()) | {addresses!r}))\n"
        "END\n"
    )
    yield lambda: [
        json.loads(line) for line in staging.on_droplet("cat /run/received.jsonl 2>/dev/null || true").splitlines()
    ]
    staging.on_droplet(
        "systemctl stop ancla-backup.timer ancla-freshness.timer\n"
        f"{SETTLED}\n"
        "systemctl stop test-receiver; rm -rf /run/systemd/system/ancla-*.d; systemctl daemon-reload\n"
        "mv -f /run/secrets.before /etc/ancla/secrets.json; rm -f /run/received.jsonl /var/lib/ancla/watch.json\n"
        "systemctl restart ancla-backup.timer ancla-freshness.timer; systemctl reset-failed\n"
    )


def drop_in(staging: Staging, unit: str, text: str) -> None:
    path = DROP_IN.format(unit)
    staging.on_droplet(f"mkdir -p {path.rpartition('/')[0]}; printf '%s\\n' '{text}' >{path}; systemctl daemon-reload")


def backups(staging: Staging) -> list[str]:
    listed = json.loads(staging.ops("backup", "list", "--json").stdout)
    return [backup["id"] for backup in listed["backups"] if backup["complete"]]


def titles(received: list[Any]) -> list[str]:
    return [body["title"] for _, _, body in received if body]


def test_the_timers_are_there_and_systemd_finds_nothing_wrong(staging: Staging) -> None:
    units = "ancla-backup.timer ancla-freshness.timer"
    assert staging.on_droplet(f"systemctl is-enabled {units}; systemctl is-active {units}").split() == [
        *["enabled"] * 2,
        *["active"] * 2,
    ]
    schedule = staging.outputs.backup.schedule
    assert f"OnCalendar={schedule} UTC" in staging.on_droplet("systemctl cat ancla-backup.timer").splitlines()
    said = staging.on_droplet(
        "cd /etc/systemd/system && "
        "systemd-analyze verify ancla-backup.timer ancla-freshness.timer ancla-failed@x.service 2>&1"
    )
    assert [line for line in said.splitlines() if "ancla" in line] == []


@pytest.mark.long
def test_a_timer_makes_a_backup_and_a_missed_one_is_told_until_it_is_made(
    staging: Staging, listener: Callable[[], list[Any]]
) -> None:
    before = backups(staging)
    often = "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/10\nRandomizedDelaySec=0"
    drop_in(staging, "backup.timer", often)
    staging.on_droplet("systemctl restart ancla-backup.timer")
    until("the heartbeat was not asked for", lambda: any(path == "/beat" for _, path, _ in listener()))
    assert len(backups(staging)) > len(before)
    assert titles(listener()) == []

    # Missed: the timer stands still, and the budget is a second.
    staging.on_droplet(f"systemctl stop ancla-backup.timer\n{SETTLED}")
    beats = [path for _, path, _ in listener() if path == "/beat"]
    looks = "journalctl -u ancla-freshness --output=cat | grep -c '^LATE' || true"
    seen = int(staging.on_droplet(looks))
    drop_in(staging, "freshness.service", "[Service]\nEnvironment=ANCLA_MAX_AGE_HOURS=0.0003")
    drop_in(staging, "freshness.timer", often.replace("0/10", "0/5"))
    staging.on_droplet("systemctl restart ancla-freshness.timer")
    (title,) = until("nobody was told", lambda: titles(listener()))
    assert "no backup within the budget: the newest complete backup of app" in title
    told = next(body["message"] for _, _, body in listener() if body)
    assert "docs/runbooks/backup-missing.md" in told
    until("it looked once only", lambda: int(staging.on_droplet(looks)) >= seen + 2)
    assert titles(listener()) == [title], "told once, however often it is seen"
    assert [path for _, path, _ in listener() if path == "/beat"] == beats, "the heartbeat stands still"
    alerts = staging.on_droplet("ops watch alerts --json || true")
    assert {alert["runbook"] for alert in json.loads(alerts)["alerts"]} == {"backup-missing"}, "of each set"

    # A backup ends it, though the next look has not come yet.
    staging.on_droplet(f"systemctl stop ancla-freshness.timer\n{SETTLED}\nsystemctl start ancla-backup")
    recovered = until("the recovery was not told", lambda: titles(listener())[1:])
    assert recovered[0].startswith(title.replace("no backup", "recovered: no backup")[:60])
    assert json.loads(staging.on_droplet("ops watch alerts --json")) == {"alerts": []}
    assert len([path for _, path, _ in listener() if path == "/beat"]) == len(beats) + 1

    metrics = staging.on_droplet("cat /var/lib/ancla/metrics/ancla.prom")
    assert 'ancla_backup_last_success_timestamp_seconds{environment="staging",name="app"' in metrics
    staging.on_droplet("ops audit verify")
    log = staging.on_droplet("cat /var/log/ancla/audit.jsonl")
    assert '"verb": "backup create"' in log
    journal = staging.on_droplet("journalctl -u 'ancla-*' --output=cat")
    assert "t0ken" not in log + metrics + journal


def test_a_failing_backup_is_told_with_its_cause_and_the_machine_cannot_hide_it(
    staging: Staging, listener: Callable[[], list[Any]]
) -> None:
    drop_in(staging, "backup.service", "[Service]\nEnvironment=ANCLA_SPOOL=/nowhere")
    staging.on_droplet("systemctl start ancla-backup", check=False)
    (title,) = until("nobody was told", lambda: titles(listener()))
    assert "no backup of app was made" in title
    assert [path for _, path, _ in listener() if path == "/beat"] == []
    # Killed before ops can say anything: systemd tells.
    staging.on_droplet("rm -rf /run/systemd/system/ancla-*.d; systemctl daemon-reload; systemctl start ancla-backup")
    drop_in(staging, "backup.service", "[Service]\nExecStartPre=/bin/sleep 600")  # there until it is killed
    staging.on_droplet(
        "systemctl start --no-block ancla-backup\n"
        "while systemctl show --property=ControlPID --value ancla-backup | grep -qx 0; do sleep 0.2; done\n"
        "systemctl kill --signal=KILL ancla-backup"
    )
    until("systemd did not tell", lambda: any("ancla-backup.service failed" in text for text in titles(listener())))
