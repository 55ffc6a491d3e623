"""Load balancers."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from sandbox.plugins.errors import ProviderError, unfinished
from sandbox.plugins.fields import (
    between,
    filled,
    one_of,
    ordered,
)
from sandbox.plugins.resource import Change, Cloud, Made, Resource
from sandbox.plugins.resources.common import name, region, segment, snaked, unless_empty
from sandbox.plugins.resources.edge import certificate_id
from sandbox.plugins.schema import Says, how
from sandbox.plugins.values import UNKNOWN, Values

_CREATE_SECONDS = 600
_PORT = between(1, 65535)
_CHECK = snaked(
    *("protocol", "port", "path", "checkIntervalSeconds", "responseTimeoutSeconds"),
    *("unhealthyThreshold", "healthyThreshold"),
)
_STICKY = snaked("type", "cookieName", "cookieTtlSeconds")
_FIREWALL = {"allows": "allow", "denies": "deny"}
_OBJECTS = (
    ("healthcheck", "health_check", _CHECK),
    ("stickySessions", "sticky_sessions", _STICKY),
    ("firewall", "firewall", _FIREWALL),
)
_RULE = snaked("entryProtocol", "entryPort", "targetProtocol", "targetPort", "tlsPassthrough")
# What is read back as it was sent, and what else is sent as it is, unless it is empty.
_READ = snaked(
    *("name", "algorithm", "redirectHttpToHttps", "enableProxyProtocol", "enableBackendKeepalive"),
    *("projectId", "httpIdleTimeoutSeconds", "vpcUuid", "type"),
)
_SENT = _READ | snaked("region", "subnetUuid", "network", "networkStack", "tlsCipherPolicy")


def _wire(values: Values, names: dict[str, str]) -> Values:
    return unless_empty(**{wire: values.get(key) for key, wire in names.items()})


def _rule_order(rule: Values) -> str:
    """Return what the official provider sorts its set of rules by: a checksum of its own, as text."""
    certificate = rule.get("certificateId") or rule.get("certificateName") or ""
    parts = (rule["entryPort"], rule["entryProtocol"].lower(), rule["targetPort"], rule["targetProtocol"].lower())
    passed = str(bool(rule.get("tlsPassthrough"))).lower()
    return str(zlib.crc32("".join(f"{part}-" for part in (*parts, certificate, passed)).encode()))


def _rule_body(cloud: Cloud, rule: Values) -> Values:
    return _wire(rule, _RULE) | unless_empty(certificate_id=certificate_id(cloud, rule))


def _domain_body(cloud: Cloud, domain: Values) -> Values:
    certificate = certificate_id(cloud, {"certificateName": domain.get("certificateName")})
    return unless_empty(name=domain["name"], is_managed=domain.get("isManaged"), certificate_id=certificate)


def _global_body(settings: Values) -> Values:
    body = unless_empty(target_protocol=settings["targetProtocol"], target_port=settings["targetPort"])
    if settings.get("cdn"):
        body["cdn"] = {"is_enabled": bool(settings["cdn"].get("isEnabled"))}
    if settings.get("regionPriorities"):
        body |= unless_empty(
            region_priorities=settings["regionPriorities"], failover_threshold=settings.get("failoverThreshold")
        )
    return body


def _body(cloud: Cloud, new: Values) -> Values:
    body = _wire(new, _SENT) | {"disable_lets_encrypt_dns_records": bool(new.get("disableLetsEncryptDnsRecords"))}
    # Once it is known, the number of nodes wins over the older `size`, in the official provider too.
    body |= unless_empty(size_unit=new.get("sizeUnit")) or unless_empty(size=new.get("size"))
    rules = sorted(new.get("forwardingRules") or [], key=_rule_order)
    body |= unless_empty(
        forwarding_rules=[_rule_body(cloud, rule) for rule in rules],
        domains=[_domain_body(cloud, domain) for domain in new.get("domains") or []],
        glb_settings=_global_body(new["glbSettings"]) if new.get("glbSettings") else None,
        target_load_balancer_ids=ordered(new.get("targetLoadBalancerIds") or []),
    )
    # Once it is known, an object is sent even if nothing is in it.
    for key, wire, names in _OBJECTS:
        if new.get(key) is not None:
            body[wire] = _wire(new[key], names)
    if new.get("dropletTag"):
        return body | {"tag": new["dropletTag"]}
    return body | unless_empty(droplet_ids=ordered(new.get("dropletIds") or []))


def _create(cloud: Cloud, new: Values) -> Made:
    ident = cloud.rest.post("/v2/load_balancers", _body(cloud, new))["load_balancer"]["id"]
    what = f"load balancer {new['name']}"

    def active() -> bool:
        status = cloud.rest.get(f"/v2/load_balancers/{ident}")["load_balancer"]["status"]
        if status not in ("new", "active"):
            raise ProviderError(f"{what}: {status}")
        return status == "active"

    with unfinished(ident):
        cloud.wait(f"{what}: active", _CREATE_SECONDS, active)
    return Made(ident)


def _state(found: Values | None, names: dict[str, str]) -> Values:
    return {key: (found or {}).get(wire) for key, wire in names.items()}


def _rule_state(cloud: Cloud, rule: Values) -> Values:
    state = _state(rule, _RULE) | {"tlsPassthrough": bool(rule.get("tls_passthrough"))}
    if rule.get("certificate_id"):
        # The id of a certificate changes when it is renewed; the name stands for both.
        named = cloud.rest.get(f"/v2/certificates/{segment(rule['certificate_id'])}")["certificate"]["name"]
        state |= {"certificateId": named, "certificateName": named}
    return state


def _read(cloud: Cloud, id_: str, _: Values) -> Values | None:
    found = cloud.rest.find(f"/v2/load_balancers/{segment(id_)}", "load_balancer")
    if found is None:
        return None
    state = _state(found, _READ)
    state |= {
        "loadBalancerUrn": f"do:loadbalancer:{found['id']}",
        "ip": found["ip"],
        "status": found["status"],
        "dropletTag": found.get("tag") or "",
        "dropletIds": found.get("droplet_ids") or [],
        "disableLetsEncryptDnsRecords": bool(found.get("disable_lets_encrypt_dns_records")),
        "forwardingRules": [_rule_state(cloud, rule) for rule in found.get("forwarding_rules") or []],
        **{key: _state(found.get(wire), names) for key, wire, names in _OBJECTS},
    }
    if found.get("ipv6"):
        state["ipv6"] = found["ipv6"]
    state |= {"sizeUnit": found["size_unit"]} if found.get("size_unit") else {"size": found.get("size")}
    if found.get("region"):
        state["region"] = found["region"]["slug"]
    return state


def _update(cloud: Cloud, change: Change) -> None:
    cloud.rest.put(f"/v2/load_balancers/{segment(change.id)}", _body(cloud, change.new))


def _delete(cloud: Cloud, id_: str, _: Values) -> None:
    cloud.rest.remove(f"/v2/load_balancers/{segment(id_)}")


def _check(new: Values) -> list[tuple[str, str]]:
    wrong: list[tuple[str, str]] = []
    for key, kind, needs, wanted in (
        ("healthcheck", "protocol", ("path",), ("http", "https")),
        ("stickySessions", "type", ("cookieName", "cookieTtlSeconds"), ("cookies",)),
    ):
        given: Any = new.get(key)
        if not isinstance(given, dict) or given.get(kind) is UNKNOWN:
            continue
        for part in needs:
            if (given.get(kind) in wanted) != bool(given.get(part)):
                verb = "is required" if given.get(kind) in wanted else "is not allowed"
                wrong.append((f"{key}.{part}", f"{verb} when the {kind} is {given.get(kind)}"))
    everywhere = str(new.get("type") or "").upper() == "GLOBAL"
    if new.get("type") is not UNKNOWN and everywhere == bool(new.get("region")):
        wrong.append(("region", "must be empty for a GLOBAL load balancer" if everywhere else "is required"))
    if new.get("dropletTag") and new.get("dropletIds"):
        wrong.append(("dropletTag", "conflicts with dropletIds"))
    return wrong


def _in_any_case(*choices: str) -> Callable[[Any], str | None]:
    return lambda value: one_of(*choices)(str(value).upper())


def _port_of_the_web(value: Any) -> str | None:
    return None if value in (80, 443) else f"expected 80 or 443, got {value}"


def _cookie_name(value: Any) -> str | None:
    return None if 2 <= len(value) <= 40 else "expected 2 to 40 characters"


def _seconds(default: int) -> Says:
    return how(default=default, check=between(3, 300))


def _threshold(default: int) -> Says:
    return how(default=default, check=between(2, 10))


LOAD_BALANCER = Resource(
    name="LoadBalancer",
    properties={
        "name": name(),
        "region": region(replace=True),
        "size": how(check=one_of("lb-small", "lb-medium", "lb-large")),
        "sizeUnit": how(computed=True, check=between(1, 200)),
        "algorithm": how(default="round_robin", check=one_of("round_robin", "least_connections")),
        "forwardingRules": how(
            unordered=True,
            inner={
                "entryProtocol": how(check=one_of("http", "https", "http2", "http3", "tcp", "udp")),
                "entryPort": how(check=_PORT),
                "targetProtocol": how(check=one_of("http", "https", "http2", "tcp", "udp")),
                "targetPort": how(check=_PORT),
                "certificateId": how(computed=True, check=filled),
                "certificateName": how(computed=True, check=filled),
                "tlsPassthrough": how(default=False),
            },
        ),
        "healthcheck": how(
            computed=True,
            inner={
                "protocol": how(check=one_of("http", "https", "tcp")),
                "port": how(check=_PORT),
                "path": how(check=filled),
                "checkIntervalSeconds": _seconds(10),
                "responseTimeoutSeconds": _seconds(5),
                "unhealthyThreshold": _threshold(3),
                "healthyThreshold": _threshold(5),
            },
        ),
        "stickySessions": how(
            computed=True,
            inner={
                "type": how(default="none", check=one_of("cookies", "none")),
                "cookieName": how(check=_cookie_name),
                "cookieTtlSeconds": how(check=between(1, 2**31)),
            },
        ),
        "dropletIds": how(unordered=True, computed=True),
        "dropletTag": how(check=filled, same=lambda old, new, _: str(old).casefold() == str(new).casefold()),
        "redirectHttpToHttps": how(default=False),
        "enableProxyProtocol": how(default=False),
        "enableBackendKeepalive": how(default=False),
        "disableLetsEncryptDnsRecords": how(default=False),
        "httpIdleTimeoutSeconds": how(computed=True),
        "vpcUuid": how(computed=True, replace=True, check=filled),
        "subnetUuid": how(computed=True, replace=True, check=filled),
        "projectId": how(computed=True),
        "firewall": how(computed=True),
        "type": how(computed=True, replace=True, check=_in_any_case("REGIONAL", "GLOBAL", "REGIONAL_NETWORK")),
        "domains": how(
            unordered=True,
            computed=True,
            inner={
                "name": how(check=filled),
                "isManaged": how(default=False),
                "certificateId": how(computed=True),
                "certificateName": how(computed=True, check=filled),
                "verificationErrorReasons": how(computed=True),
                "sslValidationErrorReasons": how(computed=True),
            },
        ),
        "glbSettings": how(
            computed=True,
            inner={
                "targetProtocol": how(check=one_of("http", "https")),
                "targetPort": how(check=_port_of_the_web),
                "failoverThreshold": how(check=between(1, 99)),
                "cdn": how(inner={"isEnabled": how(default=False)}),
            },
        ),
        "targetLoadBalancerIds": how(unordered=True, computed=True),
        "network": how(replace=True, check=_in_any_case("EXTERNAL", "INTERNAL")),
        "networkStack": how(replace=True, check=_in_any_case("IPV4", "DUALSTACK")),
        "tlsCipherPolicy": how(check=_in_any_case("DEFAULT", "STRONG")),
        "ip": how(computed=True),
    },
    create=_create,
    read=_read,
    update=_update,
    delete=_delete,
    check=_check,
)

RESOURCES = (LOAD_BALANCER,)
