"""What the watch tells, when it is silent, and that it never stands in the way of the work it watches."""

from __future__ import annotations

import http.server
import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from blueprint.outputs import BucketOutput, EnvironmentOutputs, OutputSecrets
from ops.cli.watch import watch_failed, watch_test
from ops.core.errors import OpsError, SourceError, StoreUnreachableError
from ops.core.signing import Signer
from ops.monitoring import audit, heartbeat
from ops.monitoring.alerts import RUNBOOKS, watching
from ops.monitoring.notify import shut_to_droplets
from ops.monitoring.recorder import backup_run
from ops.monitoring.state import CopyState, home_of
from ops.repository.catalog import Expected, find, put_manifest
from ops.repository.freshness import look
from ops.repository.manifest import Manifest
from ops.repository.records import SecretsRecord
from ops.repository.stores.folder import FolderStore
from ops.stack.init import make_key
from ops.stack.outputs import LoadedStack

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
TOKEN = "t0ken-c4nary"
AGES = {"s3://b": 7.0, "s3://never": None}


@pytest.fixture
def receiver():
    """A web server that keeps what it is told; `status` is what it answers."""

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            server.seen.append((self.command, self.path, json.loads(body) if body else None))
            self.send_response(server.status)
            self.end_headers()

        do_POST = do_GET  # noqa: N815  # the name that http.server calls

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.seen, server.status = [], 200
    server.address = f"127.0.0.1:{server.server_address[1]}"
    server.titles = lambda: [body["title"] for _, _, body in server.seen if body]
    server.beats = lambda: [path for method, path, _ in server.seen if method == "GET"]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(heartbeat._get.retry, "wait", lambda state: 0)
    monkeypatch.setenv("ANCLA_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("ANCLA_AUDIT", str(tmp_path / "log" / "audit.jsonl"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("ANCLA_NOTIFY", raising=False)
    monkeypatch.delenv("ANCLA_METRICS", raising=False)


def make_stack(receiver=None, *, on_machine=True, sources=("notes",), **secrets):
    if receiver is not None:
        secrets = {
            "notifications": [SecretStr(f"json://{receiver.address}/{TOKEN}")],
            "heartbeat": SecretStr(f"http://{receiver.address}/beat/{TOKEN}"),
        } | secrets
    outputs = EnvironmentOutputs.model_validate(
        {
            "environment": "staging",
            "project": "shop",
            "domain": "example.org",
            "region": "nyc3",
            "account": "a",
            "droplets": [],
            "access": {"user": "deploy", "port": 22, "host_key": "ssh-ed25519 AAAA"},
            "database": None,
            "buckets": {},
            "registry": {"name": "r", "endpoint": "r/e"},
            "services": [],
            "backup": {
                "destinations": {"b": BucketOutput(name="b", region="r", endpoint="http://127.0.0.1:9").model_dump()},
                "sources": [{"kind": "secrets", "name": name} for name in sources],
                "schedule": "daily",
                "retention": {},
                "max_age": "26h",
                "rto": "15m",
            },
            "secrets": {"file": "secrets.json"},
        }
    )
    return LoadedStack(name="staging", outputs=outputs, secrets=OutputSecrets(**secrets), on_machine=on_machine)


def item(name="notes", backup="20261123T030000Z-aaaaaa"):
    return {"id": backup, "name": name, "bytes": 2048, "rows": 7, "seconds": 1.5, "stores": ["s3://b"]}


def fails(stack, error, name=None, made=()):
    with pytest.raises(type(error)), backup_run(stack, name, made):
        raise error


def succeeds(stack, name=None, *made):
    with backup_run(stack, name, list(made) or [item()]):
        pass


def at(stack, moment, text=None, runbook="backup-missing"):
    with watching(stack, clock=lambda: moment) as watch:
        if text is None:
            watch.clear("fresh/notes")
        else:
            watch.raise_alert("fresh/notes", text, runbook)


def test_the_first_failure_is_told_and_the_recovery_and_nothing_between(receiver):
    stack = make_stack(receiver)
    fails(stack, SourceError("the file is gone"))
    fails(stack, SourceError("the file is gone"))
    assert receiver.titles() == ["[ancla shop staging] no backup of notes was made: the file is gone"]
    assert "docs/runbooks/backup-failed.md" in receiver.seen[0][2]["message"]
    succeeds(stack)
    succeeds(stack)
    assert len(receiver.titles()) == 2
    assert receiver.titles()[1].startswith("[ancla shop staging] recovered: no backup of notes")


def test_what_stays_wrong_is_told_again_after_a_day(receiver):
    stack = make_stack(receiver)
    for hours in (0, 1, 23.9):
        at(stack, NOW + timedelta(hours=hours), "none")
    assert len(receiver.titles()) == 1
    at(stack, NOW + timedelta(hours=24), "none")
    at(stack, NOW + timedelta(hours=25), "none")
    assert len(receiver.titles()) == 2
    assert "Since 2026-11-23 03:00 UTC" in receiver.seen[1][2]["message"]


def test_a_notification_that_did_not_get_through_is_tried_by_the_next_run_and_fails_nothing(receiver, capsys):
    stack = make_stack(receiver)
    receiver.status = 500
    at(stack, NOW, "none")
    warned = capsys.readouterr().err
    assert warned.count("\n") == 1
    assert "[ancla shop staging] none" in warned
    assert TOKEN not in warned
    receiver.status = 200
    at(stack, NOW + timedelta(hours=1), "none")
    assert len(receiver.titles()) == 2
    receiver.seen.clear()
    at(stack, NOW + timedelta(hours=2), None)
    assert len(receiver.titles()) == 1


def test_a_recovery_of_what_nobody_was_told_is_not_told(receiver):
    stack = make_stack(receiver)
    receiver.status = 500
    at(stack, NOW, "none")
    receiver.seen.clear()
    at(stack, NOW, None)
    assert receiver.seen == []


def test_a_recovery_that_did_not_get_through_is_tried_by_the_next_run_until_it_is_wrong_again(receiver):
    stack = make_stack(receiver)
    for wrong_again in (False, True):
        receiver.status = 200
        at(stack, NOW, "none")
        receiver.status = 500
        at(stack, NOW, None)
        receiver.status = 200
        receiver.seen.clear()
        at(stack, NOW, "none" if wrong_again else None)
        at(stack, NOW, "none" if wrong_again else None)
        assert receiver.titles() == [f"[ancla shop staging] {'' if wrong_again else 'recovered: '}none"]


def test_several_sets_are_one_message_and_a_broken_address_does_not_keep_the_others_from_it(receiver, capsys):
    stack = make_stack(
        receiver,
        sources=("notes", "keys"),
        notifications=[
            SecretStr("nonsense " + TOKEN),
            SecretStr(f"json://127.0.0.1:9/{TOKEN}"),
            SecretStr(f"json://{receiver.address}/x"),
        ],
    )
    fails(stack, StoreUnreachableError("no answer"))
    (title,) = receiver.titles()
    assert title.endswith("(and 1 more)")
    assert receiver.seen[0][2]["message"].count("docs/runbooks/store-unreachable.md") == 2
    errors = capsys.readouterr().err
    assert "secrets.notifications[0]" in errors
    assert TOKEN not in errors


def test_the_heartbeat_follows_a_complete_run_of_all_sets_alone(receiver, capsys):
    stack = make_stack(receiver)
    fails(stack, SourceError("gone"))
    assert receiver.beats() == []
    succeeds(stack, "notes")
    assert receiver.beats() == []
    succeeds(stack)
    assert receiver.beats() == [f"/beat/{TOKEN}"]
    receiver.status = 404
    succeeds(stack)
    assert "answers 404" in capsys.readouterr().err
    succeeds(make_stack(heartbeat=SecretStr(f"http://127.0.0.1:9/{TOKEN}")))
    warned = capsys.readouterr().err
    assert "does not answer" in warned
    assert TOKEN not in warned


def test_an_interrupt_and_an_error_nobody_expected_are_told_without_their_text(receiver):
    stack = make_stack(receiver)
    fails(stack, KeyboardInterrupt())
    assert "interrupted" in receiver.titles()[0]
    succeeds(stack)
    fails(stack, RuntimeError(f"password={TOKEN}"))
    assert "RuntimeError" in receiver.titles()[-1]
    assert TOKEN not in json.dumps([body for _, _, body in receiver.seen])


def test_no_secret_is_in_a_text_whoever_put_it_there(receiver):
    stack = make_stack(receiver, database_password=SecretStr("s3cr3t-word"))
    fails(stack, SourceError("refused for s3cr3t-word"))
    assert "refused for [secret]" in receiver.titles()[0]
    assert "s3cr3t-word" not in (home_of(stack) / "watch.json").read_text()


def test_a_set_that_fails_is_told_by_itself_and_all_of_them_end_as_one_error(receiver):
    stack, made = make_stack(receiver, sources=("notes", "keys", "more")), []
    made += [item(), item("more")]
    with pytest.raises(SourceError, match="gone"), backup_run(stack, None, made) as failures:
        failures["keys"] = SourceError("gone")
    assert receiver.titles() == ["[ancla shop staging] no backup of keys was made: gone"]
    assert receiver.beats() == []
    with pytest.raises(OpsError, match="keys: gone; more: no answer"), backup_run(stack, None, []) as failures:
        failures |= {"keys": SourceError("gone"), "more": StoreUnreachableError("no answer")}
    told = json.loads((home_of(stack) / "watch.json").read_text())["alerts"]
    assert {key: alert["runbook"] for key, alert in told.items()} == {
        "backup/keys": "backup-failed",
        "backup/more": "store-unreachable",
        "backup/notes": "backup-failed",
    }


def test_a_name_that_is_not_backed_up_raises_no_alert(receiver):
    stack = make_stack(receiver)
    fails(stack, SourceError("no such name"), name="typo")
    assert receiver.seen == []


def test_at_a_desk_nothing_is_sent_unless_it_is_said(receiver, monkeypatch):
    stack = make_stack(receiver, on_machine=False)
    fails(stack, SourceError("gone"))
    succeeds(stack)
    assert receiver.seen == []
    monkeypatch.setenv("ANCLA_NOTIFY", "1")
    fails(stack, SourceError("gone"))
    succeeds(stack)
    assert len(receiver.titles()) == 2
    assert len(receiver.beats()) == 1


def test_what_the_stack_does_not_have_any_more_is_forgotten(receiver):
    fails(make_stack(receiver, sources=("notes", "gone")), SourceError("x"))
    stack = make_stack(receiver)
    succeeds(stack)
    with watching(stack) as watch:
        assert watch.state.alerts == {}


def test_a_disk_that_refuses_and_a_state_that_is_broken_fail_nothing(receiver, monkeypatch, tmp_path, capsys):
    stack = make_stack(receiver)
    home_of(stack).mkdir(parents=True)
    (home_of(stack) / "watch.json").write_text("{")
    succeeds(stack)
    assert "starts with an empty state" in capsys.readouterr().err
    (tmp_path / "file").touch()
    monkeypatch.setenv("ANCLA_STATE", str(tmp_path / "file"))
    monkeypatch.setenv("ANCLA_AUDIT", str(tmp_path / "file" / "audit.jsonl"))
    fails(stack, SourceError("gone"))
    audit.record("x", result="done")
    assert "not in the audit log" in capsys.readouterr().err
    assert len(receiver.titles()) == 1


def test_metrics_are_whole_and_say_what_is_known_only(receiver):
    stack = make_stack(receiver, sources=("notes", "keys"))
    fails(stack, SourceError("gone"), made=[item()])
    file = home_of(stack) / "metrics" / "ancla.prom"
    text = file.read_text()
    labels = 'environment="staging",name="{}",project="shop"'
    assert f"ancla_backup_rows{{{labels.format('notes')}}} 7.0" in text
    assert f"ancla_backup_failures_total{{{labels.format('keys')}}} 1.0" in text
    assert f"ancla_backup_rows{{{labels.format('keys')}}}" not in text
    assert 'alert="backup/keys"' in text
    assert "_created" not in text
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o644, 0o755)
    assert [path.name for path in file.parent.iterdir()] == ["ancla.prom"]


