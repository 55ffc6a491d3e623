"""Calls in any order, of every product that can be made, with restarts and failures between them.

`account_model` holds what must be true after each; the rules here say which calls there are, and which of them must be
refused. Hypothesis chooses the order and, when something is wrong, prints the shortest one that shows it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.sandbox.account_model import FIXED, Account, differences, urns
from tests.sandbox.conftest import PUBLIC_KEY

SEED = int(os.environ["ANCLA_SEED"])
NAMES = st.sampled_from(("a-1", "b-2", "c-3"))  # few, so that they meet again
REGIONS = st.sampled_from(("nyc3", "fra1"))
TAGS = st.lists(NAMES, unique=True, max_size=2)
SIZES = ("s-1vcpu-1gb", "s-1vcpu-2gb", "s-2vcpu-2gb")
RANGES = st.sampled_from((None, "10.200.0.0/24", "10.200.0.128/25", "192.168.7.0/28"))
RECORDS = st.sampled_from(
    (
        {"type": "A", "name": "www", "data": "192.0.2.1"},
        {"type": "A", "name": "www", "data": "192.0.2.2", "ttl": 60},
        {"type": "AAAA", "name": "@", "data": "2001:db8::1"},
        {"type": "CNAME", "name": "www", "data": "@"},
        {"type": "MX", "name": "@", "data": "mail.example.net.", "priority": 10},
        {"type": "TXT", "name": "@", "data": "v=spf1 -all"},
        {"type": "SRV", "name": "_sip._tcp", "data": "sip.example.net.", "priority": 1, "port": 5060, "weight": 5},
        {"type": "CAA", "name": "@", "data": "letsencrypt.org.", "flags": 0, "tag": "issue"},
    )
)
FIREWALL = {"protocol": "tcp", "ports": "22", "sources": {"addresses": ["0.0.0.0/0"]}}
FORWARD = {"entry_protocol": "tcp", "entry_port": 443, "target_protocol": "tcp", "target_port": 443}
DROPLET_LIMIT, RESERVED_IP_LIMIT = 25, 5


def names_in(seen: dict[str, Any]) -> dict[str, Any]:
    """Return the answers without the time at which a Space was assigned to its project."""
    return {
        path: [item["urn"] for item in items] if path.endswith("/resources") else items for path, items in seen.items()
    }


def having(*paths: str) -> Any:
    """Let a rule run only where each of these lists has something."""
    return precondition(lambda self: all(self.account.objects(path) for path in paths))


class Calls(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.account = Account(Path(self._folder.name))
        self.healthy = True

    def pick(self, data: st.DataObject, path: str) -> dict[str, Any]:
        return self.account.seen[data.draw(st.sampled_from(self.account.objects(path)))]

    def some(self, data: st.DataObject, path: str) -> list[dict[str, Any]]:
        """Choose at most two of a list."""
        found = self.account.objects(path)
        chosen = data.draw(st.lists(st.sampled_from(found), unique=True, max_size=2)) if found else []
        return [self.account.seen[known] for known in chosen]

    def taken(self, path: str, **fields: Any) -> bool:
        """Say whether the list has one with these fields."""
        return any(all(item[name] == value for name, value in fields.items()) for item in self.account.all(path))

    def create(self, path: str, key: str, ident: str, body: Any, *, refused: bool | None = False) -> Any:
        answer = self.account.change("POST", path, body, refused=refused)
        if answer is None:
            return None
        self.account.made(f"{path}/{answer[key][ident]}", *(f"/v2/tags/{tag}" for tag in body.get("tags", ())))
        return answer[key]

    # --- creations ---------------------------------------------------------------------------------------------------

    @rule(name=NAMES)
    def create_tag(self, name):
        self.create("/v2/tags", "tag", "name", {"name": name})

    @rule(name=NAMES, region=REGIONS, ip_range=RANGES)
    def create_vpc(self, name, region, ip_range):
        taken = self.taken("/v2/vpcs", name=name)
        body = {"name": name, "region": region} | ({"ip_range": ip_range} if ip_range else {})
        self.create("/v2/vpcs", "vpc", "id", body, refused=True if taken else (None if ip_range else False))

    @rule(data=st.data(), name=NAMES, region=REGIONS, tags=TAGS)
    def create_droplet(self, data, name, region, tags):
        volumes = self.some(data, "/v2/volumes")
        vpcs = self.some(data, "/v2/vpcs")[:1]
        body = {"name": name, "region": region, "size": SIZES[0], "image": "ubuntu-24-04-x64", "tags": tags}
        body |= {"volumes": [volume["id"] for volume in volumes]} if volumes else {}
        body |= {"vpc_uuid": vpcs[0]["id"]} if vpcs else {}
        wrong = [item for item in volumes if item["region"]["slug"] != region or item["droplet_ids"]]
        wrong += [vpc for vpc in vpcs if vpc["region"] != region]
        full = len(self.account.all("/v2/droplets")) >= DROPLET_LIMIT
        if self.create("/v2/droplets", "droplet", "id", body, refused=bool(wrong or full)):
            self.account.found("/v2/vpcs/")

    @rule(data=st.data(), region=REGIONS)
    def reserve_ip(self, data, region):
        droplets = self.some(data, "/v2/droplets")[:1]
        body = {"droplet_id": droplets[0]["id"]} if droplets else {"region": region}
        full = len(self.account.all("/v2/reserved_ips")) >= RESERVED_IP_LIMIT
        self.create("/v2/reserved_ips", "reserved_ip", "ip", body, refused=full)

    @rule(data=st.data(), name=NAMES)
    def create_firewall(self, data, name):
        droplets = [droplet["id"] for droplet in self.some(data, "/v2/droplets")]
        tags = [tag["name"] for tag in self.some(data, "/v2/tags")]
        body = {"name": name, "droplet_ids": droplets, "tags": tags, "inbound_rules": [FIREWALL]}
        self.create("/v2/firewalls", "firewall", "id", body, refused=self.taken("/v2/firewalls", name=name))

    @rule(data=st.data(), name=NAMES, region=REGIONS, by_tag=st.booleans())
    def create_load_balancer(self, data, name, region, by_tag):
        vpcs, droplets, tags = (self.some(data, f"/v2/{kind}")[:1] for kind in ("vpcs", "droplets", "tags"))
        body = {"name": name, "region": region, "forwarding_rules": [FORWARD]}
        body |= {"vpc_uuid": vpcs[0]["id"]} if vpcs else {}
        body |= {"tag": tags[0]["name"]} if by_tag and tags else {"droplet_ids": [item["id"] for item in droplets]}
        in_vpc = [vpc["id"] for vpc in vpcs] or [
            vpc["id"] for vpc in self.account.all("/v2/vpcs") if vpc["default"] and vpc["region"] == region
        ]
        wrong = [vpc for vpc in vpcs if vpc["region"] != region]
        if body.get("droplet_ids"):
            wrong += [droplet for droplet in droplets if droplet["vpc_uuid"] not in in_vpc]
        if self.create("/v2/load_balancers", "load_balancer", "id", body, refused=bool(wrong)):
            self.account.found("/v2/vpcs/")

    @having("/v2/load_balancers", "/v2/droplets")
    @rule(data=st.data(), method=st.sampled_from(("POST", "DELETE")))
    def change_load_balancer(self, data, method):
        balancer, droplet = self.pick(data, "/v2/load_balancers"), self.pick(data, "/v2/droplets")
        elsewhere = method == "POST" and droplet["vpc_uuid"] != balancer["vpc_uuid"]
        path, body = f"/v2/load_balancers/{balancer['id']}/droplets", {"droplet_ids": [droplet["id"]]}
        self.account.change(method, path, body, refused=bool(balancer["tag"] or elsewhere))

    @rule(name=NAMES, region=REGIONS, tags=TAGS)
    def create_volume(self, name, region, tags):
        body = {"name": name, "region": region, "size_gigabytes": 10, "tags": tags}
        taken = any((v["name"], v["region"]["slug"]) == (name, region) for v in self.account.all("/v2/volumes"))
        self.create("/v2/volumes", "volume", "id", body, refused=taken)

    @rule(name=NAMES)
    def create_project(self, name):
        body = {"name": name, "purpose": "IoT"}
        self.create("/v2/projects", "project", "id", body, refused=self.taken("/v2/projects", name=name))

    @rule(name=st.sampled_from(("example.org", "www.example.org")), address=st.sampled_from((None, "192.0.2.9")))
    def create_domain(self, name, address):
        body = {"name": name} | ({"ip_address": address} if address else {})
        if self.create("/v2/domains", "domain", "name", body, refused=self.taken("/v2/domains", name=name)):
            self.account.found(f"/v2/domains/{name}/records/")

    @having("/v2/domains")
    @rule(data=st.data(), record=RECORDS)
    def create_record(self, data, record):
        path = f"/v2/domains/{self.pick(data, '/v2/domains')['name']}/records"
        at_name = [other["type"] for other in self.account.all(path) if other["name"] == record["name"]]
        alone = "CNAME" in at_name or (record["type"] == "CNAME" and at_name)
        self.create(path, "domain_record", "id", record, refused=bool(alone))

    @rule(data=st.data(), name=NAMES, region=REGIONS, tags=TAGS)
    def create_cluster(self, data, name, region, tags):
        body = {"name": name, "engine": "pg", "version": "15", "size": "db-s-1vcpu-1gb", "num_nodes": 1}
        rules = [{"type": "droplet", "value": str(item["id"])} for item in self.some(data, "/v2/droplets")]
        rules += [{"type": "tag", "value": item["name"]} for item in self.some(data, "/v2/tags")]
        body |= {"region": region, "tags": tags, "rules": rules}
        cluster = self.create("/v2/databases", "database", "id", body, refused=self.taken("/v2/databases", name=name))
        if cluster:
            self.account.found("/v2/vpcs/")
            self.account.found(f"/v2/databases/{cluster['id']}/")

    @having("/v2/databases")
    @rule(data=st.data(), name=NAMES, what=st.sampled_from((("users", "user"), ("dbs", "db"))))
    def create_in_cluster(self, data, name, what):
        path = f"/v2/databases/{self.pick(data, '/v2/databases')['id']}/{what[0]}"
        self.create(path, what[1], "name", {"name": name}, refused=self.taken(path, name=name))

    @having("/v2/databases")
    @rule(data=st.data(), name=NAMES, size=st.sampled_from((5, 20)))
    def create_pool(self, data, name, size):
        cluster = f"/v2/databases/{self.pick(data, '/v2/databases')['id']}"
        if not self.account.objects(f"{cluster}/dbs"):
            return  # `destroy` took the last one
        user = data.draw(st.sampled_from((None, *self.account.all(f"{cluster}/users"))))
        body = {"name": name, "mode": "transaction", "size": size, "db": self.pick(data, f"{cluster}/dbs")["name"]}
        pools = self.account.all(f"{cluster}/pools")
        full = sum(pool["size"] for pool in pools) + size > 22
        refused = full or self.taken(f"{cluster}/pools", name=name)
        self.create(
            f"{cluster}/pools", "pool", "name", body | ({"user": user["name"]} if user else {}), refused=refused
        )

    @rule(name=NAMES, grants=st.sampled_from(([], [{"bucket": "assets", "permission": "read"}])))
    def create_spaces_key(self, name, grants):
        self.create("/v2/spaces/keys", "key", "access_key", {"name": name, "grants": grants})

    @rule(origin=st.sampled_from(("assets.nyc3", "media.fra1", "none.nyc3")))
    def create_cdn(self, origin):
        origin += ".digitaloceanspaces.com"
        refused = origin.startswith("none") or self.taken("/v2/cdn/endpoints", origin=origin)
        self.create("/v2/cdn/endpoints", "endpoint", "id", {"origin": origin}, refused=refused)

    @rule(name=NAMES, tier=st.sampled_from(("basic", "professional")))
    def create_registry(self, name, tier):
        refused = self.taken("/v2/registries", name=name) or (
            tier == "basic" and bool(self.account.all("/v2/registries"))
        )
        self.create(
            "/v2/registries", "registry", "name", {"name": name, "subscription_tier_slug": tier}, refused=refused
        )

    @rule(name=NAMES)
    def create_ssh_key(self, name):
        taken = bool(self.account.all("/v2/account/keys"))
        self.create("/v2/account/keys", "ssh_key", "id", {"name": name, "public_key": PUBLIC_KEY}, refused=taken)

    # --- changes -----------------------------------------------------------------------------------------------------

    @having("/v2/reserved_ips", "/v2/droplets")
    @rule(data=st.data())
    def assign(self, data):
        address, droplet = self.pick(data, "/v2/reserved_ips"), self.pick(data, "/v2/droplets")
        there = address["droplet"] and address["droplet"]["id"] == droplet["id"]
        refused = bool(there) or address["region"]["slug"] != droplet["region"]["slug"]
        body = {"type": "assign", "droplet_id": droplet["id"]}
        self.account.change("POST", f"/v2/reserved_ips/{address['ip']}/actions", body, refused=refused)

    @having("/v2/reserved_ips")
    @rule(data=st.data())
    def unassign(self, data):
        address = self.pick(data, "/v2/reserved_ips")
        body = {"type": "unassign"}
        self.account.change(
            "POST", f"/v2/reserved_ips/{address['ip']}/actions", body, refused=address["droplet"] is None
        )

    @having("/v2/volumes", "/v2/droplets")
    @rule(data=st.data(), kind=st.sampled_from(("attach", "detach")))
    def attach_or_detach(self, data, kind):
        volume, droplet = self.pick(data, "/v2/volumes"), self.pick(data, "/v2/droplets")
        elsewhere = volume["region"]["slug"] != droplet["region"]["slug"]
        refused = volume["droplet_ids"] != [droplet["id"]] if kind == "detach" else volume["droplet_ids"] or elsewhere
        body = {"type": kind, "droplet_id": droplet["id"]}
        self.account.change("POST", f"/v2/volumes/{volume['id']}/actions", body, refused=bool(refused))

    @having("/v2/volumes")
    @rule(data=st.data(), size=st.sampled_from((5, 20, 30)))
    def grow_volume(self, data, size):
        volume = self.pick(data, "/v2/volumes")
        body = {"type": "resize", "size_gigabytes": size}
        smaller = size <= volume["size_gigabytes"]
        self.account.change("POST", f"/v2/volumes/{volume['id']}/actions", body, refused=smaller)

    @having("/v2/droplets")
    @rule(data=st.data(), kind=st.sampled_from(("power_off", "power_on", "reboot")))
    def power(self, data, kind):
        droplet = self.pick(data, "/v2/droplets")
        refused = (kind, droplet["status"]) in {("power_off", "off"), ("power_on", "active")}
        self.account.change("POST", f"/v2/droplets/{droplet['id']}/actions", {"type": kind}, refused=refused)

    @having("/v2/droplets")
    @rule(data=st.data(), size=st.sampled_from(SIZES), disk=st.booleans())
    def resize_droplet(self, data, size, disk):
        droplet = self.pick(data, "/v2/droplets")
        refused = None if droplet["status"] == "off" and size != droplet["size_slug"] else True
        body = {"type": "resize", "size": size, "disk": disk}
        if self.account.change("POST", f"/v2/droplets/{droplet['id']}/actions", body, refused=refused):
            assert self.account.sandbox.get(f"/v2/droplets/{droplet['id']}")["droplet"]["size_slug"] == size

    @having("/v2/droplets")
    @rule(data=st.data(), name=NAMES)
    def snapshot_droplet(self, data, name):
        droplet = self.pick(data, "/v2/droplets")
        self.account.change("POST", f"/v2/droplets/{droplet['id']}/actions", {"type": "snapshot", "name": name})
        self.account.found("/v2/snapshots/")

    @having("/v2/volumes")
    @rule(data=st.data(), name=NAMES, tags=TAGS)
    def snapshot_volume(self, data, name, tags):
        path = f"/v2/volumes/{self.pick(data, '/v2/volumes')['id']}/snapshots"
        answer = self.account.change("POST", path, {"name": name, "tags": tags})
        self.account.made(f"/v2/snapshots/{answer['snapshot']['id']}", *(f"/v2/tags/{tag}" for tag in tags))

    @having("/v2/tags")
    @rule(data=st.data(), method=st.sampled_from(("POST", "DELETE")))
    def tag_or_untag(self, data, method):
        kind = data.draw(st.sampled_from(("droplet", "volume", "database")))
        if items := self.some(data, f"/v2/{kind}s"):
            resources = [{"resource_type": kind, "resource_id": str(item["id"])} for item in items]
            path = f"/v2/tags/{self.pick(data, '/v2/tags')['name']}/resources"
            self.account.change(method, path, {"resources": resources})

    @having("/v2/firewalls", "/v2/droplets")
    @rule(data=st.data(), method=st.sampled_from(("POST", "DELETE")))
    def change_firewall(self, data, method):
        firewall, droplet = self.pick(data, "/v2/firewalls"), self.pick(data, "/v2/droplets")
        self.account.change(method, f"/v2/firewalls/{firewall['id']}/droplets", {"droplet_ids": [droplet["id"]]})

    @rule(data=st.data())
    def move_into_project(self, data):
        path = f"/v2/projects/{self.pick(data, '/v2/projects')['id']}/resources"
        others = [
            resource["urn"]
            for listed, resources in self.account.seen.items()
            if listed.endswith("/resources") and listed != path
            for resource in resources
        ]
        if others:
            # A reserved IP that a droplet has moves with the droplet only.
            body = {"resources": [data.draw(st.sampled_from(sorted(others)))]}
            refused = None if body["resources"][0].startswith("do:floatingip:") else False
            self.account.change("POST", path, body, refused=refused)

    @having("/v2/databases")
    @rule(data=st.data())
    def trust(self, data):
        cluster = self.pick(data, "/v2/databases")
        rules = [{"type": "droplet", "value": str(item["id"])} for item in self.some(data, "/v2/droplets")]
        self.account.change("PUT", f"/v2/databases/{cluster['id']}/firewall", {"rules": rules})

    # --- the end of things -------------------------------------------------------------------------------------------

    @precondition(lambda self: self.account.alive)
    @rule(data=st.data())
    def destroy(self, data):
        path = data.draw(st.sampled_from(sorted({known.rpartition("/")[0] for known in self.account.alive})))
        self._destroy(data.draw(st.sampled_from(self.account.objects(path))))

    def _destroy(self, path: str) -> None:
        refused = self._must_stay(path)
        if self.account.change("DELETE", path, refused=refused) is not None:
            self.account.gone(path)

    def _must_stay(self, path: str) -> bool:
        """Say whether this must not be deleted."""
        seen, (listed, _, ident) = self.account.seen, path.rpartition("/")
        shown = seen[path]
        match listed.split("/")[2:]:
            case ["vpcs"]:
                stays = shown["default"] or seen[f"{path}/members"]
            case ["projects"]:
                stays = shown["is_default"] or seen[f"{path}/resources"]
            case ["volumes"]:
                stays = shown["droplet_ids"]
            case ["domains", _, "records"]:
                stays = shown["type"] == "SOA"
            case ["databases", cluster, "users"]:
                pools = seen[f"/v2/databases/{cluster}/pools"]
                stays = shown["role"] == "primary" or any(pool["user"] == ident for pool in pools)
            case ["databases", cluster, "dbs"]:
                stays = any(pool["db"] == ident for pool in seen[f"/v2/databases/{cluster}/pools"])
            case _:
                stays = False
        return bool(stays)

    @rule()
    def restart(self):
        self.account.restart()

    @rule(data=st.data(), name=NAMES)
    def fail(self, data, name):
        """Let the part behind a call fail, once."""
        calls: list[tuple[str, str, str, Any]] = [
            ("networks.create_vpc", "POST", "/v2/vpcs", {"name": "failing", "region": "nyc3"}),
            ("dns.set_zones", "POST", "/v2/domains", {"name": "failing.example.org"}),
            ("spaces.set_keys", "POST", "/v2/spaces/keys", {"name": name, "grants": []}),
            *(("load_balancers.delete", "DELETE", path, None) for path in self.account.objects("/v2/load_balancers")),
            *(("dns.set_zones", "DELETE", path, None) for path in self.account.objects("/v2/domains")),
            *(("edge.set_cdns", "DELETE", path, None) for path in self.account.objects("/v2/cdn/endpoints")),
            *(("spaces.set_keys", "DELETE", path, None) for path in self.account.objects("/v2/spaces/keys")),
            *(
                ("databases.apply", "POST", f"{path}/users", {"name": "failing"})
                for path in self.account.objects("/v2/databases")
            ),
        ]
        self.account.failing(*data.draw(st.sampled_from(calls)))

    # --- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def check(self):
        self.healthy = False
        self.account.check()
        self.healthy = True

    def teardown(self):
        """Destroy everything: nothing is left, in the account or behind it."""
        try:
            if self.healthy:
                self._destroy_everything()
        finally:
            self.account.close()
            self._folder.cleanup()

    def _destroy_everything(self) -> None:
        account = self.account
        spaces = [urn for urn in urns(account.seen) if urn.startswith("do:space:")]
        account.change("POST", f"{FIXED}/resources", {"resources": spaces})
        account.check()
        for wave in (("/v2/cdn/endpoints", "/v2/droplets", "/v2/databases", "/v2/load_balancers"), ("/v2",), ("/v2",)):
            for known in list(account.alive):
                if known.startswith(wave) and known in account.alive and not self._must_stay(known):
                    self._destroy(known)
            account.check()
        for path in account.deleted:
            assert account.sandbox.call("GET", path)[0] == 404, path
        before = names_in(account.pristine)
        left = {path: items for path, items in names_in(account.seen).items() if "/vpcs/" not in path}
        left["/v2/vpcs"] = []  # default ones stay
        assert left == before, differences(before, left)
        assert all(vpc["default"] for vpc in account.all("/v2/vpcs"))
        assert account.settle() == [f"vpc {vpc['name']}" for vpc in account.all("/v2/vpcs") if not vpc["default"]]
        assert (account.parts.droplet_specs, account.parts.clusters, account.parts.cdns) == ({}, {}, ())
        assert account.parts.service_specs == {}
        assert account.sandbox.get(FIXED)["project"]["is_default"]


def _run(examples: int, steps: int, *phases: Phase) -> None:
    print(f"ANCLA_SEED={SEED}: {examples} accounts of {steps} calls")
    run_state_machine_as_test(
        seed(SEED)(Calls),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=[Phase.generate, *phases],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_no_order_of_calls_breaks_an_account():
    _run(5, 25)


@pytest.mark.all
@pytest.mark.timeout(3600)
def test_no_order_of_calls_breaks_any_account():
    _run(300, 60, Phase.shrink)  # which takes minutes, and finds the shortest order that fails
