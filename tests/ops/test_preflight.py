"""What would stop the first `pulumi up` is said by `ops stack init`, asked of the sandbox's own API."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from blueprint.pulumi_config import load_stack_file
from ops.cli.app import app
from ops.core.errors import CloudError, StackError
from ops.stack import preflight as asking
from ops.stack.cloud import Cloud
from ops.stack.init import init_stack
from ops.stack.preflight import ensure_default_vpc, preflight
from sandbox.api.scopes import narrow_token
from sandbox.parts.none import NoParts
from tests.ops.test_stack_init import Engine
from tests.sandbox.conftest import TOKEN, running

ROOT = Path(__file__).resolve().parents[2]
STAGING = load_stack_file(ROOT / "Pulumi.staging.yaml", environ={})


@pytest.fixture
def sandbox(tmp_path):
    with running(tmp_path / "home", NoParts()) as made:
        yield made


@pytest.fixture
def buckets(monkeypatch):
    """Whose the buckets are: True ours, False nobody's, a text somebody else's."""
    owners = {}

    def ask(name, region):
        assert region == "nyc3"
        if isinstance(owner := owners.get(name, False), str):
            raise CloudError(owner)
        return owner

    monkeypatch.setattr(asking, "bucket_is_ours", ask)
    return owners


@pytest.fixture
def cloud(sandbox, buckets):
    return Cloud(TOKEN, sandbox.url)


def test_a_fresh_account_gets_its_default_vpc_once(cloud, sandbox):
    found = preflight(cloud, STAGING)
    assert found.problems == []
    (vpc,) = sandbox.get("/v2/vpcs")["vpcs"]
    assert (vpc["name"], vpc["region"], vpc["default"]) == ("default-nyc3", "nyc3", True)
    assert found.made[0].startswith("VPC default-nyc3")
    assert preflight(cloud, STAGING).made == []
    assert ensure_default_vpc(cloud, "fra1"), "each region has its own"
    environment = sandbox.post("/v2/vpcs", {"name": "nextgentech-staging", "region": "nyc3"})["vpc"]
    sandbox.delete(f"/v2/vpcs/{environment['id']}")


def test_a_token_of_custom_scopes_is_told_what_it_lacks(cloud, sandbox):
    blind = Cloud(narrow_token(TOKEN), sandbox.url)
    (keys,) = preflight(blind, STAGING).problems
    assert "spaces_key:create_credentials" in keys
    sandbox.cluster("orders")
    assert preflight(cloud, STAGING).problems == []
    passwords, keys = preflight(blind, STAGING).problems
    assert "no password of orders: it lacks the scope database:view_credentials" in passwords


def test_names_of_others_are_found_before_anything_is_made(cloud, sandbox, buckets):
    sandbox.send("PATCH", "/_sandbox/switches", {"foreign_registries": [STAGING.registry.name]})
    buckets["nextgentech-staging-assets"] = "bucket nextgentech-staging-assets: 403; another account may own the name"
    buckets["nextgentech-staging-backups"] = True
    registry, bucket = preflight(cloud, STAGING).problems
    assert registry == "registry.name: nextgentech cannot be had (another account has it); choose another name"
    assert bucket == buckets["nextgentech-staging-assets"]


def test_the_own_registry_is_no_problem(cloud, sandbox):
    body = {"name": STAGING.registry.name, "subscription_tier_slug": "professional", "region": "nyc3"}
    sandbox.post("/v2/registries", body)
    assert preflight(cloud, STAGING).problems == []


def test_a_second_registry_needs_the_tier_that_has_several(cloud, sandbox):
    sandbox.post("/v2/registries", {"name": "older", "subscription_tier_slug": "basic", "region": "nyc3"})
    (problem,) = preflight(cloud, STAGING).problems
    assert problem.startswith("registry: the account has older, and of the tier basic it has one registry; ")
    several = STAGING.registry.model_copy(update={"tier": "professional"})
    assert preflight(cloud, STAGING.model_copy(update={"registry": several})).problems == []


def test_a_major_that_is_no_longer_sold_is_named(cloud, monkeypatch):
    options = {"options": {"pg": {"versions": ["16", "17"], "regions": ["nyc3"], "layouts": []}}}
    get = Cloud.get
    monkeypatch.setattr(Cloud, "get", lambda self, path: options if path.endswith("options") else get(self, path))
    assert preflight(cloud, STAGING).problems == [
        "database.version: DigitalOcean sells no PostgreSQL of 15 today; it has 16, 17"
    ]


def test_addresses_beside_the_owners_are_a_note(cloud):
    (note,) = preflight(cloud, STAGING).notes
    assert note.startswith("monitoring.emails: ops@nextgentech.mx: must each be a verified member of the team")


def test_init_asks_the_account_for_what_the_stack_file_wants(cloud):
    report = init_stack("staging", cloud, Engine(), settings=STAGING)
    assert any(name.startswith("VPC default-nyc3") for name in report.made)
    assert "what would stop its `pulumi up` was not asked" in init_stack("staging", cloud, Engine()).notes[-1]


def test_problems_end_the_command(sandbox, buckets, monkeypatch, tmp_path):
    buckets["nextgentech-staging-assets"] = "bucket nextgentech-staging-assets: 403; another account may own the name"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Pulumi.staging.yaml").write_text((ROOT / "Pulumi.staging.yaml").read_text())
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", TOKEN)
    monkeypatch.setenv("DIGITALOCEAN_API_URL", sandbox.url)
    engine = Engine()
    monkeypatch.setattr("ops.cli.stack.init_stack", lambda *args, **more: init_stack(*args, engine, **more))
    done = CliRunner().invoke(app, ["stack", "init", "--stack", "staging", "--json"])
    assert isinstance(done.exception, StackError)
    assert json.loads(done.stdout)["problems"] == [buckets["nextgentech-staging-assets"]]
    assert "would stop at 1 of these" in str(done.exception)
