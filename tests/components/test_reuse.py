"""The four components in a program of somebody else: few arguments, what is brought along, and the caller's options."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Callable
from typing import Any

import pulumi
import pulumi_digitalocean as digitalocean
import pytest
import yaml

import components
from blueprint.keys import make_key, public_line
from components import (
    AppDroplet,
    AppDropletArgs,
    AssetBucketWithCDN,
    AssetBucketWithCDNArgs,
    DnsZone,
    DnsZoneArgs,
    ManagedDatabase,
    ManagedDatabaseArgs,
)
from components.asset_bucket import CorsRuleArgs
from components.dns_zone import NAME_SERVERS, DnsRecordArgs
from components.managed_database import PoolArgs
from host import documents
from tests.components.kit import Recording, run_program

KEY = make_key()
LEAST: dict[str, Callable[[pulumi.ResourceOptions | None], pulumi.ComponentResource]] = {
    "AppDroplet": lambda opts: AppDroplet("web", AppDropletArgs(region="nyc3"), opts),
    "ManagedDatabase": lambda opts: ManagedDatabase(
        "data", ManagedDatabaseArgs(region="nyc3", trusted_tags=["web"], pools={"app": PoolArgs(size=5)}), opts
    ),
    "AssetBucketWithCDN": lambda opts: AssetBucketWithCDN(
        "assets",
        AssetBucketWithCDNArgs(
            region="nyc3", domain="a.example.org", zone="example.org", cors=[CorsRuleArgs(origins=["https://a.org"])]
        ),
        opts,
    ),
    "DnsZone": lambda opts: DnsZone("zone", DnsZoneArgs(domain="example.org", names={"@": "203.0.113.9"}), opts),
}
every = pytest.mark.parametrize("kind", LEAST)


def run(make: Callable[[], Any], **options: Any) -> Recording:
    def program() -> None:
        make()  # outputs are looked at in the registration

    return run_program(program, **options)


def children(recording: Recording) -> list[Any]:
    return [item for item in recording.resources if not item.type.startswith(("ancla:", "pulumi:", "test:"))]


# --- all four --------------------------------------------------------------------------------------------------------


@every
def test_every_name_of_the_package_is_a_component_or_its_arguments(kind: str):
    assert {kind, f"{kind}Args"} <= set(components.__all__)
    assert len(components.__all__) == 2 * len(LEAST)


@every
def test_every_argument_and_output_has_a_line_of_its_own(kind: str):
    for item, fields in (
        (
            getattr(components, f"{kind}Args"),
            [field.name for field in dataclasses.fields(getattr(components, f"{kind}Args"))],
        ),
        (getattr(components, kind), list(vars(getattr(components, kind))["__annotations__"])),
    ):
        source = inspect.getsource(item)
        assert fields
        for name in fields:
            assert re.search(rf'^    {name}: [^\n]*\n    """\S', source, re.MULTILINE), f"{item.__name__}.{name}"


@every
def test_arguments_are_free_of_the_stack_file(kind: str):
    args = getattr(components, f"{kind}Args")
    assert not re.search(
        r"Lifecycle\b|Credentials|EnvironmentSettings|AssetsSettings|DnsRecordSettings", str(args.__annotations__)
    )


@every
def test_every_output_is_registered(kind: str):
    recording = run(lambda: LEAST[kind](None))
    component = recording.one(kind, "")
    wanted = set(vars(getattr(components, kind))["__annotations__"]) - {"droplet", "cluster", "ready", "login"}
    optional = {"public_ipv6"} if kind == "AppDroplet" else set()

    assert component.type == f"ancla:index:{kind}"
    assert wanted - optional <= set(recording.outputs[component.urn]) <= wanted


@every
def test_a_caller_s_protect_is_of_every_part(kind: str):
    assert not any(item.options.protect for item in run(lambda: LEAST[kind](None)).resources)

    recording = run(lambda: LEAST[kind](pulumi.ResourceOptions(protect=True)))
    assert all(item.options.protect for item in recording.resources)
    assert {item.options.deletedWith for item in recording.resources} == {""}, "it would be forgotten and live on"


