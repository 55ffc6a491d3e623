"""Every answer that the sandbox gave in these tests fits DigitalOcean's API description. Runs after the others."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.hosts.staging import Staging
from tests.sandbox import openapi

pytestmark = [pytest.mark.hosts, pytest.mark.containers, pytest.mark.last]


def test_every_answer_fits_the_api_description(staging: Staging) -> None:
    description = openapi.load()
    lines = (Path(os.environ["ANCLA_SANDBOX_RECORD"]) / "responses.jsonl").read_text().splitlines()
    assert len(lines) > 50
    wrong: set[str] = set()
    for line in lines:
        answer = json.loads(line)
        for problem in description.problems(answer["operation"], answer["status"], answer["body"]):
            wrong.add(f"{answer['operation']} {answer['status']}: {problem}")
    assert sorted(wrong) == []