def test_a_backup_that_never_was_is_older_than_any_budget(receiver):
    stack = make_stack(receiver)
    with watching(stack) as watch:
        watch.state.copies = [CopyState(name="notes", store=store, age=age, budget=9) for store, age in AGES.items()]
    text = (home_of(stack) / "metrics" / "ancla.prom").read_text()
    ages = [line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith("ancla_backup_age_seconds{")]
    assert ages == ["7.0", "+Inf"]


def test_a_unit_that_failed_is_told_unless_ops_just_has(receiver, monkeypatch):
    stack = make_stack(receiver)
    monkeypatch.setattr("ops.cli.watch.load_stack", lambda *_: stack)
    fails(stack, SourceError("gone"))
    watch_failed("ancla-backup.service")
    assert len(receiver.titles()) == 1
    succeeds(stack)
    receiver.seen.clear()
    watch_failed("ancla-backup.service")  # killed by the machine's memory, say: ops could tell nothing
    assert "ancla-backup.service failed" in receiver.titles()[0]
    succeeds(stack)
    assert "recovered: ancla-backup.service failed" in receiver.titles()[1]
    watch_failed("ancla-freshness.service")
    assert "docs/runbooks/backup-missing.md" in receiver.seen[-1][2]["message"]


def test_trying_the_addresses_says_which_do_not_work(receiver, monkeypatch, capsys):
    monkeypatch.setattr("ops.cli.watch.load_stack", lambda *_: make_stack(receiver))
    watch_test()
    assert "1 of 1 notifications were accepted; the heartbeat answers" in capsys.readouterr().out
    receiver.status = 500
    with pytest.raises(OpsError, match="not every address works"):
        watch_test()


