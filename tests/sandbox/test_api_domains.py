from __future__ import annotations

import contextlib

import dns.zone
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.api.dns_data import stored_data, zone_data
from sandbox.store import Store
from tests.sandbox.conftest import Sandbox

RECORDS = "/v2/domains/example.org/records"


@pytest.fixture(scope="module", autouse=True)
def domain(shared: Sandbox) -> None:
    shared.post("/v2/domains", {"name": "example.org"})


def _zone(sandbox: Sandbox) -> set[tuple[str, str, str]]:
    return {
        (record.name, record.type, record.data) for record in sandbox.parts.zones["example.org"] if record.type != "NS"
    }


def test_a_domain_comes_with_soa_and_name_servers(sandbox: Sandbox):
    sandbox.post("/v2/domains", {"name": "example.org"})
    records = sandbox.get(RECORDS)["domain_records"]
    assert [(record["type"], record["name"], record["data"]) for record in records] == [
        ("SOA", "@", "1800"),
        ("NS", "@", "ns1.digitalocean.com"),
        ("NS", "@", "ns2.digitalocean.com"),
        ("NS", "@", "ns3.digitalocean.com"),
    ]
    types = [record.type for record in sandbox.parts.zones["example.org"]]
    assert types == ["NS", "NS", "NS"], "the name server makes the SOA record"
    zone_file = sandbox.get("/v2/domains/example.org")["domain"]["zone_file"]
    assert "example.org. 1800 IN NS ns1.digitalocean.com." in zone_file
    sandbox.post("/v2/domains", {"name": "two.example.org", "ip_address": "192.0.2.1"})
    assert ("two.example.org.", "A") in {(r.name, r.type) for r in sandbox.parts.zones["two.example.org"]}


def test_a_domain_is_made_once_and_has_to_be_a_name(sandbox: Sandbox):
    sandbox.post("/v2/domains", {"name": "example.org"})
    assert sandbox.refused("POST", "/v2/domains", {"name": "example.org"})[0] == 422
    for name in ("nodots", "a_b.org", "-a.org", "example.o", "example.1a", "b\u00fccher.example"):
        assert sandbox.refused("POST", "/v2/domains", {"name": name})[0] == 422
    sandbox.delete("/v2/domains/example.org")
    assert "example.org" not in sandbox.parts.zones
    assert sandbox.refused("GET", RECORDS)[0] == 404


