from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosts.staging import Staging, staging_environment


@pytest.fixture(scope="session")
def staging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staging]:
    """Staging, up and running in a sandbox of its own; every test leaves it as it found it."""
    folder = tmp_path_factory.mktemp("staging")
    with staging_environment(folder / "sandbox", folder / "record") as stack:
        yield stack