MAIL = "mailtos://user:c4nary@smtp.example.org"


@pytest.mark.parametrize(
    ("address", "port"),
    [(MAIL, "25, 465 or 587"), (f"{MAIL}:587?to=ops@example.org", "587"), (f"{MAIL}:465", "465"),
     ("mailto://smtp.example.org:25", "25"), (f" {MAIL.upper()}:587", "587")],
)  # fmt: skip
def test_mail_that_cannot_leave_a_droplet_is_named_without_its_address(address, port):
    (warning,) = shut_to_droplets([SecretStr(address)])
    assert f"secrets.notifications[0]: mail by port {port} does not leave a droplet" in warning
    assert "c4nary" not in warning.lower()


def test_addresses_that_leave_a_droplet_are_not_named():
    good = [f"{MAIL}:2525?to=ops@example.org", "slack://a/b/c", "sendgrid://k:from@x.org/to@x.org", "mailtos://[", "x"]
    assert shut_to_droplets([SecretStr(address) for address in good]) == []


def test_trying_the_addresses_warns_of_mail_that_a_droplet_cannot_send(receiver, monkeypatch, capsys):
    stack = make_stack(receiver)
    stack.secrets.notifications.append(SecretStr("mailtos://user:c4nary@127.0.0.1:587"))
    monkeypatch.setattr("ops.cli.watch.load_stack", lambda *_: stack)
    with pytest.raises(OpsError, match="not every address works"):
        watch_test()
    said = " ".join(capsys.readouterr().err.split())
    assert "secrets.notifications[1]: mail by port 587 does not leave a droplet" in said