@pytest.mark.parametrize(
    ("given", "stored", "published"),
    [
        ({"type": "A", "name": "@", "data": "192.0.2.1"}, "192.0.2.1", ("example.org.", "192.0.2.1")),
        ({"type": "AAAA", "name": "www", "data": "2001:db8::1"}, "2001:db8::1", ("www.example.org.", "2001:db8::1")),
        ({"type": "CNAME", "name": "www", "data": "@"}, "@", ("www.example.org.", "example.org.")),
        (
            {"type": "CNAME", "name": "assets", "data": "b.nyc3.cdn.digitaloceanspaces.com."},
            "b.nyc3.cdn.digitaloceanspaces.com",
            ("assets.example.org.", "b.nyc3.cdn.digitaloceanspaces.com."),
        ),
        (
            {"type": "MX", "name": "@", "data": "mail.example.net.", "priority": 10},
            "mail.example.net",
            ("example.org.", "10 mail.example.net."),
        ),
        (
            {"type": "SRV", "name": "_sip._tcp", "data": "sip.example.net.", "priority": 1, "weight": 2, "port": 5060},
            "sip.example.net",
            ("_sip._tcp.example.org.", "1 2 5060 sip.example.net."),
        ),
        (
            {"type": "CAA", "name": "@", "data": "letsencrypt.org.", "flags": 0, "tag": "issue"},
            "letsencrypt.org",
            ("example.org.", '0 issue "letsencrypt.org"'),
        ),
        (
            {"type": "MX", "name": "@", "data": "example.org.", "priority": 0},
            "@",
            ("example.org.", "0 example.org."),
        ),
        ({"type": "MX", "name": "@", "data": ".", "priority": 0}, ".", ("example.org.", "0 .")),
        (
            {"type": "SRV", "name": "_imap._tcp", "data": ".", "priority": 0, "weight": 0, "port": 0},
            ".",
            ("_imap._tcp.example.org.", "0 0 0 ."),
        ),
        (
            {"type": "CAA", "name": "@", "data": ";.", "flags": 0, "tag": "issuewild"},
            ";",
            ("example.org.", '0 issuewild ";"'),
        ),
        (
            {"type": "CAA", "name": "@", "data": "ca.example; x=1.", "flags": 0, "tag": "issue"},
            "ca.example; x=1",
            ("example.org.", '0 issue "ca.example; x=1"'),
        ),
        (
            {"type": "TXT", "name": "@", "data": "a\nb\u00e9"},
            "a\nb\u00e9",
            ("example.org.", '"a\\010b\\195\\169"'),
        ),
        (
            {"type": "CAA", "name": "@", "data": "mailto:a@example.org", "flags": 0, "tag": "iodef"},
            "mailto:a@example.org",
            ("example.org.", '0 iodef "mailto:a@example.org"'),
        ),
        (
            {"type": "TXT", "name": "@", "data": 'v=spf1 "x" -all'},
            'v=spf1 "x" -all',
            ("example.org.", '"v=spf1 \\"x\\" -all"'),
        ),
        (
            {"type": "TXT", "name": "dkim._domainkey", "data": "k" * 300},
            "k" * 300,
            ("dkim._domainkey.example.org.", f'"{"k" * 200}" "{"k" * 100}"'),
        ),
        ({"type": "A", "name": "*.app", "data": "192.0.2.1"}, "192.0.2.1", ("*.app.example.org.", "192.0.2.1")),
    ],
)
def test_records_are_stored_without_a_final_dot_and_published_with_it(shared: Sandbox, given, stored, published):
    # The provider sends a zero for every number a type has not.
    zeroes = {"priority": 0, "port": 0, "weight": 0, "flags": 0, "tag": ""}
    record = shared.post(RECORDS, zeroes | given)["domain_record"]
    assert (record["data"], record["name"], record["ttl"]) == (stored, given["name"], 1800)
    for name in ("priority", "port", "weight", "flags", "tag"):
        assert record[name] == given.get(name)
    owner, data = published
    assert _zone(shared) == {(owner, given["type"], data)}
    assert shared.get(f"{RECORDS}/{record['id']}")["domain_record"] == record
    shared.delete(f"{RECORDS}/{record['id']}")


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"type": "CNAME", "name": "www", "data": "example.net"}, "Data needs to end with a dot (.)"),
        ({"type": "MX", "name": "@", "data": "mail.example.net", "priority": 1}, "Data needs to end with a dot (.)"),
        ({"type": "CAA", "name": "@", "data": "letsencrypt.org", "flags": 0, "tag": "issue"}, "dot"),
        ({"type": "MX", "name": "@", "data": "10 mail.example.net.", "priority": 1}, "hostname"),
        ({"type": "MX", "name": "@", "data": "a..", "priority": 1}, "hostname"),
        ({"type": "CNAME", "name": "www", "data": "."}, "hostname"),
        ({"type": "CAA", "name": "@", "data": "a\nb.", "flags": 0, "tag": "issue"}, "Data"),
        ({"type": "AAAA", "name": "@", "data": "fe80::1%eth0"}, "IPv6"),
        ({"type": "A", "name": "a" * 60 + ("." + "b" * 60) * 3, "data": "192.0.2.1"}, "Name"),
        ({"type": "MX", "name": "@", "data": "a.example.", "priority": True}, "Priority"),
        ({"type": "A", "name": "@", "data": "192.0.2.1", "ttl": 2**31}, "TTL"),
        ({"type": "A", "name": "@", "data": "300.1.1.1"}, "IPv4"),
        ({"type": "AAAA", "name": "@", "data": "192.0.2.1"}, "IPv6"),
        ({"type": "A", "name": "", "data": "192.0.2.1"}, "Name can't be blank"),
        ({"type": "A", "name": "a b", "data": "192.0.2.1"}, "Name"),
        ({"type": "A", "name": "@"}, "Data can't be blank"),
        ({"type": "SPF", "name": "@", "data": "x"}, "Type"),
        ({"type": "A", "name": "@", "data": "192.0.2.1", "ttl": 5}, "TTL"),
        ({"type": "SRV", "name": "_a._tcp", "data": "@", "priority": 1}, "Port"),
        ({"type": "CAA", "name": "@", "data": "a.", "flags": 300, "tag": "issue"}, "255"),
        ({"type": "CNAME", "name": "@", "data": "a.example."}, "CNAME"),
    ],
)
def test_a_wrong_record_is_refused(shared: Sandbox, given, part):
    status, message = shared.refused("POST", RECORDS, given)
    assert status == 422
    assert part in message
    assert _zone(shared) == set()


def test_records_change_share_a_ttl_and_go(sandbox: Sandbox):
    sandbox.post("/v2/domains", {"name": "example.org"})
    first = sandbox.post(RECORDS, {"type": "A", "name": "www", "data": "192.0.2.1"})["domain_record"]
    body = {"type": "A", "name": "www", "data": "192.0.2.2", "ttl": 60}
    sandbox.post(RECORDS, body)
    assert sandbox.get(f"{RECORDS}/{first['id']}")["domain_record"]["ttl"] == 60
    changed = sandbox.put(f"{RECORDS}/{first['id']}", {"type": "A", "name": "api", "data": "192.0.2.3"})
    assert (changed["domain_record"]["name"], changed["domain_record"]["ttl"]) == ("api", 60)
    sandbox.send("PATCH", f"{RECORDS}/{first['id']}", {"type": "A", "ttl": 120})
    assert sandbox.get(f"{RECORDS}?type=A&name=api.example.org")["domain_records"][0]["ttl"] == 120
    sandbox.delete(f"{RECORDS}/{first['id']}")
    assert _zone(sandbox) == {("www.example.org.", "A", "192.0.2.2")}
    assert sandbox.refused("GET", f"{RECORDS}/{first['id']}")[0] == 404


