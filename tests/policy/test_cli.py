"""`python -m policy`: exit codes, one line for each violation, and the list with costs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from policy.cli import app
from policy.rules import RULES
from tests.components.conftest import ROOT
from tests.policy.builders import Draft

GOLDEN = (Path(__file__).parent / "previews" / "staging.json").read_text()
run = CliRunner()


def test_a_preview_that_holds_ends_with_0_and_prints_nothing_on_stdout():
    result = run.invoke(app, [], input=GOLDEN)

    assert result.exit_code == 0
    assert not result.stdout
    assert f"{len(RULES)} rules hold" in result.stderr


def test_every_violation_is_a_line_and_the_exit_code_1():
    draft = Draft()
    draft.inputs("SpacesBucket")["acl"] = "public-read-write"
    draft.inputs("Droplet")["backups"] = False

    result = run.invoke(app, [], input=json.dumps(draft.document))

    assert result.exit_code == 1
    assert [line.partition(":")[0] for line in result.stdout.splitlines()] == [
        "data-backed-up",
        "bucket-not-public-write",
    ]


def test_the_list_has_every_resource_and_the_total():
    result = run.invoke(app, ["--cost"], input=GOLDEN)
    lines = result.stdout.splitlines()

    resources = [
        item for item in json.loads(GOLDEN)["steps"] if re.match(r"(digitalocean|command):", item["newState"]["type"])
    ]
    assert len(lines) == len(resources) + 2, "a heading, a line each, a total"
    assert re.search(r"create +Droplet +nextgentech-staging +24\.00", result.stdout)
    assert re.search(rf"{len(resources)} resources, list prices of .* of 80\.00", lines[-1])
    assert f"{len(resources)} resources" in lines[-1]


def test_deletes_are_in_the_list_and_in_the_document():
    document = json.loads(GOLDEN)
    step = next(item for item in document["steps"] if item["newState"]["type"].endswith(":DnsRecord"))
    step.update(op="delete", oldState=step.pop("newState"))
    text = json.dumps(document)

    assert re.search(r"^delete +DnsRecord ", run.invoke(app, ["--cost"], input=text).stdout, re.MULTILINE)
    (deleted,) = json.loads(run.invoke(app, ["--json"], input=text).stdout)["deleted"]
    assert deleted["urn"] == step["urn"]


def test_json_is_one_document():
    document = json.loads(run.invoke(app, ["--json"], input=GOLDEN).stdout)

    assert document["violations"] == []
    assert document["monthly"] == sum(item["monthly"] for item in document["resources"])


def test_exemptions_and_budget_can_come_from_a_stack_file():
    """The preview's own exemption names staging's firewall, prod's file names another."""
    result = run.invoke(app, ["--stack-file", str(ROOT / "Pulumi.prod.yaml")], input=GOLDEN)

    assert result.exit_code == 1
    assert result.stdout.startswith("ssh-not-open: nextgentech-staging")


@pytest.mark.parametrize(("until", "code"), [("2999-12-31", 0), ("2020-12-31", 1)])
def test_an_exemption_of_a_stack_file_may_have_a_last_day(tmp_path: Path, until: str, code: int):
    text = (ROOT / "Pulumi.staging.yaml").read_text()
    path = tmp_path / "Pulumi.staging.yaml"
    ends = f'      nextgentech-staging: {{ until: "{until}", reason: '
    path.write_text(re.sub(r"      nextgentech-staging: (.*)$", rf'{ends}"\1" }}', text, flags=re.MULTILINE))

    result = run.invoke(app, ["--stack-file", str(path)], input=GOLDEN)

    assert result.exit_code == code, result.stdout
    assert ("its exemption ended on 2020-12-31" in result.stdout) is bool(code)


def test_a_price_that_is_not_known_is_a_question_mark_and_a_violation():
    draft = Draft()
    draft.inputs("Droplet")["size"] = "m-2vcpu-16gb"

    result = run.invoke(app, ["--cost"], input=json.dumps(draft.document))

    assert result.exit_code == 1
    assert re.search(r"create +Droplet +acme-prod +\?$", result.stdout, re.MULTILINE)
    assert "priced: acme-prod: cannot be priced: no price is known for the droplet size 'm-2vcpu-16gb'" in result.stdout


@pytest.mark.parametrize(("arguments", "text"), [([], ""), (["--stack-file", "/nowhere.yaml"], GOLDEN)])
def test_what_cannot_be_judged_ends_with_2_and_one_line(arguments: list[str], text: str):
    result = run.invoke(app, arguments, input=text)

    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ")


def test_the_rules_can_be_listed_without_a_preview():
    result = run.invoke(app, ["--rules"])

    assert [line.partition(":")[0] for line in result.stdout.splitlines()] == list(RULES)
