"""The example of the components, with the real engine in a folder of its own: made, changed, refreshed, destroyed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.kit import MUTATING, ROOT, BareCloud

pytestmark = pytest.mark.engine
DOMAIN = "components.example.org"


@pytest.fixture
def example(tmp_path: Path) -> Iterator[BareCloud]:
    bare = BareCloud(tmp_path / "world", "dev", program=ROOT / "examples" / "components")
    bare.pulumi("config", "set", "domain", DOMAIN)
    yield bare
    bare.close()


def outputs(cloud: BareCloud) -> dict[str, str]:
    return json.loads(cloud.pulumi("stack", "output", "--json", "--show-secrets").stdout)


def change(cloud: BareCloud, before: str, after: str) -> None:
    program = cloud.project / "__main__.py"
    text = program.read_text()
    assert text.count(before) == 1
    program.write_text(text.replace(before, after))


def test_the_example_is_made_changed_and_destroyed(example: BareCloud) -> None:
    example.pulumi("preview")
    example.up()
    first = outputs(example)
    example.pulumi("preview", "--expect-no-changes")
    example.pulumi("refresh", "--yes", "--expect-no-changes")
    assert first["assets"] == f"https://assets.{DOMAIN}"
    assert "PRIVATE KEY" in first["deploy_key"]
    state = example.pulumi("stack", "export").stdout
    assert "PRIVATE KEY" not in state, "made keys are secrets of the state"
    assert str(example.home) not in state.replace(example.api, ""), "no path of this computer"

    change(example, '"www": app.address', '"www": app.address, "api": app.address')
    change(example, "AppDropletArgs(region=region", 'AppDropletArgs(region=region, size="s-1vcpu-2gb"')
    before = len(example.journal())
    example.up()
    changed = [(call["method"], call["template"]) for call in example.journal()[before:] if call["method"] in MUTATING]
    assert ("POST", "/v2/domains/{domain_name}/records") in changed
    assert not [call for call in changed if call[0] == "DELETE"]
    assert outputs(example) == first, "keys and addresses stay"

    example.pulumi("destroy", "--yes", "--skip-preview")
    assert example.leaks() == []
