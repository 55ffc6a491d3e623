"""`make up`: the app answers, and doing it again changes nothing."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
from typing import Any

import httpx
import pytest

from tests.engine.kit import MUTATING
from tests.hosts.staging import Staging
from tools.environment import ROOT

pytestmark = [pytest.mark.hosts, pytest.mark.containers, pytest.mark.engine]


def mutating_calls(staging: Staging) -> list[str]:
    journal = staging.api("GET", "/_sandbox/journal")["calls"]
    return [f"{call['method']} {call['path']}" for call in journal if call["method"] in MUTATING]


def test_up_ends_with_an_address_whose_page_shows_rows_of_the_database(staging: Staging) -> None:
    address = re.findall(r"^http://\S+$", staging.transcript, re.MULTILINE)[0]

    page = httpx.get(address, trust_env=False, timeout=60).text

    rows = json.loads(httpx.get(f"{address}api/visits", trust_env=False, timeout=60).text)
    assert rows["visits"], "the app has rows to show"
    for row in rows["visits"]:
        assert row["visitor"] in page
    assert "1.0.0" in page


def test_the_asset_on_the_page_is_served_by_the_cdn(staging: Staging) -> None:
    work, outputs = staging.work, staging.outputs
    assets = outputs.buckets["assets"]
    trust = ssl.create_default_context(cafile=work.environment["SSL_CERT_FILE"])
    with httpx.Client(proxy=work.environment["HTTPS_PROXY"], verify=trust, timeout=60) as client:
        assert client.get(f"{assets.url}/logo.svg").content == (ROOT / "examples/assets/logo.svg").read_bytes()
        assert client.get(f"{assets.url}/no-such-object").status_code in (403, 404)
        assert client.put(f"{assets.url}/intruder", content=b"x").status_code in (403, 405)


def test_a_second_up_changes_nothing(staging: Staging) -> None:
    before = mutating_calls(staging)
    started = staging.on_droplet("docker ps --format '{{.ID}} {{.CreatedAt}}'")

    done = staging.verb("--stack", "staging", "up")

    assert done.returncode == 0, done.stdout
    assert mutating_calls(staging) == before
    assert staging.on_droplet("docker ps --format '{{.ID}} {{.CreatedAt}}'") == started
    assert "unchanged" in done.stdout


@pytest.mark.long
def test_preview_and_refresh_expect_no_changes(staging: Staging) -> None:
    staging.pulumi("preview", "--expect-no-changes")
    staging.pulumi("refresh", "--yes", "--expect-no-changes")
    staging.pulumi("preview", "--expect-no-changes")


def test_preview_lists_resources_with_their_monthly_cost_and_the_policy(staging: Staging) -> None:
    done = staging.verb("--stack", "staging", "preview")
    assert done.returncode == 0, done.stdout
    for word in ("Droplet", "24.00", "DatabaseCluster", "15.00", "44.00 of 80.00", "rules hold"):
        assert word.lower() in done.stdout.lower(), f"{word} in\n{done.stdout}"


@pytest.mark.long
@pytest.mark.parametrize(("name", "operations"), [("-converge-", 10), ("-ops-", 6)])
def test_a_second_bootstrap_reports_no_change(staging: Staging, name: str, operations: int) -> None:
    def command() -> dict[str, Any]:
        state = json.loads(staging.pulumi("stack", "export").stdout)["deployment"]["resources"]
        return next(r for r in state if r["type"] == "command:local:Command" and name in r["urn"].split("::")[-1])

    urn = command()["urn"]
    staging.pulumi("up", "--yes", "--skip-preview", "--target", urn, "--replace", urn)

    said = json.loads(command()["outputs"]["stdout"])
    assert said["operations"] > operations
    assert said["changed"] == 0, said


def test_the_checkout_is_as_clean_as_before(staging: Staging) -> None:
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--ignored=no"], cwd=ROOT, text=True, check=True, capture_output=True
    ).stdout
    assert ".sandbox" not in changed
    assert "Pulumi." not in changed
