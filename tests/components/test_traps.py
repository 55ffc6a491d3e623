"""Each trap of the provider, and that the environment is not in it."""

from __future__ import annotations

import ast
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pulumi
import pytest
import yaml

from blueprint.fields import Region
from components.host_plan import ROOT
from sandbox import catalog
from tests.components.conftest import CANARY, made_secrets
from tests.components.kit import DEFAULT_OUTPUTS, Recording

# --- the machine -----------------------------------------------------------------------------------------------------


def test_a_change_of_keys_or_user_data_does_not_replace_the_droplet(prod: Recording):
    assert set(prod.one("Droplet", "app-droplet").options.ignoreChanges) == {"sshKeys", "userData"}


def test_a_new_colleague_does_not_touch_the_droplet(prod: Recording, build: Callable[..., Recording]):
    grown = build("prod", {"access": {"sshKeys": {"ana": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE ana"}}})

    before, after = prod.one("Droplet", "app-droplet"), grown.one("Droplet", "app-droplet")
    assert before.inputs == after.inputs
    assert len(after.inputs["sshKeys"]) == 1
    assert "ana" in grown.one("Command", "converge-command").inputs["stdin"]


def test_user_data_is_secret_and_small(prod: Recording):
    droplet = prod.one("Droplet", "app-droplet")

    assert "userData" in droplet.secrets
    assert "userData" in droplet.options.additionalSecretOutputs
    assert len(droplet.inputs["userData"].encode()) < 64 * 1024


def test_the_only_private_key_in_user_data_is_the_bootstrap_host_key(prod: Recording):
    text, secrets = prod.one("Droplet", "app-droplet").inputs["userData"], json.loads(made_secrets())
    config = yaml.safe_load(text)

    assert config["ssh_keys"]["ed25519_private"] == secrets["bootstrapHostKey"]
    for name in ("deployKey", "hostKey"):
        assert secrets[name].split("\n")[2] not in text, name
    assert CANARY not in text


@pytest.mark.parametrize("asked", [False, True])
def test_the_disk_grows_only_where_that_is_asked_for(build: Callable[..., Recording], asked: bool):
    topology = {"growDisk": True} if asked else {}

    assert build("prod", {"topology": topology}).one("Droplet", "app-droplet").inputs["resizeDisk"] is asked


def test_deleting_the_droplet_gets_more_than_a_minute(prod: Recording):
    assert prod.one("Droplet", "app-droplet").options.customTimeouts.delete == "10m"


def test_the_reserved_ip_has_one_owner(prod: Recording):
    assert set(prod.one("ReservedIp").inputs) == {"region"}
    assert prod.one("ReservedIpAssignment").inputs == {"ipAddress": "203.0.113.5", "dropletId": 4711}


@pytest.mark.parametrize(
    ("backups", "policy"),
    [
        ("weekly", {"plan": "weekly", "weekday": "SUN", "hour": 4}),
        ("daily", {"plan": "daily", "hour": 4}),
        ("none", None),
    ],
)
def test_image_backups_name_their_plan(build: Callable[..., Recording], backups: str, policy: dict[str, object] | None):
    droplet = build("staging", {"topology": {"backups": backups}}).one("Droplet", "app-droplet")

    assert droplet.inputs.get("backupPolicy") == policy
    assert droplet.inputs["backups"] is (policy is not None)


# --- the network -----------------------------------------------------------------------------------------------------


def test_the_firewall_is_there_before_the_droplet(prod: Recording):
    droplet, firewall = prod.one("Droplet", "app-droplet"), prod.one("Firewall")

    assert firewall.urn in prod.urns_before(droplet)
    assert prod.one("Tag").urn in prod.urns_before(firewall)


def test_the_firewall_holds_by_tag(prod: Recording):
    firewall = prod.one("Firewall")

    assert firewall.inputs["tags"] == prod.one("Droplet", "app-droplet").inputs["tags"] == ["nextgentech-prod"]
    assert "dropletIds" not in firewall.inputs


def test_exactly_22_80_443_and_ping_come_in(build: Callable[..., Recording]):
    inputs = build("prod", {"access": {"sshSources": ["203.0.113.0/24"]}}).one("Firewall").inputs
    opened = {(rule["protocol"], rule.get("portRange")): rule["sourceAddresses"] for rule in inputs["inboundRules"]}

    everywhere = ["0.0.0.0/0", "::/0"]
    assert opened == {
        ("tcp", "22"): ["203.0.113.0/24"],
        ("tcp", "80"): everywhere,
        ("tcp", "443"): everywhere,
        ("icmp", None): everywhere,
    }


def test_everything_goes_out(prod: Recording):
    """A firewall without outbound rules blocks them all."""
    assert {rule["protocol"] for rule in prod.one("Firewall").inputs["outboundRules"]} == {"tcp", "udp", "icmp"}


def test_the_vpc_is_given_by_id(prod: Recording):
    vpc_id = f"{prod.one('Vpc').name}-id"

    assert prod.one("Droplet", "app-droplet").inputs["vpcUuid"] == vpc_id
    assert prod.one("DatabaseCluster").inputs["privateNetworkUuid"] == vpc_id


# --- the database ----------------------------------------------------------------------------------------------------


def test_one_list_of_trusted_sources_holds_them_all(build: Callable[..., Recording]):
    settings = {"database": {"trustedSources": ["203.0.113.7/32"]}}
    rules = build("prod", settings).one("DatabaseFirewall").inputs["rules"]

    assert rules == [{"type": "tag", "value": "nextgentech-prod"}, {"type": "ip_addr", "value": "203.0.113.7/32"}]


def test_the_cluster_is_closed_before_anything_is_in_it(prod: Recording):
    trusted = prod.one("DatabaseFirewall").urn

    for kind in ("DatabaseDb", "DatabaseUser", "DatabaseConnectionPool"):
        for resource in prod.of_type(kind):
            assert trusted in prod.urns_before(resource), resource.name


def test_nothing_in_a_cluster_is_made_beside_something_else_in_it(build: Callable[..., Recording]):
    """Beside another change of its cluster a new database is not found for a moment, and the provider gives it up."""
    recording = build("prod", {"database": {"databases": ["app", "reports", "billing"]}})
    kinds = ("DatabaseFirewall", "DatabaseDb", "DatabaseUser", "DatabaseConnectionPool")
    inside = [resource for kind in kinds for resource in recording.of_type(kind)]

    assert len(inside) == 6
    for earlier, later in itertools.pairwise(inside):
        assert earlier.urn in recording.urns_before(later), f"{later.name} beside {earlier.name}"


@pytest.mark.parametrize(
    ("kind", "who"), [("databaseCluster:DatabaseCluster", "doadmin"), ("databaseUser:DatabaseUser", "app")]
)
def test_a_token_that_sees_no_passwords_is_told_which_scope_it_lacks(
    build: Callable[..., Recording], kind: str, who: str
):
    """DigitalOcean leaves them empty without an error, and psql on the droplet would be the first to notice."""
    token = f"digitalocean:index/{kind}"
    blind = {token: {**DEFAULT_OUTPUTS[token], "password": ""}}

    with pytest.raises(pulumi.RunError, match=f"no password of {who}: .* the scope database:view_credentials"):
        build("prod", outputs=blind)


def test_removing_the_list_does_not_open_the_cluster(prod: Recording, staging: Recording):
    """Its delete writes an empty list: anybody with the password."""
    for recording in (prod, staging):
        assert recording.one("DatabaseFirewall").options.retainOnDelete


def test_parts_go_with_a_holder_that_can_go(prod: Recording, staging: Recording):
    """One delete instead of one each; but the engine forgets such parts, also where the holder's delete is refused."""
    holders = {"DatabaseUser": "DatabaseCluster", "DnsRecord": "Domain"}
    for kind, holder in holders.items():
        for part in staging.of_type(kind):
            assert f":{holder}::" in part.options.deletedWith, part.name
        assert {part.options.deletedWith for part in prod.of_type(kind)} == {""}, kind


def test_the_cluster_is_updated_when_no_backup_runs(build: Callable[..., Recording]):
    """Without a window DigitalOcean chooses one."""
    for given, window in (({}, ("sunday", "07:00")), ({"day": "monday", "hour": "12:00"}, ("monday", "12:00"))):
        cluster = build("prod", {"database": {"maintenance": given}}).one("DatabaseCluster")
        assert cluster.inputs["maintenanceWindows"] == [dict(zip(("day", "hour"), window, strict=True))]


def test_the_cluster_names_no_project(prod: Recording):
    assert "projectId" not in prod.one("DatabaseCluster").inputs


def test_a_resized_pool_has_another_name(prod: Recording, build: Callable[..., Recording]):
    """Every input replaces a pool, and the new one is made first: under the same name it could not be."""
    resized = build("prod", {"database": {"pools": {"app": {"size": 20}}}})

    before, after = prod.one("DatabaseConnectionPool"), resized.one("DatabaseConnectionPool")
    assert before.inputs["name"] != after.inputs["name"]
    assert not after.options.deleteBeforeReplace
    assert resized.result["database"]["pools"] == {"app": {"name": after.inputs["name"], "database": "app"}}


def test_pools_are_by_name_and_one_more_changes_no_other(prod: Recording, build: Callable[..., Recording]):
    pools = {"slow": {"database": "reports", "mode": "session", "size": 3}, "app": {}}
    grown = build("prod", {"database": {"databases": ["app", "reports"], "pools": pools}})

    assert {pool.name for pool in grown.of_type("DatabaseConnectionPool")} == {
        "nextgentech-prod-database-pool-app",
        "nextgentech-prod-database-pool-slow",
    }
    assert grown.one("DatabaseConnectionPool", "pool-app").inputs == prod.one("DatabaseConnectionPool").inputs
    slow = grown.one("DatabaseConnectionPool", "pool-slow").inputs
    assert (slow["dbName"], slow["mode"], slow["size"]) == ("reports", "session", 3)


def test_a_pool_of_another_database_or_user_has_another_name(build: Callable[..., Recording]):
    names = {
        build("prod", {"database": change}).one("DatabaseConnectionPool").inputs["name"]
        for change in (
            {},
            {"user": "shop"},
            {"databases": ["shop"]},
            {"pools": {"app": {"mode": "session"}}},
            {"pools": {"main": {}}},
        )
    }
    assert len(names) == 5
    assert all(3 <= len(name) <= 60 for name in names), "what DigitalOcean takes"


def test_the_disk_of_a_cluster_is_in_mib(prod: Recording, build: Callable[..., Recording]):
    assert "storageSizeMib" not in prod.one("DatabaseCluster").inputs
    grown = build("prod", {"database": {"storage": "80G"}}).one("DatabaseCluster")
    assert grown.inputs["storageSizeMib"] == "81920"


def test_extensions_are_created_where_the_schema_is_granted(build: Callable[..., Recording]):
    recording = build("prod", {"database": {"databases": ["app", "reports"], "extensions": ["vector", "pg_trgm"]}})

    document = json.loads(recording.one("Command", "grants-command").inputs["stdin"])
    assert document["database"]["databases"] == ["app", "reports"]
    assert document["database"]["extensions"] == ["vector", "pg_trgm"]


def test_the_schema_is_granted_after_psql_is_there_and_the_user_exists(prod: Recording):
    before = prod.urns_before(prod.one("Command", "grants"))

    assert {
        prod.one("Command", "converge-command").urn,
        prod.one("DatabaseUser").urn,
        prod.one("DatabaseDb").urn,
    } <= before


def test_passwords_are_secret_wherever_they_go(prod: Recording):
    for command in prod.of_type("Command"):
        assert "stdin" in command.secrets or "stdin" not in command.inputs, command.name
        for key, value in command.inputs.items():
            text = json.dumps(value)
            assert key == "stdin" or not any(word in text for word in ("password", "OPENSSH", CANARY, "spaces-secret"))


# --- buckets, CDN ----------------------------------------------------------------------------------------------------


def test_buckets_are_private_and_their_keys_are_for_one_bucket(prod: Recording):
    buckets = {bucket.inputs["name"] for bucket in prod.of_type("SpacesBucket")}

    assert {bucket.inputs["acl"] for bucket in prod.of_type("SpacesBucket")} == {"private"}
    assert {key.inputs["grants"][0]["bucket"] for key in prod.of_type("SpacesKey")} == buckets
    assert all(
        [grant["permission"] for grant in key.inputs["grants"]] == ["readwrite"] for key in prod.of_type("SpacesKey")
    )


def test_no_bucket_has_both_a_policy_and_a_limited_key(prod: Recording, staging: Recording):
    """DigitalOcean refuses whichever of the two comes second, and they are made at once."""
    for recording in (prod, staging):
        limited = {grant["bucket"] for key in recording.of_type("SpacesKey") for grant in key.inputs["grants"]}
        assert limited
        assert not limited & {policy.inputs["bucket"] for policy in recording.of_type("SpacesBucketPolicy")}


def test_cors_has_one_owner(prod: Recording):
    assert all("corsRules" not in bucket.inputs for bucket in prod.of_type("SpacesBucket"))
    assert (
        prod.one("SpacesBucketCorsConfiguration").inputs["corsRules"][0]["allowedOrigins"][0]
        == "https://nextgentech.mx"
    )


def test_lifecycle_rules_have_ids_of_their_own(build: Callable[..., Recording]):
    rules = {"lifecycle": [{"prefix": "tmp/", "expire": "3d"}, {"abortUploads": "2d"}]}
    bucket = build("staging", {"buckets": {"assets": {"bucket": "files"} | rules}}).one(
        "SpacesBucket", "-bucket-assets"
    )

    assert [rule["id"] for rule in bucket.inputs["lifecycleRules"]] == ["rule-1", "rule-2"]
    assert bucket.inputs["lifecycleRules"][0]["expiration"] == {"days": 3}
    assert [rule["abortIncompleteMultipartUploadDays"] for rule in bucket.inputs["lifecycleRules"]] == [1, 2]


def test_every_bucket_of_the_app_has_a_key_of_its_own_and_its_outputs_by_name(prod: Recording):
    outputs, secrets = prod.result["buckets"], prod.result["secrets"]

    assert outputs.keys() == secrets["bucket_keys"].keys() == {"assets", "uploads"}
    assert {name: output["public"] for name, output in outputs.items()} == {"assets": True, "uploads": False}
    assert {name: output["bucket"]["name"] for name, output in outputs.items()} == {
        "assets": "nextgentech-assets",
        "uploads": "nextgentech-uploads",
    }
    assert prod.one("SpacesKey", "bucket-uploads").inputs["grants"][0]["bucket"] == "nextgentech-uploads"


def test_only_a_public_bucket_with_a_cdn_is_behind_one(prod: Recording):
    assert prod.one("Cdn").name == "nextgentech-prod-bucket-assets-cdn"
    assert prod.result["buckets"]["assets"]["url"] == "https://bucket.nyc3.cdn.digitaloceanspaces.com"
    assert prod.result["buckets"]["uploads"]["url"] == "https://nextgentech-uploads.nyc3.digitaloceanspaces.com"
    assert prod.result["buckets"]["uploads"]["cdn_id"] is None


def test_one_more_bucket_changes_no_other(prod: Recording, build: Callable[..., Recording]):
    grown = build("prod", {"buckets": {"logs": {"bucket": "nextgentech-logs"}}})

    before = {item.urn: item.inputs for item in prod.resources if "-bucket-" in item.name}
    after = {item.urn: item.inputs for item in grown.resources if "-bucket-" in item.name}
    assert {urn: inputs for urn, inputs in after.items() if "-bucket-logs" not in urn} == before
    assert len(after) > len(before)


def test_the_host_of_a_cdn_is_not_in_effect_yet(prod: Recording):
    assert set(prod.one("Cdn").inputs) == {"origin", "ttl"}
    assert not [record for record in prod.of_type("DnsRecord") if record.inputs["type"] == "CNAME"]


# --- names -----------------------------------------------------------------------------------------------------------


def test_the_zone_makes_no_record_of_its_own(prod: Recording):
    assert set(prod.one("Domain").inputs) == {"name"}


def test_record_names_are_relative_and_their_targets_absolute(build: Callable[..., Recording]):
    records = [
        {"type": "MX", "name": "@", "value": "mail.example.org", "priority": 10},
        {"type": "CNAME", "name": "docs.nextgentech.mx", "value": "pages.example.org."},
        {"type": "SRV", "name": "_sip._tcp", "value": "sip.example.org", "priority": 1, "weight": 1, "port": 5060},
        {"type": "NS", "name": "staging", "value": "ns1.digitalocean.com"},
        {"type": "CAA", "name": "@", "value": "mailto:ops@example.org", "flags": 0, "tag": "iodef"},
        {"type": "TXT", "name": "@", "value": "a"},
        {"type": "TXT", "name": "@", "value": "b"},
    ]
    labelled = {f"record-{number}": record for number, record in enumerate(records)}
    made = {
        item.name.partition("-dns-")[2]: item.inputs
        for item in build("prod", {"edge": {"dns": {"records": labelled}}}).of_type("DnsRecord")
    }

    assert made["mx-apex-mail.example.org"]["value"] == "mail.example.org."
    assert (made["host-docs"]["name"], made["host-docs"]["value"]) == ("docs", "pages.example.org.")
    assert next(item["value"] for key, item in made.items() if key.startswith("srv-_sip._tcp-")) == "sip.example.org."
    assert made["ns-staging-ns1.digitalocean.com"]["value"] == "ns1.digitalocean.com."
    authorities = {item["tag"]: item["value"] for item in made.values() if item["type"] == "CAA"}
    assert authorities == {"issue": "letsencrypt.org.", "iodef": "mailto:ops@example.org"}, "an address is no name"
    assert sorted(item["value"] for item in made.values() if item["type"] == "TXT") == ["a", "b"]
    assert [made[key]["name"] for key in ("host-apex", "host-www")] == ["@", "www"]


def test_without_management_there_is_no_zone(build: Callable[..., Recording]):
    recording = build("staging", {"edge": {"dns": {"manage": False}}})

    assert not recording.of_type("Domain")
    assert not recording.of_type("DnsRecord")


# --- project, registry, monitoring -----------------------------------------------------------------------------------


def test_the_project_claims_only_what_is_listed(prod: Recording):
    assert "resources" not in prod.one("Project", "project-project").inputs
    assert prod.one("ProjectResources").inputs["resources"] == [
        "do:droplet:4711",
        "do:dbaas:c1",
        "do:space:nextgentech-assets",
        "do:space:nextgentech-uploads",
        "do:space:nextgentech-backups",
        "do:domain:example.org",
    ]


def test_the_reserved_ip_is_not_listed_in_the_project(prod: Recording):
    """The API lists it under another URN than the provider's: a difference at every preview."""
    assert not [urn for urn in prod.one("ProjectResources").inputs["resources"] if "ip" in urn.split(":")[1]]


@pytest.mark.parametrize("region", list(Region))
def test_the_registry_is_where_registries_are(build: Callable[..., Recording], region: Region):
    own = {"registry": {"shared": False}}
    inputs = build("staging", {"region": region.value} | own).one("ContainerRegistries").inputs

    assert inputs.get("region", "nyc3") in catalog.REGISTRY_REGIONS
    if region.value in catalog.REGISTRY_REGIONS:
        assert inputs["region"] == region.value


def test_the_registry_may_be_somewhere_else(build: Callable[..., Recording]):
    registry = {"name": "images", "region": "fra1", "shared": False}
    assert build("staging", {"registry": registry}).one("ContainerRegistries").inputs["region"] == "fra1"


def test_no_registry_login_is_a_resource(prod: Recording):
    assert not [item for item in prod.resources if "DockerCredentials" in item.type]


def test_a_shared_registry_is_no_resource_of_a_stack(prod: Recording, staging: Recording):
    """Two stacks would make it, and the first to go would take it along."""
    for recording in (prod, staging):
        assert not recording.of_type("ContainerRegistries")
        command = recording.one("Command", "images-shared").inputs
        wanted = {"endpoint": "http://127.0.0.1:8470", "name": "nextgentech", "tier": "basic", "region": "nyc3"}
        assert json.loads(command["create"]) == wanted
        assert json.loads(command["delete"]) == {"name": "nextgentech", "stays": True}
        assert recording.result["registry"] == {
            "name": "nextgentech",
            "endpoint": "registry.digitalocean.com/nextgentech",
        }


def test_a_registry_of_its_own_is_protected_where_data_is(build: Callable[..., Recording]):
    for stack, protected in (("prod", True), ("staging", False)):
        registry = build(stack, {"registry": {"shared": False}}).one("ContainerRegistries")
        assert registry.options.protect is protected


def test_alerts_hold_for_five_minutes(prod: Recording):
    alerts = {alert.inputs["type"].rpartition("/")[2]: alert.inputs for alert in prod.of_type("MonitorAlert")}

    assert {key: alert["value"] for key, alert in alerts.items()} == {
        "cpu": 70,
        "memory_utilization_percent": 80,
        "disk_utilization_percent": 80,
    }
    assert {alert["window"] for alert in alerts.values()} == {"5m"}
    assert all(alert["tags"] == ["nextgentech-prod"] for alert in alerts.values())


def test_without_a_channel_there_is_no_alert(build: Callable[..., Recording]):
    """The provider crashes on an alert without one; a check still says in the console whether the site is up."""
    recording = build("staging", {"monitoring": {"emails": []}})

    assert not recording.of_type("MonitorAlert")
    assert not recording.of_type("UptimeAlert")
    assert recording.one("UptimeCheck").inputs["target"] == "http://staging.nextgentech.mx/health"


def test_the_slack_address_is_secret(build: Callable[..., Recording]):
    secrets = {**json.loads(made_secrets()), "slackWebhook": f"https://hooks.example.org/{CANARY}"}
    recording = build("staging", {"monitoring": {"slack": {"channel": "#ops"}}, "secrets": secrets})

    for alert in [*recording.of_type("MonitorAlert"), *recording.of_type("UptimeAlert")]:
        assert CANARY in json.dumps(alert.inputs)
        assert {"alerts", "notifications"} & alert.secrets, alert.name


# --- commands on machines --------------------------------------------------------------------------------------------


def test_no_path_of_this_computer_is_in_a_command(prod: Recording):
    for command in prod.of_type("Command"):
        text = json.dumps({key: value for key, value in command.inputs.items() if key != "stdin"})
        assert str(ROOT) not in text
        assert str(Path.home()) not in text


def test_a_replaced_droplet_is_converged_again(prod: Recording):
    """Its address stays (the reserved IP), so nothing but its id tells."""
    assert prod.one("Command", "first-contact").inputs["triggers"] == ["4711"]
    for name in ("converge-command", "-ops-command"):
        assert prod.one("Command", name).inputs["triggers"][0] == "4711"


def test_a_changed_secret_shows_as_a_keyed_hash_and_never_as_itself(build: Callable[..., Recording]):
    def triggers(value: str) -> list[str]:
        secrets = {**json.loads(made_secrets()), "app": {"JWT_PRIVATE_KEY": value}}
        return build("staging", {"secrets": secrets}).one("Command", "-ops-command").inputs["triggers"]

    one, same, other = triggers("one"), triggers("one"), triggers("other")

    assert one == same
    assert one != other
    assert "one" not in json.dumps(one).replace("none", "")


def test_a_changed_secret_does_not_converge_the_machine(build: Callable[..., Recording], prod: Recording):
    """Its document has no secret but the deploy key, and nothing that DigitalOcean only tells after a creation."""
    stdin = prod.one("Command", "converge-command").inputs["stdin"]
    assert CANARY not in stdin
    assert json.loads(stdin).keys() == {"address", "port", "user", "deploy_key", "host_key", "machine"}
    triggers = prod.one("Command", "converge-command").inputs["triggers"]
    assert (
        build("prod", {"access": {"sshSources": ["203.0.113.0/24"]}})
        .one("Command", "converge-command")
        .inputs["triggers"]
        != triggers
    )


def test_ops_is_installed_after_the_packages_it_needs(prod: Recording):
    before = prod.urns_before(prod.one("Command", "-ops-command"))
    assert prod.one("Command", "converge-command").urn in before


def test_the_last_run_is_not_handed_to_the_next(prod: Recording):
    assert {command.inputs["addPreviousOutputInEnv"] for command in prod.of_type("Command")} == {False}


def test_a_command_whose_host_is_gone_has_nothing_to_delete(prod: Recording):
    assert all("delete" not in command.inputs for command in prod.of_type("Command") if "stdin" in command.inputs)


def test_first_contact_pins_the_bootstrap_key_and_everything_later_the_final_one(prod: Recording):
    documents = {
        item.name.rpartition("-command")[0].removeprefix("nextgentech-prod-"): json.loads(item.inputs["stdin"])
        for item in prod.of_type("Command")
        if "stdin" in item.inputs
    }

    assert documents.keys() == {"app-first-contact", "app-converge", "ops", "grants"}
    final = prod.result["access"]["host_key"]
    assert {document["host_key"] for document in documents.values()} == {final}
    assert documents["app-first-contact"]["bootstrap_host_key"] not in ("", final)
    assert all("host_key_private" not in documents[name] for name in ("app-converge", "ops", "grants"))


def test_a_machine_gets_no_deploy_key_in_its_files(prod: Recording):
    document = json.loads(prod.one("Command", "-ops-command").inputs["stdin"])

    assert document["outputs"]["secrets"] == {"file": "/etc/ancla/secrets.json"}
    assert "deploy_key" not in document["secrets"]
    assert document["secrets"]["app"] == {"JWT_PRIVATE_KEY": CANARY}


def test_no_output_is_put_into_a_text_by_formatting():
    """An Output in an f-string is its address, and another one at every run."""
    for path in sorted((ROOT / "components").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FormattedValue):
                text = ast.unparse(node.value)
                assert not text.endswith((".id", ".urn", ".address", ".endpoint")) or path.name == "guard.py", (
                    f"{path.name}: {text}"
                )
