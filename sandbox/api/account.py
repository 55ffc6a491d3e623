"""The account, its SSH keys, and what DigitalOcean offers: regions, sizes, images."""

from __future__ import annotations

import base64
import binascii
import hashlib

from sandbox import catalog
from sandbox.api.context import Body, Call, invalid, operation
from sandbox.api.kinds import Kind
from sandbox.store import Record

DROPLET_LIMIT = 25
RESERVED_IP_LIMIT = 5


@operation("account_get")
def get_account(call: Call) -> Body:
    """Return the sandbox's account."""
    account = call.store.get_meta("account")
    return {
        "account": {
            "droplet_limit": DROPLET_LIMIT,
            "floating_ip_limit": RESERVED_IP_LIMIT,
            "reserved_ip_limit": RESERVED_IP_LIMIT,
            "volume_limit": 100,
            "email": account["email"],
            "name": "Ancla Sandbox",
            "uuid": account["uuid"],
            "email_verified": True,
            "status": "active",
            "status_message": "",
            # What holds the resources. A member of several teams has a token for each, so the two ids differ.
            "team": {"uuid": call.store.get_meta("team"), "name": "Ancla Sandbox"},
        }
    }


def fingerprint(public_key: str) -> str:
    """Return the MD5 fingerprint of an OpenSSH public key line.

    Raises:
        ApiError: 422, the line is not a key.
    """
    kind, _, rest = public_key.partition(" ")
    try:
        blob = base64.b64decode(rest.split(" ")[0], validate=True)
    except binascii.Error:
        blob = b""
    # The first field of the key itself repeats its type (RFC 4253, section 6.6).
    if not kind or blob[4 : 4 + int.from_bytes(blob[:4], "big")] != kind.encode():
        raise invalid("Key invalid, key should be of the format `type key [comment]`")
    digest = hashlib.md5(blob, usedforsecurity=False).hexdigest()
    return ":".join(digest[at : at + 2] for at in range(0, 32, 2))


def find_key(call: Call, ident: str) -> Record | None:
    """Find an SSH key by number or fingerprint."""
    return next(
        (key for key in call.store.list("ssh_key") if ident in (str(key["id"]), key["fingerprint"])),
        None,
    )


SSH_KEY = Kind(
    name="ssh_key",
    parameter="ssh_key_identifier",
    lookup=lambda call: find_key(call, call.params["ssh_key_identifier"]),
    label="name",
    lists=("sshKeys_list",),
    reads=("sshKeys_get",),
    removes=("sshKeys_delete",),  # droplets that have it keep it
)


@operation("sshKeys_create")
def create_key(call: Call) -> Body:
    """Add an SSH key; the same key twice is refused."""
    name = call.text("name", message="Name can't be blank")
    public_key = call.text("public_key", message="Public key can't be blank").strip()
    mark = fingerprint(public_key)
    if call.store.list("ssh_key", fingerprint=mark):
        raise invalid("SSH Key is already in use on your account")
    number = call.store.next_number("ssh_key", 48_120_001)
    return SSH_KEY.save(call, {"id": number, "fingerprint": mark, "public_key": public_key, "name": name})


@operation("sshKeys_update")
def update_key(call: Call) -> Body:
    """Rename an SSH key."""
    return SSH_KEY.save(call, {**SSH_KEY.find(call), "name": call.text("name")})


@operation("regions_list")
def list_regions(call: Call) -> Body:
    """List the regions."""
    return call.page("regions", list(catalog.REGIONS), catalog.region_body)


@operation("sizes_list")
def list_sizes(call: Call) -> Body:
    """List the droplet sizes."""
    return call.page("sizes", list(catalog.SIZES), catalog.size_body)
