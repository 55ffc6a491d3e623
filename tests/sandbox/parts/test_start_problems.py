"""A start in which something could not be brought up, or is set aside: the API is ready, names it, and tries again."""

from __future__ import annotations

from pathlib import Path

from sandbox.parts.none import NoParts
from tests.sandbox.conftest import running


def test_a_problem_of_the_start_is_named_and_what_failed_is_tried_again(tmp_path: Path) -> None:
    with running(tmp_path, NoParts()) as sandbox:
        ident = sandbox.cluster()["id"]
        (vpc,) = sandbox.get("/v2/vpcs")["vpcs"]

    parts = NoParts()
    with running(tmp_path, parts) as sandbox:
        sandbox.until(lambda: sandbox.parts.calls != [])
        assert sandbox.client.get("/_sandbox/health").json()["problems"] == {}
        assert "databases.apply" not in [name for name, _ in parts.calls], "it is up already"

    parts = NoParts()
    aside = {"volume lost": "the state does not know it"}
    parts.problems = {f"vpc:{vpc['id']}": "no room", f"cluster:{ident}": "it did not start", **aside}
    with running(tmp_path, parts) as sandbox:
        sandbox.until(lambda: sandbox.client.get("/_sandbox/health").json()["problems"] == aside)
        tried = [name for name, _ in parts.calls]
        assert tried.count("networks.create_vpc") >= 1
        assert tried.count("databases.apply") == 1
