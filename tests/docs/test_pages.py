"""What the pages tell a reader to type or to open exists. Each check has a page beside it that is wrong on purpose."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.text import PAGES, ROOT, Mention, broken_links, make_verbs_of, mentions, targets_of, unknown_in

MENTIONED = [mention for page in PAGES for mention in mentions(str(page.relative_to(ROOT)), page.read_text())]
SOURCES = [
    file for room in ("blueprint", "components", "host", "ops", "policy", "sandbox", "tools")
    for file in (ROOT / room).rglob("*.py")
]  # fmt: skip
TARGETS = targets_of((ROOT / "Makefile").read_text())


def test_every_verb_that_a_page_names_is_in_the_makefile():
    named = {(str(page.relative_to(ROOT)), verb) for page in PAGES for verb in make_verbs_of(page.read_text())}
    assert {(page, verb) for page, verb in named if verb not in TARGETS} == set()
    assert ("README.md", "up") in named


def test_every_verb_of_the_makefile_is_told_to_people():
    told = {verb for name in ("README.md", "CONTRIBUTING.md") for verb in make_verbs_of((ROOT / name).read_text())}
    assert TARGETS - told - {"help"} == set(), "`make` alone is `make help`; the others belong in a page"


def test_every_verb_is_phony_and_every_phony_one_has_its_line_of_help():
    phony = (ROOT / "Makefile").read_text().partition(".PHONY:")[2].splitlines()[0].split()
    assert set(phony) == TARGETS


def test_a_verb_that_is_not_there_would_be_found():
    assert make_verbs_of("Type `make fly STACK=prod`, or:\n```sh\nmake up && make swim\n```\n") == {"fly", "up", "swim"}
    assert targets_of("up: ## bring it up\nhidden:\n") == {"up"}


@pytest.mark.parametrize(
    "mention", dict.fromkeys(MENTIONED), ids=lambda m: f"{m.page}: {m.program} {' '.join(m.words)}"
)
def test_a_command_of_a_page_is_a_command(mention: Mention):
    assert unknown_in(mention) is None


def test_a_command_that_a_message_or_a_comment_advises_is_a_command():
    advised = [mention for file in SOURCES for mention in mentions(str(file.relative_to(ROOT)), file.read_text())]
    assert {mention: problem for mention in advised if (problem := unknown_in(mention))} == {}
    assert len(advised) > 20


def test_the_pages_were_read():
    found = {(mention.program, mention.words[:1]) for mention in MENTIONED}
    assert {("ops", ("drill",)), ("ops", ("stack",)), ("sandbox", ("journal",)), ("policy", ("--cost",))} <= found
    assert len(MENTIONED) > 20


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("python -m ops backup creat", "ops has no command 'creat'"),
        ("python -m ops dril --controls", "ops has no command 'dril'"),
        ("sudo ops status --jason", "status has no option --jason"),
        ("cat plan | python -m policy --costs", "policy has no option --costs"),
        ("python -m ops backup create --yes && python -m ops drill", "create has no option --yes"),
        ("x=$(python -m sandbox journal --sins 3)", "journal has no option --sins"),
        ("python -m ops drill --controls   # with a comment --about nothing", None),
        ("python -m ops restore [BACKUP]", None),
        ("python -m sandbox env", None),
    ],
)
def test_a_command_that_is_not_there_would_be_found(line: str, problem: str | None):
    for text in (f"```sh\n{line}\n```\n", f"see `{line}` there"):
        first = next(mentions("page.md", text))
        assert unknown_in(first) == problem


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path):
    assert broken_links(page, page.read_text()) == []


def test_a_link_that_leads_nowhere_would_be_found(tmp_path: Path):
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text("# Two words, and more\n")
    text = (
        "# Here\n[a](other.md) [b](absent.md) [c](other.md#two-words-and-more) [d](other.md#no) [e](#here) "
        "[f](#there)\n"
        '[g](https://example.org/absent) ![h](absent.svg) <img src="absent.png">\n```\n[in code](absent)\n```\n'
    )
    page.write_text(text)
    assert broken_links(page, text) == ["absent.md", "other.md#no", "#there", "absent.svg", "absent.png"]
