"""Records that come, go and change their type in one `up`, with the real engine: nothing beside them is touched."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.kit import MUTATING, BareCloud

pytestmark = [pytest.mark.engine, pytest.mark.all]

SPF = 'spf: { type: TXT, name: "@", value: "v=spf1 -all" }'
CHECK = 'check: { type: TXT, name: "@", value: "site-check=abc" }'
ADDRESS = "docs: { type: A, name: docs, value: 203.0.113.9 }"
ALIAS = "docs: { type: CNAME, name: docs, value: pages.example.org }"
NOWHERE = (
    'mail: { type: MX, name: "@", value: ".", priority: 0 }, '
    'nobody: { type: CAA, name: "@", value: ";", flags: 0, tag: issuewild }, '
    'imap: { type: SRV, name: _imap._tcp, value: ".", priority: 0, weight: 0, port: 0 }'
)


def calls_of(cloud: BareCloud, text: str, *records: str) -> list[tuple[str, str]]:
    """Bring the zone to these records; return the calls that changed it."""
    before = len(cloud.journal())
    names = "    names: [staging.nextgentech.mx]\n"
    assert names in text
    dns = f"{names}    dns: {{ records: {{ {', '.join(records)} }} }}\n"
    (cloud.project / "Pulumi.staging.yaml").write_text(text.replace(names, dns, 1))
    cloud.up()
    cloud.pulumi("preview", "--expect-no-changes")
    calls = [call for call in cloud.journal()[before:] if call["method"] in MUTATING]
    return [(call["method"], call["template"]) for call in calls if "/records" in (call["template"] or "")]


def zone(cloud: BareCloud) -> dict[tuple[str, str, str], int]:
    records: list[dict[str, Any]] = cloud.get("/v2/domains/staging.nextgentech.mx/records?per_page=200")[
        "domain_records"
    ]
    return {(record["type"], record["name"], record["data"]): record["id"] for record in records}


def test_records_come_and_go_alone_and_an_address_becomes_a_name(cloud: BareCloud) -> None:
    text = (cloud.project / "Pulumi.staging.yaml").read_text()
    calls_of(cloud, text, SPF, ADDRESS)
    first = zone(cloud)

    added = calls_of(cloud, text, SPF, CHECK, ADDRESS)
    second = zone(cloud)
    assert [method for method, _ in added] == ["POST"]
    assert first.items() <= second.items()

    removed = calls_of(cloud, text, CHECK, ADDRESS)
    assert [method for method, _ in removed] == ["DELETE"]
    assert zone(cloud).items() <= second.items()

    changed = calls_of(cloud, text, CHECK, ALIAS, NOWHERE)
    assert [method for method, _ in changed if method != "POST"] == ["DELETE"]
    assert ("CNAME", "docs", "pages.example.org") in zone(cloud)
    assert ("A", "docs", "203.0.113.9") not in zone(cloud)
    cloud.pulumi("refresh", "--yes")
    cloud.pulumi("preview", "--expect-no-changes")

    back = calls_of(cloud, text, CHECK, ADDRESS, ADDRESS.replace("113.9", "113.10").replace("docs:", "more:"), NOWHERE)
    assert ("A", "docs", "203.0.113.10") in zone(cloud)
    assert [method for method, _ in back if method == "DELETE"] == ["DELETE"]
