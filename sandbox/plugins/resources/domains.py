"""Domains, their records, and certificates."""

from __future__ import annotations

import hashlib

from sandbox.plugins.errors import ProviderError, unfinished
from sandbox.plugins.fields import between, filled, one_of, ordered
from sandbox.plugins.resource import Change, Cloud, Made, Resource
from sandbox.plugins.resources.common import Endpoint, camelled, name, retried, segment, shown, two_parts, unless_empty
from sandbox.plugins.rest import RestError
from sandbox.plugins.schema import how
from sandbox.plugins.values import UNKNOWN, Values


def _domain_body(new: Values) -> Values:
    return {"name": new["name"]} | unless_empty(ip_address=new.get("ipAddress"))


def _domain_state(domain: Values) -> Values:
    return {**camelled(domain), "domainUrn": f"do:domain:{domain['name']}"}


DOMAIN = Endpoint("/v2/domains", "domain", _domain_body, _domain_state, id="name").resource(
    "Domain",
    {"name": how(replace=True, check=filled), "ipAddress": how(replace=True, check=filled)},
    update=None,
)

_TYPES = ("A", "AAAA", "CAA", "CNAME", "MX", "NS", "TXT", "SRV", "SOA")


def _record_body(new: Values) -> Values:
    """The numbers that are not given are 0, as the official client writes them; `ttl` and `tag` are then left out."""
    return {
        "name": new["name"],
        "data": new["value"],
        "priority": new.get("priority") or 0,
        "port": new.get("port") or 0,
        "weight": new.get("weight") or 0,
        "flags": new.get("flags") or 0,
        **unless_empty(ttl=new.get("ttl"), tag=new.get("tag")),
    }


def _create_record(cloud: Cloud, new: Values) -> Made:
    body = {"type": new["type"]} | _record_body(new)
    answer = cloud.rest.post(f"/v2/domains/{segment(new['domain'])}/records", body)
    return Made(str(answer["domain_record"]["id"]))


def _read_record(cloud: Cloud, id_: str, known: Values) -> Values | None:
    domain = known.get("domain")
    if not domain:
        raise ProviderError(f"record {id_}: its domain is not known; import needs <domain>,<record id>")
    record = cloud.rest.find(f"/v2/domains/{segment(domain)}/records/{id_}", "domain_record")
    if record is None:
        return None
    data = record["data"]
    # The API gives host names without the last dot that it wants to be given.
    if record["type"] in ("CNAME", "MX", "NS", "SRV", "CAA") and data != "@" and record.get("tag") != "iodef":
        data += "."
    return {
        **shown(record, "name", "type"),
        "value": data,
        "port": record.get("port") or 0,
        "priority": record.get("priority") or 0,
        "ttl": record["ttl"],
        "weight": record.get("weight") or 0,
        "flags": record.get("flags") or 0,
        "tag": record.get("tag") or "",
        "fqdn": _fqdn(record["name"], domain),
    }


def _fqdn(relative: str, domain: str) -> str:
    if relative == "@":
        return domain
    lower = relative.lower()
    return lower.rstrip(".") if lower.endswith(f"{domain}.") else f"{relative}.{domain}"


def _update_record(cloud: Cloud, change: Change) -> None:
    path = f"/v2/domains/{segment(change.new['domain'])}/records/{change.id}"
    cloud.rest.put(path, _record_body(change.new))


def _delete_record(cloud: Cloud, id_: str, known: Values) -> None:
    cloud.rest.remove(f"/v2/domains/{segment(known['domain'])}/records/{id_}")


def _find_record(_: Cloud, id_: str) -> tuple[str, Values]:
    domain, number = two_parts("record ", "<domain>,<record id>", id_, numbered=True)
    return number, {"domain": domain}


def _same_name(old: str, new: str, inputs: Values) -> bool:
    domain = f"{inputs.get('domain')}."
    return (old == "@" and new == domain) or f"{old}.{domain}" == new


def _same_value(old: str, new: str, inputs: Values) -> bool:
    domain = f"{inputs.get('domain')}."
    return (old == "@" and new == domain) or old == f"{new}.{domain}"


_NEEDED = {"MX": ("priority",), "SRV": ("priority", "weight", "port"), "CAA": ("flags", "tag")}


