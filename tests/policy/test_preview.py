"""Previews are read as the engine prints them, and one that cannot be judged is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from policy.cli import priced
from policy.preview import PreviewError, parse_preview
from policy.rules import check
from tests.components.conftest import ROOT, record
from tests.policy.builders import Draft, step

GOLDEN = Path(__file__).parent / "previews" / "staging.json"  # pulumi 3.259.0, staging, from nothing


def test_what_the_engine_prints_is_understood_and_holds():
    preview = parse_preview(GOLDEN.read_text())

    assert preview.config["database"]["version"] == "15"
    assert len(list(preview.of_kind("Droplet"))) == 1
    assert check(preview) == []
    assert all(price is not None for _, price in priced(preview))
    assert sum(price or 0 for _, price in priced(preview)) > 0


def test_the_golden_preview_breaks_when_its_exemption_goes():
    document = json.loads(GOLDEN.read_text())
    del document["config"]["ancla:exemptions"]

    assert [str(item).partition(": ")[0] for item in check(parse_preview(json.dumps(document)))] == ["ssh-not-open"]


@pytest.mark.parametrize("stack", ["prod", "staging"])
def test_the_committed_stacks_hold_to_every_rule(stack: str):
    assert check(parse_preview(as_preview(stack))) == []


def test_an_unprotected_prod_would_be_seen():
    document = json.loads(as_preview("prod"))
    for item in document["steps"]:
        item["newState"]["protect"] = False

    assert {item.rule for item in check(parse_preview(json.dumps(document)))} == {"data-protected"}


def as_preview(stack: str) -> str:
    """The preview that a recording would have been."""
    steps: list[dict[str, Any]] = []
    for item in record(stack, preview=True).resources:
        dependencies = {key: list(value.urns) for key, value in item.options.propertyDependencies.items()}
        state = {
            "type": item.type,
            "inputs": item.inputs,
            "protect": item.options.protect,
            "propertyDependencies": dependencies,
        }
        steps.append({"op": "create", "urn": item.urn, "newState": state})
    raw = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text())["config"]
    config = {key: value if isinstance(value, str) else json.dumps(value) for key, value in raw.items()}
    return json.dumps({"config": config, "steps": steps, "changeSummary": {"create": len(steps)}}, default=str)


@pytest.mark.parametrize("op", ["delete", "delete-replaced", "discard"])
def test_what_will_not_be_there_is_not_among_the_resources(op: str):
    draft = Draft()
    item = step("SpacesBucket", "old", {"acl": "public-read-write"}, op=op)
    draft.add({**item, "newState": None, "oldState": item["newState"]})
    preview = draft.parse()

    assert "old" not in [resource.name for resource in preview.resources]
    assert [resource.name for resource in preview.deleted] == ["old"] * (op == "delete")


def test_a_replaced_resource_is_judged_once_and_shown_as_replaced():
    draft = Draft()
    original = draft.step("Droplet")
    original["op"] = "create-replacement"
    draft.add({**original, "op": "replace"})
    draft.add({**original, "op": "delete-replaced", "newState": None})

    assert [item.operation for item in draft.parse().of_kind("Droplet")] == ["replace"]


def test_a_preview_without_unchanged_resources_is_refused():
    draft = Draft()
    draft.document["changeSummary"] = {"same": 3}
    draft.document["steps"][0]["op"] = "same"

    with pytest.raises(PreviewError, match=r"lists 1 of 3 unchanged resources.*--show-sames"):
        draft.parse()


def test_a_preview_that_failed_is_refused_with_its_error():
    draft = Draft()
    draft.document["diagnostics"] = [
        {"severity": "warning", "message": "w"},
        {"severity": "error", "message": "no\nluck"},
    ]

    with pytest.raises(PreviewError, match="the preview failed: no luck"):
        draft.parse()


@pytest.mark.parametrize("text", ["", "not json", "[]", '{"steps": 3}'])
def test_what_is_no_preview_is_refused_with_the_command_that_makes_one(text: str):
    with pytest.raises(PreviewError, match="pulumi preview --json --show-sames"):
        parse_preview(text)
