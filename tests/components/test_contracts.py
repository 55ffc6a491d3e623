"""What the commands write on stdin is what `host` reads: the two rooms share a format, and no code."""

from __future__ import annotations

import json
from typing import Any

import pytest

from blueprint.keys import public_line
from host import documents
from tests.components.kit import Recording

VERBS: list[tuple[str, str, Any]] = [
    ("app-first-contact", "first-contact", documents.FirstContact),
    ("converge-command", "converge", documents.Converge),
    ("-ops-command", "ops", documents.Ops),
    ("grants", "grants", documents.Grants),
]


@pytest.mark.parametrize(("name", "verb", "model"), VERBS)
@pytest.mark.parametrize("stack", ["prod", "staging"])
def test_the_document_parses_as_host_reads_it(
    stack: str, name: str, verb: str, model: Any, request: pytest.FixtureRequest
):
    command = request.getfixturevalue(stack).one("Command", name)

    document = documents.read_document(model, command.inputs["stdin"])

    assert command.inputs["create"].count(f" -m host {verb};") == 1
    assert set(json.loads(command.inputs["stdin"])) == set(model.model_fields), "nothing left to a default"
    assert document.address == "203.0.113.5"


def test_the_pinned_key_is_the_one_the_first_contact_leaves(prod: Recording):
    document = documents.read_document(documents.FirstContact, prod.one("Command", "first-contact").inputs["stdin"])

    assert document.host_key == public_line(document.host_key_private)