def _check_record(new: Values) -> list[tuple[str, str]]:
    kind = new["type"]
    if kind is UNKNOWN:
        return []
    return [(key, f"is required when the type is {kind}") for key in _NEEDED.get(kind, ()) if new.get(key) is None]


DNS_RECORD = Resource(
    name="DnsRecord",
    properties={
        "type": how(replace=True, check=one_of(*_TYPES)),
        "domain": how(replace=True, check=filled),
        "name": name(same=_same_name),
        "value": how(same=_same_value),
        "port": how(check=between(0, 65535)),
        "priority": how(check=between(0, 65535)),
        "weight": how(check=between(0, 65535)),
        "ttl": how(computed=True, check=between(1, 2**31 - 1)),
        "flags": how(check=between(0, 255)),
        "tag": how(check=one_of("issue", "issuewild", "iodef")),
    },
    create=_create_record,
    read=_read_record,
    update=_update_record,
    delete=_delete_record,
    find=_find_record,
    check=_check_record,
)


def _digest(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def certificate_by_name(cloud: Cloud, wanted: str) -> Values | None:
    """Look a certificate up by its name: its id changes when it is renewed."""
    found = cloud.rest.get("/v2/certificates", name=wanted)["certificates"]
    return found[0] if found else None


def _create_certificate(cloud: Cloud, new: Values) -> Made:
    body = unless_empty(
        name=new["name"],
        dns_names=ordered(new.get("domains") or []),
        private_key=new.get("privateKey"),
        leaf_certificate=new.get("leafCertificate"),
        certificate_chain=new.get("certificateChain"),
        type=new["type"],
    )
    made = cloud.rest.post("/v2/certificates", body)["certificate"]
    state = {"pending": True}

    def verified() -> bool:
        now = cloud.rest.get(f"/v2/certificates/{made['id']}")["certificate"]["state"]
        if now not in ("pending", "verified"):
            raise ProviderError(f"certificate {made['name']}: {now}")
        state["pending"] = now == "pending"
        return not state["pending"]

    with unfinished(made["name"], name=made["name"], uuid=made["id"]):
        cloud.wait(f"certificate {made['name']}: verified", 600, verified)
    return Made(made["name"], {"uuid": made["id"]})


def _read_certificate(cloud: Cloud, id_: str, _: Values) -> Values | None:
    found = certificate_by_name(cloud, id_)
    if found is None:
        return None
    return {
        **camelled(found),
        "uuid": found["id"],
        "domains": [domain for domain in found.get("dns_names") or [] if domain],
    }


def _delete_certificate(cloud: Cloud, id_: str, _: Values) -> None:
    found = certificate_by_name(cloud, id_)
    if found is None:
        return

    def in_use(error: RestError) -> bool:
        said = error.said.lower()
        texts = (
            "make sure the certificate is not in use before deleting it",
            "being used by one or more load balancers",
        )
        return error.status == 403 and any(text in said for text in texts)

    path = f"/v2/certificates/{found['id']}"
    retried(cloud, 900, f"certificate {id_}: not in use", lambda: cloud.rest.remove(path), again=in_use)


def _check_certificate(new: Values) -> list[tuple[str, str]]:
    if new["type"] == "lets_encrypt":
        return [] if new.get("domains") else [("domains", "is required when the type is lets_encrypt")]
    return [
        (key, "is required when the type is custom") for key in ("privateKey", "leafCertificate") if not new.get(key)
    ]


CERTIFICATE = Resource(
    name="Certificate",
    properties={
        "name": name(replace=True),
        "type": how(default="custom", replace=True, check=one_of("custom", "lets_encrypt")),
        "privateKey": how(replace=True, secret=True, check=filled, stored=_digest),
        "leafCertificate": how(replace=True, check=filled, stored=_digest),
        "certificateChain": how(replace=True, check=filled, stored=_digest),
        # A custom certificate says its domains itself.
        "domains": how(
            unordered=True,
            replace=True,
            computed=True,
            same=lambda _old, _new, inputs: inputs.get("type") == "custom",
            item=how(check=filled),
        ),
    },
    create=_create_certificate,
    read=_read_certificate,
    delete=_delete_certificate,
    check=_check_certificate,
)

RESOURCES = (DOMAIN, DNS_RECORD, CERTIFICATE)
