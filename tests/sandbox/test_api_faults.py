"""Faults on request, and the journal that says what became of each call."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

import httpx
import pytest

from sandbox.journal import Journal, redact
from sandbox.parts.none import NoParts
from tests.sandbox.conftest import PUBLIC_KEY, TOKEN, Sandbox, running

TAG = {"name": "app"}
HEADERS = {"authorization": f"Bearer {TOKEN}"}


def _fault(sandbox: Sandbox, **rule: Any) -> int:
    answer = sandbox.client.post("/_sandbox/faults", json=rule, headers=HEADERS)
    assert answer.status_code == 201, answer.text
    return answer.json()["fault"]["id"]


def _lift(sandbox: Sandbox) -> None:
    assert sandbox.client.delete("/_sandbox/faults", headers=HEADERS).status_code == 200


def _journal(sandbox: Sandbox, since: int = 0) -> list[dict[str, Any]]:
    return sandbox.client.get(f"/_sandbox/journal?since={since}", headers=HEADERS).json()["calls"]


def _tags(sandbox: Sandbox) -> list[str]:
    return [tag["name"] for tag in sandbox.get("/v2/tags")["tags"]]


def _hang_and_leave(sandbox: Sandbox) -> None:
    """Ask for a tag, get no answer, and go away, though not before the call has come to the one fault there is."""

    def applied() -> int:
        return sandbox.client.get("/_sandbox/faults", headers=HEADERS).json()["faults"][0]["applied"]

    body = json.dumps(TAG)
    head = f"POST /v2/tags HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", httpx.URL(sandbox.url).port)) as client:
        client.sendall(f"{head}{body}".encode())
        sandbox.until(lambda: applied() == 1)
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)


def test_a_status_before_leaves_the_account_as_it_was(sandbox: Sandbox):
    _fault(sandbox, match={"method": "POST", "path": "/v2/tags$"}, do="status", status=429, retry_after=3)
    status, body = sandbox.call("POST", "/v2/tags", TAG)
    assert (status, body["id"], sandbox.headers["retry-after"]) == (429, "too_many_requests", "3")
    assert _tags(sandbox) == []
    entry = _journal(sandbox)[0]
    assert (entry["committed"], entry["status"], entry["fault"]) == (False, None, "status")


def test_a_status_after_the_commit_has_changed_the_account(sandbox: Sandbox):
    body = {"id": "server_error", "message": "Server was unable to give you a response."}
    _fault(
        sandbox, match={"method": "POST", "path": "/v2/tags$"}, when="after_commit", do="status", status=500, body=body
    )
    answer = sandbox.client.post("/v2/tags", json=TAG, headers=HEADERS)
    assert (answer.status_code, answer.json()) == (500, body)
    assert _tags(sandbox) == ["app"]
    entry = _journal(sandbox)[0]
    assert (entry["committed"], entry["status"]) == (True, 201)


@pytest.mark.parametrize("when", ["before", "after_commit"])
def test_a_dropped_connection_gives_no_answer(sandbox: Sandbox, when):
    _fault(sandbox, match={"method": "POST"}, when=when, do="drop")
    with pytest.raises(httpx.RemoteProtocolError):
        sandbox.client.post("/v2/tags", json=TAG, headers=HEADERS)
    assert _tags(sandbox) == (["app"] if when == "after_commit" else [])


@pytest.mark.parametrize("when", ["before", "after_commit"])
def test_a_call_hangs_until_its_client_has_gone(sandbox: Sandbox, when):
    _fault(sandbox, match={"method": "POST"}, when=when, do="hang")
    _hang_and_leave(sandbox)
    if when == "after_commit":
        entry = _journal(sandbox)[0]
        assert (entry["operation"], entry["committed"]) == ("tags_create", True)
        assert _tags(sandbox) == ["app"]


def test_a_call_that_hangs_goes_on_when_the_fault_is_lifted(sandbox: Sandbox):
    _fault(sandbox, match={"method": "POST"}, when="after_commit", do="hang")
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(sandbox.call("POST", "/v2/tags", TAG)[0]))
    thread.start()
    sandbox.until(lambda: len(_journal(sandbox)) == 1)
    _lift(sandbox)
    thread.join(60)
    assert answers == [201]


def test_a_client_that_goes_away_before_leaves_nothing(sandbox: Sandbox):
    """The engine was killed before the cloud did anything: lifting the fault later must not make the object."""
    _fault(sandbox, match={"method": "POST"}, when="before", do="hang")
    _hang_and_leave(sandbox)
    _lift(sandbox)
    sandbox.until(lambda: len(_journal(sandbox)) == 1)
    assert _tags(sandbox) == []


def test_the_nth_call_alone_is_hit(sandbox: Sandbox):
    _fault(sandbox, match={"method": "POST", "nth": 2}, do="status", status=503)
    statuses = [sandbox.call("POST", "/v2/tags", {"name": name})[0] for name in "abc"]
    assert statuses == [201, 503, 201]


def test_chance_is_repeated_by_its_seed(tmp_path):
    def run(seed: int, home: str) -> list[int]:
        with running(tmp_path / home, NoParts()) as sandbox:
            _fault(sandbox, match={"path": "/v2/tags", "probability": 0.5, "seed": seed}, do="status", status=503)
            return [sandbox.call("GET", "/v2/tags")[0] for _ in range(20)]

    first = run(7, "a")
    assert set(first) == {200, 503}
    assert run(7, "b") == first
    assert run(8, "c") != first


def test_a_delay_only_delays(sandbox: Sandbox):
    _fault(sandbox, match={"method": "POST"}, do="delay", seconds=0.05)
    assert sandbox.call("POST", "/v2/tags", TAG)[0] == 201


def test_a_wrong_fault_is_refused(sandbox: Sandbox):
    for rule in ({"do": "explode"}, {"do": "hang", "match": {"verb": "POST"}}, {}):
        assert sandbox.client.post("/_sandbox/faults", json=rule, headers=HEADERS).status_code == 422


# --- the journal -----------------------------------------------------------------------------------------------------


def test_the_journal_names_operations_and_hides_secrets(sandbox: Sandbox):
    secret = "canary-5up3r"
    body = {"name": "w", "size": "s-1vcpu-1gb", "image": "ubuntu-24-04-x64", "region": "nyc3", "user_data": secret}
    sandbox.post("/v2/droplets", body)
    sandbox.post("/v2/account/keys", {"name": "me", "public_key": PUBLIC_KEY})
    slack = [{"channel": "#a", "url": f"https://hooks.slack.com/{secret}"}]
    policy = {
        "alerts": {"email": [], "slack": slack},
        "compare": "GreaterThan",
        "type": "v1/insights/droplet/cpu",
        "value": 1,
        "window": "5m",
    }
    sandbox.post("/v2/monitoring/alerts", policy)
    sandbox.call("POST", "/v2/certificates", {"name": "c", "private_key": secret, "leaf_certificate": "x"})
    first, second, *_ = _journal(sandbox)
    assert (first["operation"], first["template"], first["method"]) == ("droplets_create", "/v2/droplets", "POST")
    assert first["body"]["user_data"] == "[redacted]"
    assert second["body"]["public_key"] == PUBLIC_KEY
    assert secret not in (sandbox.home / "journal.jsonl").read_text()
    assert TOKEN not in (sandbox.home / "journal.jsonl").read_text()


def test_the_journal_hides_what_it_does_not_know(sandbox: Sandbox):
    secret = "canary-5up3r"
    envs = [{"key": "TOKEN", "value": secret, "type": "SECRET"}]
    sandbox.call("POST", "/v2/apps?name=" + secret, {"spec": {"name": secret, "services": [{"envs": envs}]}})
    sandbox.call("POST", "/v2/tags", {"name": "app", "auth_token": secret, "deep": [[secret]], "kubeconfig": secret})
    assert _journal(sandbox)[1]["body"]["name"] == "app"
    assert secret not in (sandbox.home / "journal.jsonl").read_text()


def test_a_long_journal_is_set_aside(tmp_path, monkeypatch):
    monkeypatch.setattr("sandbox.journal.LARGEST", 200)
    journal = Journal(tmp_path / "journal.jsonl")
    for _ in range(20):
        journal.write(method="GET")
    entries = journal.read()
    assert entries[-1]["seq"] == 20
    assert journal.read(since=19) == entries[-1:]
    assert len(entries) < 10
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1000
    journal.close()


def test_only_the_new_lines_of_the_journal_are_read(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "journal.jsonl")
    for _ in range(100):
        journal.write(method="GET")
    parsed: list[bytes] = []
    monkeypatch.setattr("sandbox.journal.json.loads", lambda line: parsed.append(line) or {"seq": 100})
    journal.read(since=99)
    assert len(parsed) == 2
    journal.close()


def test_a_fault_for_a_path_that_is_no_expression_is_refused(sandbox: Sandbox):
    answer = sandbox.client.post("/_sandbox/faults", json={"do": "drop", "match": {"path": "["}}, headers=HEADERS)
    assert (answer.status_code, "regular expression" in answer.text) == (422, True)
    assert sandbox.get("/v2/account")


def test_a_secret_in_the_open_would_be_found():
    """The control of the test above: without redaction the canary is in the line."""
    body = {"user_data": "canary"}
    assert "canary" in json.dumps(body)
    assert "canary" not in json.dumps(redact({"deep": [{"password": "canary", "user_data": "canary"}]}))


def test_the_journal_goes_on_after_a_restart(tmp_path):
    with running(tmp_path, NoParts()) as sandbox:
        sandbox.post("/v2/tags", TAG)
        last = _journal(sandbox)[-1]["seq"]
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"seq": 99, "tor')  # the torn line of a sandbox that was killed
    with running(tmp_path, NoParts()) as sandbox:
        sandbox.delete("/v2/tags/app")
        later = _journal(sandbox, since=last)
        assert [(entry["seq"], entry["method"]) for entry in later] == [(last + 1, "DELETE")]


def test_a_torn_line_does_not_swallow_the_next(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text('{"seq": 1}\n{"seq": 2, "x')
    journal = Journal(path)
    journal.write(method="GET")
    assert [entry["seq"] for entry in journal.read()] == [1, 2]


def test_leaks_name_what_was_left_in_the_account(sandbox: Sandbox):
    def leaks() -> dict[str, list[str]]:
        return sandbox.client.get("/_sandbox/leaks", headers=HEADERS).json()

    assert leaks() == {"parts": [], "objects": []}
    droplet = sandbox.droplet("forgotten")
    sandbox.cluster("lost")
    sandbox.post("/v2/tags", TAG)
    assert leaks()["objects"] == ["database lost", "droplet forgotten", "tag app"]
    sandbox.delete(f"/v2/droplets/{droplet['id']}")
    sandbox.delete("/v2/tags/app")
    sandbox.delete("/v2/databases/" + sandbox.get("/v2/databases")["databases"][0]["id"])
    assert leaks() == {"parts": [], "objects": []}
    world = sandbox.client.get("/_sandbox/world", headers=HEADERS).json()
    assert (world["droplets"], world["databases"]) == ([], [])