@pytest.mark.parametrize("name", ["xn--e1afmkfd.xn--p1ai", "xn--mnchen-3ya.example", "shop.xn--3e0b707e"])
def test_an_internationalized_domain_is_taken_in_its_ascii_form(sandbox: Sandbox, name: str):
    sandbox.post("/v2/domains", {"name": name, "ip_address": "192.0.2.1"})
    sandbox.post(f"/v2/domains/{name}/records", {"type": "CNAME", "name": "www", "data": f"{name}."})
    records = {(record.name, record.type, record.data) for record in sandbox.parts.zones[name]}
    assert {(f"{name}.", "A", "192.0.2.1"), (f"www.{name}.", "CNAME", f"{name}.")} <= records


def test_the_same_record_twice_is_two_records_and_one_line_of_the_zone(sandbox: Sandbox):
    """As at DigitalOcean: two programs that give the domain its name servers end with six of them."""
    sandbox.post("/v2/domains", {"name": "example.org"})
    body = {"type": "NS", "name": "@", "data": "ns1.digitalocean.com."}
    second = sandbox.post(RECORDS, body)["domain_record"]
    names = [record["data"] for record in sandbox.get(f"{RECORDS}?type=NS")["domain_records"]]
    assert names.count("ns1.digitalocean.com") == 2
    published = [record.data for record in sandbox.parts.zones["example.org"] if record.type == "NS"]
    assert published.count("ns1.digitalocean.com.") == 1
    sandbox.delete(f"{RECORDS}/{second['id']}")
    assert len(sandbox.get(f"{RECORDS}?type=NS")["domain_records"]) == 3


def test_a_change_without_data_misses_the_dot_that_was_cut_off(sandbox: Sandbox):
    sandbox.post("/v2/domains", {"name": "example.org"})
    made = sandbox.post(RECORDS, {"type": "CNAME", "name": "www", "data": "a.example."})["domain_record"]
    path = f"{RECORDS}/{made['id']}"
    refused = sandbox.refused("PUT", path, {"type": "CNAME", "name": "www", "ttl": 60})
    assert refused == (422, "Data needs to end with a dot (.)")
    sandbox.put(path, {"type": "CNAME", "name": "www", "data": "a.example.", "ttl": 60})


def test_one_record_that_no_zone_file_can_have_does_not_cost_the_others(sandbox: Sandbox):
    sandbox.post("/v2/domains", {"name": "example.org"})
    store = Store(sandbox.home / "state.db")
    fields = {"priority": None, "port": None, "weight": None, "flags": None, "tag": None, "ttl": 1800}
    for number, (kind, data) in enumerate([("MX", "10 mail.example.net"), ("A", "nowhere"), ("CNAME", "a b")]):
        body = {**fields, "id": number, "type": kind, "name": f"r{number}", "data": data, "priority": 10}
        store.put("record", number, body, parent="example.org")
    store.close()
    sandbox.post(RECORDS, {"type": "A", "name": "www", "data": "192.0.2.1"})
    assert _zone(sandbox) == {("www.example.org.", "A", "192.0.2.1")}


_DATA = st.one_of(
    st.text(max_size=300),
    st.from_regex(r"\A([a-zA-Z0-9 _;\"\\\\.@-]{0,12}\.){0,4}\.?\Z"),
    st.ip_addresses().map(str),
    st.sampled_from([".", "@", ";", ";.", "", "example.org.", "a." * 126 + "a."]),
)


@settings(deadline=None)
@given(kind=st.sampled_from(["A", "AAAA", "CAA", "CNAME", "MX", "NS", "SRV", "TXT"]), data=_DATA)
def test_whatever_the_api_takes_a_name_server_loads(kind: str, data: str):
    record = {"type": kind, "priority": 1, "weight": 2, "port": 3, "flags": 0, "tag": "issue"}
    with contextlib.suppress(ValueError):
        data = stored_data(kind, data, "example.org", "issue")
        line = f"x 60 IN {kind} {zone_data({**record, 'data': data}, 'example.org')}\n"
        zone = dns.zone.from_text(line, origin="example.org.", relativize=False, check_origin=False)
        assert len(list(zone.iterate_rdatas())) == 1


_BAD = ("a b.example.org.", "a.example.org.\nb IN A 192.0.2.1", "a.example.org.\n", "192.0.2.1\n")
_KINDS = ("A", "AAAA", "CNAME", "MX", "NS", "SRV", "CAA")


# An authority of a CAA record may be followed by spaces and parameters (RFC 8659); its data is quoted in the zone.
@pytest.mark.parametrize(
    ("kind", "data"), [(kind, data) for kind in _KINDS for data in _BAD if kind != "CAA" or "\n" in data]
)
def test_data_with_spaces_or_line_ends_is_refused(shared: Sandbox, kind: str, data: str):
    more = {"priority": 1, "port": 1, "weight": 1, "flags": 0, "tag": "issue"}
    status, _ = shared.refused("POST", RECORDS, {"type": kind, "name": "x", "data": data, **more})
    assert status == 422
