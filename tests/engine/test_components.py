"""The example of the components, with the real engine in a folder of its own: made, changed, refreshed, destroyed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from tests.engine.kit import MUTATING, ROOT, BareCloud

pytestmark = pytest.mark.engine
DOMAIN = "components.example.org"
TRANSFORM = """
def tagged(args):
    if args.type_ == "digitalocean:index/droplet:Droplet":
        return pulumi.ResourceTransformResult({**args.props, "tags": ["own"]}, args.opts)
    return None

opts = pulumi.ResourceOptions(transforms=[tagged])
"""
BROUGHT = """
import os
import pulumi
from components import (
    AssetBucketWithCDN, AssetBucketWithCDNArgs, DnsZone, DnsZoneArgs, ManagedDatabase, ManagedDatabaseArgs
)

cluster = os.environ["CLUSTER"]
database = ManagedDatabase("db", ManagedDatabaseArgs(region="nyc3", cluster_id=cluster, databases=["shop"]))
zone = DnsZone("zone", DnsZoneArgs(domain="mine.example.org", create=False, names={"www": "203.0.113.9"}))
bucket = AssetBucketWithCDN("assets", AssetBucketWithCDNArgs(region="nyc3", bucket="mine-assets", create=False))
pulumi.export("host", database.host)
pulumi.export("url", bucket.url)
"""


@pytest.fixture
def example(tmp_path: Path) -> Iterator[BareCloud]:
    bare = BareCloud(tmp_path / "world", "dev", program=ROOT / "examples" / "components")
    bare.pulumi("config", "set", "domain", DOMAIN)
    yield bare
    bare.close()


def outputs(cloud: BareCloud) -> dict[str, str]:
    return json.loads(cloud.pulumi("stack", "output", "--json", "--show-secrets").stdout)


def change(cloud: BareCloud, before: str, after: str) -> None:
    program = cloud.project / "__main__.py"
    text = program.read_text()
    assert text.count(before) == 1
    program.write_text(text.replace(before, after))


@pytest.mark.long
def test_the_example_is_made_changed_and_destroyed(example: BareCloud) -> None:
    example.pulumi("preview")
    example.up()
    first = outputs(example)
    example.pulumi("preview", "--expect-no-changes")
    example.pulumi("refresh", "--yes", "--expect-no-changes")
    assert first["assets"] == f"https://assets.{DOMAIN}"
    assert "PRIVATE KEY" in first["deploy_key"]
    state = example.pulumi("stack", "export").stdout
    assert "PRIVATE KEY" not in state, "made keys are secrets of the state"
    assert str(example.home) not in state.replace(example.api, ""), "no path of this computer"

    change(example, '"www": app.address', '"www": app.address, "api": app.address')
    change(example, "AppDropletArgs(region=region", 'AppDropletArgs(region=region, size="s-1vcpu-2gb"')
    change(example, 'size="s-1vcpu-2gb")', 'size="s-1vcpu-2gb"), opts')
    change(example, "app = AppDroplet(", f"{TRANSFORM}\napp = AppDroplet(")
    before = len(example.journal())
    example.up()
    changed = [(call["method"], call["template"]) for call in example.journal()[before:] if call["method"] in MUTATING]
    assert ("POST", "/v2/domains/{domain_name}/records") in changed
    assert not [call for call in changed if call[0] == "DELETE"]
    assert outputs(example) == first, "keys and addresses stay"
    (droplet,) = example.get("/v2/droplets")["droplets"]
    assert droplet["tags"] == ["own"], "the caller's transform met it"

    example.pulumi("destroy", "--yes", "--skip-preview")
    assert example.leaks() == ["tag own"], "a tag that is only named on a droplet is nobody's resource"


@pytest.mark.long
def test_what_is_there_already_is_used_and_left_alone(example: BareCloud) -> None:
    cluster = {
        "name": "mine",
        "engine": "pg",
        "version": "17",
        "region": "nyc3",
        "size": "db-s-1vcpu-1gb",
        "num_nodes": 1,
    }
    made = example.post("/v2/databases", cluster)["database"]
    example.post("/v2/domains", {"name": "mine.example.org"})
    spaces = boto3.client(
        "s3", endpoint_url=example.spaces, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    spaces.create_bucket(Bucket="mine-assets")
    example.environment["CLUSTER"] = made["id"]
    (example.project / "__main__.py").write_text(BROUGHT)

    example.up()
    example.pulumi("preview", "--expect-no-changes")
    said = outputs(example)
    assert said["host"] == example.get(f"/v2/databases/{made['id']}")["database"]["connection"]["host"]
    assert said["url"].startswith("https://mine-assets.nyc3.cdn.")
    assert "shop" in {item["name"] for item in example.get(f"/v2/databases/{made['id']}/dbs")["dbs"]}

    example.pulumi("destroy", "--yes", "--skip-preview")
    assert example.get(f"/v2/databases/{made['id']}")
    assert [item["name"] for item in example.get("/v2/domains")["domains"]] == ["mine.example.org"]
    records = example.get("/v2/domains/mine.example.org/records")["domain_records"]
    assert "www" not in {record["name"] for record in records}
    assert [item["Name"] for item in spaces.list_buckets()["Buckets"]] == ["mine-assets"]
