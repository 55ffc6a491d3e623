"""Regional load balancers, for droplets by number or by tag."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from sandbox import catalog
from sandbox.api.context import (
    Body,
    Call,
    Cloud,
    invalid,
    job,
    list_of,
    new_uuid,
    not_built,
    now,
    one_of,
    operation,
    whole,
)
from sandbox.api.desired import living, vpc_of
from sandbox.api.kinds import Kind
from sandbox.api.projects import project_of
from sandbox.api.vpcs import free_private_ip, free_public_ip, vpc_for
from sandbox.parts.load_balancers import ForwardingRule, HealthCheck, LoadBalancerSpec
from sandbox.store import Record, Store

_SIZES = {"lb-small": 1, "lb-medium": 3, "lb-large": 6}
_MOST_NODES = 100
_RESERVED_PORTS = range(50053, 50056)
"""Documented: the balancer has these for itself."""
_ENTRIES, _TARGETS = ("http", "https", "http2", "tcp"), ("http", "https", "http2", "tcp")
_NOT_BUILT = {"http3": "HTTP/3", "udp": "UDP"}
_PATH = re.compile(r"/[\x21-\x7e]*")
_COOKIE = re.compile(r"[A-Za-z0-9_.\-]{2,40}")
_FLAGS = (
    "redirect_http_to_https",
    "enable_proxy_protocol",
    "enable_backend_keepalive",
    "disable_lets_encrypt_dns_records",
)
# Field of a health check → default, least and most.
_CHECK_NUMBERS = {
    "port": (80, 1, 65535),
    "check_interval_seconds": (10, 3, 300),
    "response_timeout_seconds": (5, 3, 300),
    "healthy_threshold": (5, 2, 10),
    "unhealthy_threshold": (3, 2, 10),
}
_FIXED = {"region": "region", "vpc_uuid": "VPC"}
_INNER = ("public_ip", "private_ip")


def members(store: Store, balancer: Record) -> list[Record]:
    """List the droplets behind a balancer: those of its numbers or its tag that are in its VPC."""
    tag, numbers = balancer["tag"], balancer["droplet_ids"]
    return [
        droplet
        for droplet in living(store)
        if droplet["vpc_uuid"] == balancer["vpc_uuid"] and (tag in droplet["tags"] if tag else droplet["id"] in numbers)
    ]


def _body(call: Call, balancer: Record) -> Body:
    shown = {name: value for name, value in balancer.items() if name not in _INNER}
    slugs = {nodes: slug for slug, nodes in _SIZES.items()}
    return {
        **shown,
        "ip": balancer["public_ip"],
        "size": slugs.get(balancer["size_unit"], "lb-small"),
        "region": catalog.region_body(balancer["region"]),
        "droplet_ids": [droplet["id"] for droplet in members(call.store, balancer)],
        "project_id": project_of(call.store, LOAD_BALANCER.urn_of(balancer)),
    }


def _spec(store: Store, balancer: Record) -> LoadBalancerSpec:
    check, sticky, firewall = balancer["health_check"], balancer["sticky_sessions"], balancer["firewall"]
    return LoadBalancerSpec(
        id=balancer["id"],
        vpc=vpc_of(store, balancer),
        public_ip=balancer["public_ip"],
        private_ip=balancer["private_ip"],
        nodes=balancer["size_unit"],
        rules=tuple(_rule_spec(store, rule) for rule in balancer["forwarding_rules"]),
        health=HealthCheck(
            protocol=check["protocol"],
            port=check["port"],
            path=check["path"],
            interval=check["check_interval_seconds"],
            timeout=check["response_timeout_seconds"],
            healthy=check["healthy_threshold"],
            unhealthy=check["unhealthy_threshold"],
        ),
        droplets=tuple((droplet["id"], droplet["private_ip"]) for droplet in members(store, balancer)),
        algorithm=balancer["algorithm"],
        cookie=(sticky["cookie_name"], sticky["cookie_ttl_seconds"]) if sticky["type"] == "cookies" else None,
        redirect=balancer["redirect_http_to_https"],
        proxy_protocol=balancer["enable_proxy_protocol"],
        keepalive=balancer["enable_backend_keepalive"],
        idle_seconds=balancer["http_idle_timeout_seconds"],
        strong_ciphers=balancer["tls_cipher_policy"] == "STRONG",
        allow=tuple(entry.partition(":")[2] for entry in firewall["allow"]),
        deny=tuple(entry.partition(":")[2] for entry in firewall["deny"]),
    )


def _rule_spec(store: Store, rule: Record) -> ForwardingRule:
    certificate = store.get("certificate", rule["certificate_id"]) or {}
    return ForwardingRule(
        entry_protocol=rule["entry_protocol"],
        entry_port=rule["entry_port"],
        target_protocol=rule["target_protocol"],
        target_port=rule["target_port"],
        passthrough=rule["tls_passthrough"],
        certificate=certificate["chain"] + certificate["private_key"] if certificate.get("chain") else None,
    )


LOAD_BALANCER = Kind(
    name="load_balancer",
    parameter="lb_id",
    shown=_body,
    missing="load balancer not found",
    urn="loadbalancer",
    label="name",
    has_public_ip=True,
    in_vpc=True,
    lists_droplets=True,
    certificates=lambda balancer: [rule["certificate_id"] for rule in balancer["forwarding_rules"]],
    peers_field="load_balancer_uids",
    job="load_balancer:{id}",
    resumed=True,
    follows_membership=True,
    spec=_spec,
    lists=("loadBalancers_list",),
    reads=("loadBalancers_get",),
    removes=("loadBalancers_delete",),
    removing=lambda call, _: call.cloud.touch("firewalls"),  # it may be a source of them
)


# --- what a body says ------------------------------------------------------------------------------------------------


def _whole(given: Record, name: str, default: int | None, least: int, most: int) -> int:
    value = given.get(name)
    return whole({name: default if value in (None, 0) else value}, name, least, most)


def _choice(given: Record, name: str, options: tuple[str, ...], default: str | None = None) -> str:
    return one_of({name: given.get(name) or default}, name, options)


def _rule(call: Call, given: Record) -> Record:
    for side in ("entry_protocol", "target_protocol"):
        if (protocol := given.get(side)) in ("udp", "http3"):
            raise not_built(f"{_NOT_BUILT[str(protocol)]} through load balancers")
    rule: Record = {
        "entry_protocol": _choice(given, "entry_protocol", _ENTRIES),
        "entry_port": _whole(given, "entry_port", None, 1, 65535),
        "target_protocol": _choice(given, "target_protocol", _TARGETS),
        "target_port": _whole(given, "target_port", None, 1, 65535),
        "certificate_id": given.get("certificate_id") or "",
        "tls_passthrough": bool(given.get("tls_passthrough")),
    }
    if rule["entry_port"] in _RESERVED_PORTS:
        raise invalid(f"entry_port {rule['entry_port']} is reserved")
    tls = rule["entry_protocol"] in ("https", "http2")
    if (rule["entry_protocol"] == "tcp") != (rule["target_protocol"] == "tcp"):
        raise invalid("tcp can be forwarded to tcp only")
    if tls and bool(rule["certificate_id"]) == rule["tls_passthrough"]:
        raise invalid(f"an {rule['entry_protocol']} rule must have either certificate_id or tls_passthrough")
    if rule["tls_passthrough"] and (not tls or rule["target_protocol"] != rule["entry_protocol"]):
        raise invalid("tls_passthrough needs https or http2 on both sides")
    if rule["certificate_id"]:
        certificate = call.store.get("certificate", str(rule["certificate_id"]))
        if certificate is None or certificate["state"] != "verified":
            raise invalid(f"certificate {rule['certificate_id']} not found or not verified")
    return rule


def _rules(call: Call, before: list[Record]) -> list[Record]:
    rules = [*before, *(_rule(call, given) for given in call.objects("forwarding_rules"))]
    if not rules:
        raise invalid("at least one forwarding rule is required")
    if len({rule["entry_port"] for rule in rules}) < len(rules):
        raise invalid("forwarding rules must have different entry ports")
    return rules


def _health_check(call: Call) -> Record:
    given = call.object("health_check")
    protocol = _choice(given, "protocol", ("http", "https", "tcp"), "http")
    path = given.get("path") or ("" if protocol == "tcp" else "/")
    if not isinstance(path, str) or (path and (protocol == "tcp" or not _PATH.fullmatch(path))):
        raise invalid("health_check path must begin with / and is for http and https only")
    numbers = {name: _whole(given, name, *bounds) for name, bounds in _CHECK_NUMBERS.items()}
    return {"protocol": protocol, "path": path, **numbers}


def _sticky_sessions(call: Call) -> Record:
    given = call.object("sticky_sessions")
    if _choice(given, "type", ("none", "cookies"), "none") == "none":
        return {"type": "none"}
    name = given.get("cookie_name")
    if not isinstance(name, str) or not _COOKIE.fullmatch(name):
        raise invalid("cookie_name must have 2 to 40 letters, digits, dots, dashes and underscores")
    return {
        "type": "cookies",
        "cookie_name": name,
        "cookie_ttl_seconds": _whole(given, "cookie_ttl_seconds", None, 1, 2**31),
    }


def _firewall(call: Call) -> Record:
    given = call.object("firewall")
    found: Record = {name: list_of(str, given.get(name), name) for name in ("allow", "deny")}
    for entry in (*found["allow"], *found["deny"]):
        kind, _, source = entry.partition(":")
        try:
            parsed = {"ip": ipaddress.ip_address, "cidr": ipaddress.ip_network}[kind](source)
        except (KeyError, ValueError):
            raise invalid(f"invalid firewall rule: {entry}") from None
        if parsed.version != 4:
            raise not_built("IPv6 of load balancers")
    return found


def _targets(call: Call, vpc: str) -> Record:
    numbers, tag = list_of(int, call.body.get("droplet_ids"), "droplet_ids"), call.body.get("tag") or ""
    if not isinstance(tag, str) or (tag and numbers):
        raise invalid("droplet_ids and tag are mutually exclusive")
    if tag and call.store.get("tag", tag) is None:
        raise invalid(f"tag {tag} not found")
    return {"droplet_ids": _droplets(call, numbers, vpc), "tag": tag}


def _droplets(call: Call, numbers: list[int], vpc: str) -> list[int]:
    found = {droplet["id"]: droplet for droplet in living(call.store)}
    for number in numbers:
        if number not in found:
            raise invalid(f"droplet {number} not found")
        if found[number]["vpc_uuid"] != vpc:
            raise invalid(f"droplet {number} is not in the VPC of the load balancer")
    return list(dict.fromkeys(numbers))


def _settings(call: Call) -> Record:
    """Return all of a body that can be changed later, but for the droplets; what is absent has its default."""
    body = call.body
    for name, allowed in (("type", "REGIONAL"), ("network", "EXTERNAL"), ("network_stack", "IPV4")):
        if (value := str(body.get(name) or allowed).upper()) != allowed:
            raise not_built(f"load balancers of the {name} {value}")
    nodes = _SIZES.get(_choice(body, "size", tuple(_SIZES), "lb-small"), 1)
    return {
        "name": call.text("name", pattern=r"[a-zA-Z0-9.\-]{1,255}", message="name is invalid"),
        "size_unit": _whole(body, "size_unit", nodes, 1, _MOST_NODES),
        "algorithm": _choice(body, "algorithm", ("round_robin", "least_connections"), "round_robin"),
        "forwarding_rules": _rules(call, []),
        "health_check": _health_check(call),
        "sticky_sessions": _sticky_sessions(call),
        "firewall": _firewall(call),
        **{name: bool(body.get(name)) for name in _FLAGS},
        "http_idle_timeout_seconds": _whole(body, "http_idle_timeout_seconds", 60, 30, 600),
        "type": "REGIONAL",
        "network": "EXTERNAL",
        "network_stack": "IPV4",
        "tls_cipher_policy": _choice(body, "tls_cipher_policy", ("DEFAULT", "STRONG"), "DEFAULT"),
    }


def _put_in_project(call: Call, balancer: Record) -> None:
    if wanted := call.body.get("project_id"):
        if call.store.get("project", str(wanted)) is None:
            raise invalid("project not found")
        urn = LOAD_BALANCER.urn_of(balancer)
        call.store.put("assignment", urn, {"urn": urn, "project_id": wanted, "assigned_at": now()})


@operation("loadBalancers_create")
def create_balancer(call: Call) -> Body:
    """Make a load balancer. The answer says `new`; it is `active` by the next call, or was not made."""
    region = call.one_of("region", catalog.REGIONS, "region is invalid")
    settings = _settings(call)
    vpc = vpc_for(call, call.body.get("vpc_uuid"), region)
    balancer: Record = {
        "id": new_uuid(),
        "status": "new",
        "created_at": now(),
        "region": region,
        "vpc_uuid": vpc["id"],
        **settings,
        **_targets(call, vpc["id"]),
        "public_ip": free_public_ip(call.cloud),
        "private_ip": free_private_ip(call.store, vpc),
    }
    _put_in_project(call, balancer)
    return LOAD_BALANCER.save(call, balancer)


@operation("loadBalancers_update")
def update_balancer(call: Call) -> Body:
    """Replace all settings: what is not given has its default again. Region and VPC stay."""
    balancer = LOAD_BALANCER.find(call)
    for name, what in _FIXED.items():
        if call.body.get(name) not in (None, "", balancer[name]):
            raise invalid(f"the {what} of a load balancer cannot be changed")
    balancer |= {**_settings(call), **_targets(call, balancer["vpc_uuid"])}
    _put_in_project(call, balancer)
    return LOAD_BALANCER.save(call, balancer)


@operation("loadBalancers_add_droplets", "loadBalancers_remove_droplets")
def change_droplets(call: Call) -> None:
    """Add or remove droplets by number."""
    balancer = LOAD_BALANCER.find(call)
    given: list[Any] = list_of(int, call.body.get("droplet_ids"), "droplet_ids")
    if balancer["tag"]:
        raise invalid("droplets cannot be added to or removed from a load balancer with a tag")
    if not given:
        raise invalid("droplet_ids is required")
    if call.operation.method == "POST":
        numbers = _droplets(call, [*balancer["droplet_ids"], *given], balancer["vpc_uuid"])
    else:
        numbers = [number for number in balancer["droplet_ids"] if number not in given]
    LOAD_BALANCER.save(call, {**balancer, "droplet_ids": numbers})


@operation("loadBalancers_add_forwardingRules", "loadBalancers_remove_forwardingRules")
def change_rules(call: Call) -> None:
    """Add or remove forwarding rules; one to remove must be given exactly, and the last one stays."""
    balancer = LOAD_BALANCER.find(call)
    if not call.objects("forwarding_rules"):
        raise invalid("forwarding_rules is required")
    rules: list[Record] = balancer["forwarding_rules"]
    if call.operation.method == "POST":
        rules = _rules(call, rules)
    else:
        given = _rules(call, [])
        rules = [rule for rule in rules if rule not in given]
    if not rules:
        raise invalid("at least one forwarding rule is required")
    LOAD_BALANCER.save(call, {**balancer, "forwarding_rules": rules})


@job("load_balancer")
def converge_balancer(cloud: Cloud, ident: str) -> None:
    """Bring a balancer's container to what the store says, or remove it."""
    key = f"load_balancer:{ident}"
    with cloud.store.transaction():
        balancer = cloud.store.get("load_balancer", ident)
        spec = _spec(cloud.store, balancer) if balancer else None
    if spec is None:
        cloud.applied.pop(key, None)
        cloud.parts.load_balancers.delete(ident)
        return
    cloud.apply(key, spec, lambda: cloud.parts.load_balancers.apply(spec))
    with cloud.change():
        current = cloud.store.get("load_balancer", ident)
        if current and current["status"] == "new":
            cloud.store.put("load_balancer", ident, {**current, "status": "active"})