def test_every_runbook_that_an_alert_names_is_there():
    assert {path.stem for path in Path("docs/runbooks").glob("*.md")} >= RUNBOOKS


def put(store, backup_id, snapshot_at, signer=None, *, whole=True, recipients=()):
    manifest = Manifest(
        id=backup_id,
        name="notes",
        environment="staging",
        project="shop",
        source=SecretsRecord(files=(), fingerprint="0" * 64),
        started_at=snapshot_at,
        snapshot_at=snapshot_at,
        finished_at=snapshot_at,
        objects=(),
        recipients=recipients,
    ).sealed(signer)
    put_manifest(store, manifest)
    if not whole:
        content = manifest.to_bytes().replace(b"staging", b"Staging")
        store.put_bytes(f"notes/{backup_id}/manifest.json", content)


def newest(store, **options):
    (found,) = look(store, ["notes"], budget_hours=26, now=NOW, **{"signer": None} | options)
    return found


def test_freshness_is_of_the_newest_backup_that_can_be_trusted(folder):
    assert not newest(folder).fresh
    assert "no complete backup of notes" in str(newest(folder))
    folder.put_bytes("notes/20261123T020000Z-aaaaaa/part", b"")
    assert not newest(folder).fresh, "without a manifest it is none"
    put(folder, "20261121T030000Z-aaaaaa", NOW - timedelta(hours=48))
    assert (newest(folder).fresh, newest(folder).age) == (False, 48 * 3600)
    put(folder, "20261122T010000Z-aaaaaa", NOW - timedelta(hours=26))
    assert newest(folder).fresh
    assert newest(folder).backup == "20261122T010000Z-aaaaaa"
    put(folder, "20261123T010000Z-bbbbbb", NOW - timedelta(hours=2), whole=False)
    assert newest(folder).backup == "20261122T010000Z-aaaaaa"
    assert "changed after it was written" in newest(folder).passed_over[0]


