"""A stack's life with the real engine, without machines: built, unchanged, refreshed, gone without a trace."""

from __future__ import annotations

import pytest

from tests.engine.kit import BareCloud

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("cloud", ["staging", pytest.param("prod", marks=pytest.mark.long)], indirect=True)
def test_a_stack_is_built_stays_unchanged_and_leaves_nothing_behind(cloud: BareCloud) -> None:
    cloud.up()
    assert cloud.leaks(), "a running stack is seen by the leak report, so an empty one means something"
    cloud.pulumi("preview", "--expect-no-changes")
    cloud.pulumi("refresh", "--yes", "--expect-no-changes")
    cloud.pulumi("preview", "--expect-no-changes")

    refused = cloud.pulumi("destroy", "--yes", "--skip-preview", check=False)
    assert refused.returncode != 0
    assert "protected" in refused.stdout + refused.stderr, "backups at least, in every stack"
    cloud.up()
    cloud.destroy()
    assert cloud.leaks() == ["registry nextgentech"]
