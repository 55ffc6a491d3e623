from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.kit import BareCloud


@pytest.fixture
def cloud(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BareCloud]:
    """A cloud of its own for one test; the stack is the fixture's parameter (staging)."""
    bare = BareCloud(tmp_path / "world", getattr(request, "param", "staging"))
    yield bare
    bare.close()