def test_a_backup_of_the_future_or_of_another_hand_is_not_fresh(folder):
    ours, other = Signer(make_key()), Signer(make_key())
    put(folder, "20271123T010000Z-bbbbbb", NOW + timedelta(days=365), ours)
    assert "dated in the future" in newest(folder).passed_over[0]
    assert not newest(folder).fresh
    put(folder, "20261123T010000Z-aaaaaa", NOW - timedelta(hours=2), other)
    assert newest(folder).fresh
    assert not newest(folder, signer=ours.public).fresh
    assert newest(folder, signer=other.public).fresh


def test_a_backup_that_nobody_of_the_stack_can_decrypt_is_not_fresh(folder):
    """Signed by the environment's own key: whoever has the droplet encrypts for whom they like."""
    ours, wanted = Signer(make_key()), ["age1ours", "age1escrow"]
    asked = {"signer": ours.public, "recipients": wanted}
    put(folder, "20261122T010000Z-aaaaaa", NOW - timedelta(hours=25), ours, recipients=("age1escrow", "age1ours"))
    put(folder, "20261123T010000Z-bbbbbb", NOW - timedelta(hours=2), ours, recipients=("age1theirs",))
    put(folder, "20261123T020000Z-cccccc", NOW - timedelta(hours=1), ours)
    assert newest(folder, **asked).backup == "20261122T010000Z-aaaaaa"
    told = newest(folder, **asked).passed_over
    assert "not encrypted, though backup.recipients" in told[0]
    assert "encrypted for age1theirs, none of which is in backup.recipients" in told[1]
    assert newest(folder, signer=ours.public).backup == "20261123T020000Z-cccccc", "the control"
    assert find(folder, "notes", expected=Expected(**asked)).id == "20261122T010000Z-aaaaaa"


def test_a_folder_is_a_store_for_freshness_too(tmp_path):
    put(FolderStore(tmp_path / "other"), "20261123T010000Z-aaaaaa", NOW - timedelta(hours=2))
    assert newest(FolderStore(tmp_path / "other")).fresh
