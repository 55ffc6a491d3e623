"""Certificates: one's own, or issued by the sandbox's authority where DigitalOcean would ask Let's Encrypt."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from sandbox.api.context import ApiError, Body, Call, Cloud, invalid, job, new_uuid, now, operation
from sandbox.api.kinds import KINDS, Kind, by
from sandbox.parts.base import PartError
from sandbox.store import Record

_SHOWN = ("id", "name", "not_after", "sha1_fingerprint", "created_at", "dns_names", "state", "type")
_IN_USE = "Make sure the certificate is not in use before deleting it"


def _body(_: Call, certificate: Record) -> Body:
    return {name: certificate[name] for name in _SHOWN}


def _stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _facts(chain: str) -> Record:
    """Read what the API shows of a certificate.

    Raises:
        ValueError: not a PEM certificate.
    """
    leaf = x509.load_pem_x509_certificates(chain.encode())[0]
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns_names = names.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        dns_names = []
    return {
        "not_after": _stamp(leaf.not_valid_after_utc),
        # SHA-1 only names the certificate here, as in the API.
        "sha1_fingerprint": leaf.fingerprint(hashes.SHA1()).hex(),  # noqa: S303
        "dns_names": dns_names,
    }


def _own(call: Call) -> Record:
    private_key = call.text("private_key", message="Private key can't be blank")
    leaf = call.text("leaf_certificate", message="Leaf certificate can't be blank")
    chain = leaf.strip() + "\n" + str(call.body.get("certificate_chain") or "").strip() + "\n"
    try:
        facts = _facts(chain)
        key = serialization.load_pem_private_key(private_key.encode(), None)
        public = x509.load_pem_x509_certificate(leaf.encode()).public_key()
    except (ValueError, TypeError):
        raise invalid("Certificate or private key is not valid PEM") from None
    raw = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*raw) != public.public_bytes(*raw):
        raise invalid("Private key does not match the certificate")
    return {**facts, "type": "custom", "state": "verified", "chain": chain, "private_key": private_key}


def _issued(call: Call) -> Record:
    names = [name.lower() for name in call.texts("dns_names")]
    if not names:
        raise invalid("dns_names can't be blank")
    domains = [domain["name"] for domain in call.store.list("domain")]
    for name in names:
        if not any(name.removeprefix("*.") == domain or name.endswith(f".{domain}") for domain in domains):
            raise invalid(f"{name} is not managed by DigitalOcean DNS in this account")
    blank: Record = {"not_after": now(), "sha1_fingerprint": "", "chain": None, "private_key": None}
    return {**blank, "dns_names": names, "type": "lets_encrypt", "state": "pending"}


def _must_not_be_used(call: Call, certificate: Record) -> None:
    used = (name for kind in KINDS.values() for record in kind.living(call.store) for name in kind.certificates(record))
    if certificate["id"] in used:
        raise ApiError(403, _IN_USE)


CERTIFICATE = Kind(
    name="certificate",
    shown=_body,
    missing="certificate not found",
    filters=by("name"),
    label="name",
    job="certificate:{id}",
    resumed=True,
    lists=("certificates_list",),
    reads=("certificates_get",),
    removes=("certificates_delete",),
    removing=_must_not_be_used,
)


@operation("certificates_create")
def create_certificate(call: Call) -> Body:
    """Upload a certificate, or have one issued (`pending` until it is)."""
    name = call.text("name", message="Name can't be blank")
    if call.store.list("certificate", name=name):
        raise invalid("Name already exists")
    kind = call.one_of("type", ("custom", "lets_encrypt"), default="custom")
    fields = _own(call) if kind == "custom" else _issued(call)
    certificate: Record = {"id": new_uuid(), "name": name, "created_at": now(), **fields}
    call.store.put("certificate", certificate["id"], certificate)
    if certificate["state"] == "pending":
        call.cloud.touch(f"certificate:{certificate['id']}", wait=False)
    return {"certificate": _body(call, certificate)}


@job("certificate")
def issue(cloud: Cloud, ident: str) -> None:
    """Have a pending certificate issued."""
    certificate = cloud.store.get("certificate", ident)
    if certificate is None or certificate["state"] != "pending":
        return
    try:
        chain, private_key = cloud.parts.authority.issue(tuple(certificate["dns_names"]))
        issued = {"state": "verified", "chain": chain, "private_key": private_key, **_facts(chain)}
    except (PartError, ValueError):
        issued = {"state": "error"}
    with cloud.change():
        if current := cloud.store.get("certificate", ident):
            cloud.store.put("certificate", ident, {**current, **issued})
            cloud.touch("cdns", wait=False)