@every
def test_a_caller_s_retain_on_delete_is_of_every_part(kind: str):
    class Group(pulumi.ComponentResource):
        def __init__(self) -> None:
            super().__init__("test:index:Group", "group")
            LEAST[kind](pulumi.ResourceOptions(parent=self, retain_on_delete=True))

    def kept(recording: Recording) -> set[str]:
        return {item.name for item in children(recording) if item.options.retainOnDelete}

    assert kept(run(lambda: LEAST[kind](None))) == ({"data-trusted-sources"} if kind == "ManagedDatabase" else set())
    recording = run(Group)
    assert kept(recording) == {item.name for item in children(recording)}


@every
def test_a_caller_s_provider_and_aliases_are_used(kind: str):
    def make() -> None:
        provider = digitalocean.Provider("mine", token="made-up")
        alias = pulumi.Alias(name="former")
        LEAST[kind](pulumi.ResourceOptions(providers=[provider], aliases=[alias]))

    recording = run(make)
    provider = next(item for item in recording.resources if item.type == "pulumi:providers:digitalocean")
    ours = [item for item in recording.resources if item.type.startswith("digitalocean:")]
    assert ours
    assert all(item.options.provider.startswith(provider.urn) for item in ours)
    assert [alias.spec.name for alias in recording.one(kind).options.aliases] == ["former"]


@every
def test_a_caller_s_transformation_meets_every_part(kind: str):
    seen: set[str] = set()

    def look(args: pulumi.ResourceTransformationArgs) -> None:
        seen.add(args.name)

    recording = run(lambda: LEAST[kind](pulumi.ResourceOptions(transformations=[look])))
    assert seen == {item.name for item in recording.resources}


@every
def test_a_project_of_the_caller_s_gets_it(kind: str):
    arguments: dict[str, dict[str, Any]] = {
        "AppDroplet": {"region": "nyc3"},
        "ManagedDatabase": {"region": "nyc3", "trusted_tags": ["web"]},
        "AssetBucketWithCDN": {"region": "nyc3"},
        "DnsZone": {"domain": "example.org"},
    }
    args = getattr(components, f"{kind}Args")(**arguments[kind], project_id="p1")
    inputs = run(lambda: getattr(components, kind)("x", args)).one("ProjectResources").inputs

    assert inputs["project"] == "p1"
    assert len(inputs["resources"]) == 1


# --- AppDroplet ------------------------------------------------------------------------------------------------------


def test_a_droplet_makes_its_keys_and_is_bootstrapped():
    recording = run(lambda: AppDroplet("web", AppDropletArgs(region="nyc3", authorized_keys={"ana": public_line(KEY)})))
    made = [item for item in recording.of_type("Command") if "ssh-keygen" in item.inputs["create"]]
    droplet, contact = recording.one("Droplet", "web-droplet"), recording.one("Command", "web-first-contact")

    assert len(made) == 3
    for item in made:
        assert list(item.options.additionalSecretOutputs) == ["stdout"]
        assert item.inputs["logging"] == "none"
        assert set(item.inputs) == set(item.options.ignoreChanges), "a key is made once"
    assert droplet.inputs["name"] == "web"
    assert "userData" in droplet.secrets
    first = documents.read_document(documents.FirstContact, contact.inputs["stdin"])
    assert first.bootstrap_host_key == yaml.safe_load(droplet.inputs["userData"])["ssh_keys"]["ed25519_public"]
    converge = documents.read_document(documents.Converge, recording.one("Command", "web-converge").inputs["stdin"])
    assert converge.machine.docker
    assert converge.machine.nginx is None
    assert converge.machine.ssh.keys == {"ana": public_line(KEY)}
    registered = recording.outputs[recording.one("AppDroplet").urn]
    assert registered["host_key"] == first.host_key
    assert "PRIVATE KEY" not in json.dumps({key: value for key, value in registered.items() if key != "deploy_key"})


def test_in_a_preview_keys_that_are_not_made_yet_are_no_error():
    assert run(lambda: LEAST["AppDroplet"](None), preview=True).one("Command", "web-converge")


