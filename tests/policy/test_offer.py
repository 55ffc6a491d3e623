"""The table of prices compared with an account: the sandbox's offer, and one that differs."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from blueprint.sizes import APP_SIZES
from policy.cli import app
from policy.offer import compare
from sandbox.parts.none import NoParts
from tests.sandbox.conftest import TOKEN, Sandbox, running

run = CliRunner()
APPS = {"instance_sizes": [{"slug": slug, "usd_per_month": f"{size.monthly:.2f}"} for slug, size in APP_SIZES.items()]}


@pytest.fixture
def cloud(tmp_path: Path) -> Generator[Sandbox]:
    with running(tmp_path, NoParts()) as sandbox:
        yield sandbox


def documents(cloud: Sandbox) -> dict[str, Any]:
    paths = ("/v2/sizes?per_page=200", "/v2/databases/options", "/v2/registry/options")
    return {**{path: cloud.get(path) for path in paths}, "/v2/apps/tiers/instance_sizes": APPS}


def test_the_command_asks_an_account(cloud: Sandbox, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", TOKEN)
    monkeypatch.setenv("DIGITALOCEAN_API_URL", cloud.url)

    result = run.invoke(app, ["prices"])

    assert (result.exit_code, result.stdout) == (0, "")
    assert "not answered: GET /v2/apps/tiers/instance_sizes" in result.stderr, "the sandbox has no App Platform"
    assert "compare by hand: database: https://" in result.stderr


def test_what_agrees_is_no_difference(cloud: Sandbox):
    offer = compare(documents(cloud).get)

    assert (offer.differences, offer.unanswered) == ((), ())


def test_each_difference_is_a_line(cloud: Sandbox):
    changed = documents(cloud)
    sizes = changed["/v2/sizes?per_page=200"]["sizes"]
    next(size for size in sizes if size["slug"] == "s-1vcpu-1gb")["price_monthly"] = 7
    sizes.remove(next(size for size in sizes if size["slug"] == "c-2"))
    for layout in changed["/v2/databases/options"]["options"]["pg"]["layouts"]:
        layout["sizes"].remove("db-s-4vcpu-8gb")
    changed["/v2/registry/options"]["options"]["subscription_tiers"][1]["monthly_price_in_cents"] = 600
    changed["/v2/apps/tiers/instance_sizes"] = {"instance_sizes": APPS["instance_sizes"][1:]}

    assert compare(changed.get).differences == (
        "droplet s-1vcpu-1gb: monthly is 7, and 6 here",
        "droplet c-2: is not offered",
        "database pg db-s-4vcpu-8gb: is not offered",
        "registry basic: monthly is 6.0, and 5.0 here",
        "app apps-s-1vcpu-0.5gb: is not offered",
    )


@pytest.mark.parametrize(("token", "says"), [("", "DIGITALOCEAN_TOKEN is not set"), ("wrong", "401")])
def test_an_account_that_cannot_be_asked_ends_with_2(
    cloud: Sandbox, monkeypatch: pytest.MonkeyPatch, token: str, says: str
):
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", token)
    monkeypatch.setenv("DIGITALOCEAN_API_URL", cloud.url)

    result = run.invoke(app, ["prices"])

    assert result.exit_code == 2
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_an_api_that_does_not_answer_ends_with_2(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", "any")
    monkeypatch.setenv("DIGITALOCEAN_API_URL", "http://127.0.0.1:1")

    result = run.invoke(app, ["prices"])

    assert result.exit_code == 2
    assert result.stderr.startswith("error: http://127.0.0.1:1: ")
