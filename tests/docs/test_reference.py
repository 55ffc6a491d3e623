"""The reference pages say what the command line and the settings say."""

from __future__ import annotations

import pytest

from tools.reference import FOLDER, build_pages

PAGES = build_pages()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_committed_page_is_fresh(name: str):
    assert (FOLDER / name).read_text() == PAGES[name], "run `python -m tools.reference`"


def test_every_command_and_every_key_is_there():
    assert "`ops backup create`" in PAGES["ops.md"]
    assert "--dry-run" in PAGES["ops.md"]
    for key in ("recipients", "maxAge", "trustedSources"):
        assert f"| `{key}` |" in PAGES["stack-file.md"]