def test_keys_network_and_tags_can_be_one_s_own():
    private = KEY.get_secret_value()

    def make() -> None:
        args = AppDropletArgs(
            region="nyc3",
            name="front",
            vpc_id="v1",
            tags=["web", pulumi.Output.from_input("front")],
            ssh_key="4711",
            deploy_key=private,
            host_key=pulumi.Output.secret(private),
            bootstrap_host_key=private,
            ipv6=True,
        )
        AppDroplet("web", args)

    recording = run(make)
    inputs = recording.one("Droplet", "web-droplet").inputs

    assert (inputs["name"], inputs["vpcUuid"], inputs["tags"], inputs["ipv6"]) == (
        "front",
        "v1",
        ["web", "front"],
        True,
    )
    assert inputs["sshKeys"] == ["4711"]
    assert not recording.of_type("SshKey")
    assert not [item for item in recording.of_type("Command") if "ssh-keygen" in item.inputs["create"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": "fedora-42-x64"}, "fedora-42-x64"),
        ({"ssh_sources": ["everywhere"]}, "ssh_sources"),
        ({"name": "Front End"}, "hostname"),
        ({"authorized_keys": {"ana": "no key"}}, "keys"),
        ({"postgresql_clients": ["9"]}, "majors"),
    ],
)
def test_what_could_not_be_bootstrapped_is_refused_in_the_preview(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        run(lambda: AppDroplet("web", AppDropletArgs(region="nyc3", **arguments)), preview=True)


def test_the_bootstrap_can_be_left_out():
    people = {"ana": public_line(KEY)}
    args = AppDropletArgs(region="nyc3", bootstrap=False, authorized_keys=people, reserved_ip=False)
    recording = run(lambda: AppDroplet("web", args))
    config = yaml.safe_load(recording.one("Droplet", "web-droplet").inputs["userData"])

    assert not [item for item in recording.of_type("Command") if "-m host" in item.inputs["create"]]
    assert public_line(KEY) in config["users"][0]["ssh_authorized_keys"]
    registered = recording.outputs[recording.one("AppDroplet").urn]
    assert not recording.of_type("ReservedIp")
    assert registered["address"] == "198.51.100.10"
    assert registered["host_key"] == config["ssh_keys"]["ed25519_public"], "the key of the first boot stays"


# --- ManagedDatabase -------------------------------------------------------------------------------------------------


def test_a_cluster_that_would_be_open_to_all_is_refused():
    with pytest.raises(ValueError, match="open to all"):
        run(lambda: ManagedDatabase("data", ManagedDatabaseArgs(region="nyc3")))


def test_droplets_tags_and_addresses_may_connect():
    args = ManagedDatabaseArgs(
        region="nyc3", trusted_tags=["web"], trusted_droplets=["4711"], trusted_sources=["203.0.113.0/24"]
    )
    rules = run(lambda: ManagedDatabase("data", args)).one("DatabaseFirewall").inputs["rules"]

    assert [(rule["type"], rule["value"]) for rule in rules] == [
        ("tag", "web"),
        ("droplet", "4711"),
        ("ip_addr", "203.0.113.0/24"),
    ]


def test_a_cluster_that_is_there_is_left_alone():
    args = ManagedDatabaseArgs(region="nyc3", cluster_id="c1", databases=["reports"], user="reader")
    recording = run(lambda: ManagedDatabase("data", args))

    assert [(kind, ident) for kind, ident, _ in recording.read] == [
        ("digitalocean:index/databaseCluster:DatabaseCluster", "c1")
    ]
    assert not recording.of_type("DatabaseCluster")
    assert not recording.of_type("DatabaseFirewall")
    assert recording.one("DatabaseDb").inputs["name"] == "reports"
    assert {item.options.deletedWith for item in recording.resources} == {""}


# --- AssetBucketWithCDN ----------------------------------------------------------------------------------------------


def test_a_custom_domain_gets_certificate_and_record():
    recording = run(lambda: LEAST["AssetBucketWithCDN"](None))
    certificate, cdn, record = (recording.one(kind) for kind in ("Certificate", "Cdn", "DnsRecord"))

    assert certificate.inputs["type"] == "lets_encrypt"
    assert certificate.inputs["domains"] == ["a.example.org"]
    assert certificate.inputs["name"] == "assets-a-example-org"
    assert cdn.inputs["certificateName"] == "assets-a-example-org"
    assert (record.inputs["domain"], record.inputs["name"]) == ("example.org", "a")
    assert record.inputs["value"] == "bucket.nyc3.cdn.digitaloceanspaces.com."


def test_the_certificate_waits_for_a_zone_that_is_made_beside_it():
    def make() -> None:
        zone = DnsZone("zone", DnsZoneArgs(domain="example.org"))
        AssetBucketWithCDN("assets", AssetBucketWithCDNArgs(region="nyc3", domain="a.example.org", zone=zone.domain))

    recording = run(make)
    assert recording.one("Domain").urn in recording.urns_before(recording.one("Certificate"))


def test_a_private_bucket_is_the_same_component():
    recording = run(lambda: AssetBucketWithCDN("files", AssetBucketWithCDNArgs(region="nyc3", cdn=False)))

    assert not recording.of_type("Cdn")
    assert recording.one("SpacesBucket").inputs["acl"] == "private"
    assert recording.one("SpacesKey").inputs["grants"] == [{"bucket": "files", "permission": "readwrite"}]


def test_a_bucket_that_is_there_is_left_alone():
    args = AssetBucketWithCDNArgs(region="fra1", bucket="mine", create=False)
    recording = run(lambda: AssetBucketWithCDN("assets", args))

    assert not recording.of_type("SpacesBucket")
    assert recording.read == [
        ("digitalocean:index/spacesBucket:SpacesBucket", "mine", {"name": "mine", "region": "fra1"})
    ]
    assert recording.one("Cdn").inputs["origin"] == "mine.fra1.digitaloceanspaces.com"


# --- DnsZone ---------------------------------------------------------------------------------------------------------


def zone(**arguments: Any) -> Recording:
    """A zone; an argument that is a function is called in the program, where outputs can be made."""

    def make() -> None:
        known = {key: value() if callable(value) else value for key, value in arguments.items()}
        DnsZone("zone", DnsZoneArgs(domain="example.org", **known))

    return run(make)


def test_names_are_a_map():
    recording = zone(
        names=lambda: {"@": pulumi.Output.from_input("203.0.113.9"), "www.example.org": "203.0.113.10"},
        names_ipv6={"@": "2001:DB8::9"},
        cnames=lambda: {"docs": pulumi.Output.from_input("pages.example.net")},
        authorities=["letsencrypt.org"],
    )
    made = {(item.inputs["type"], item.inputs["name"], item.inputs["value"]) for item in recording.of_type("DnsRecord")}

    assert made == {
        ("A", "@", "203.0.113.9"),
        ("A", "www", "203.0.113.10"),
        ("AAAA", "@", "2001:db8::9"),
        ("CNAME", "docs", "pages.example.net."),
        ("CAA", "@", "letsencrypt.org."),
    }
    outputs = recording.outputs[recording.one("DnsZone").urn]
    assert outputs["name_servers"] == list(NAME_SERVERS)
    assert outputs["hosts"] == {
        "example.org": "203.0.113.9",
        "www.example.org": "203.0.113.10",
        "docs.example.org": "pages.example.net.",
    }


def test_values_that_are_outputs_are_told_apart_by_a_key():
    def records(key: str | None) -> list[DnsRecordArgs]:
        token = pulumi.Output.from_input("site-check=abc")
        return [
            DnsRecordArgs(type="TXT", name="@", value=token, key=key),
            DnsRecordArgs(type="TXT", name="@", value="v=spf1 -all"),
        ]

    recording = zone(records=lambda: records("site-check"))
    assert len({item.name for item in recording.of_type("DnsRecord")}) == 2
    with pytest.raises(ValueError, match="has its TXT record already"):
        zone(records=lambda: records(None))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cnames": {"@": "a.example.net"}}, "a CNAME cannot be at the domain itself"),
        ({"names": {"docs": "203.0.113.9"}, "cnames": {"docs": "a.example.net"}}, "a CNAME stands alone"),
        ({"records": [DnsRecordArgs(type="MX", name="@", value="mail.example.org")]}, "needs priority"),
    ],
)
def test_what_digitalocean_would_refuse_is_refused_before_the_first_call(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        zone(**arguments)


def test_a_zone_that_is_there_gets_records_and_is_left_alone():
    recording = zone(create=False, names={"www": "203.0.113.9"})

    assert not recording.of_type("Domain")
    assert [ident for _, ident, _ in recording.read] == ["example.org"]
    assert recording.one("DnsRecord").options.deletedWith == ""


def test_a_zone_without_records_has_an_empty_map_of_hosts():
    recording = zone()

    assert recording.outputs[recording.one("DnsZone").urn]["hosts"] == {}
