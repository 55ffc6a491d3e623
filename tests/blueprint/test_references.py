"""References of a stack file: what is a reference, what it refers to, and what a use gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blueprint.reference_text import Path, parts, render
from blueprint.references import REFERENCES, USES, find, known, problem_of, variables_of

GROUPS = ["database", "buckets.assets", "buckets.my-files", "services.api"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("plain", ["plain"]),
        ("${edge.url}", [Path("edge.url")]),
        ("a${edge.url}b", ["a", Path("edge.url"), "b"]),
        ("$$", ["$"]),
        ("$${edge.url}", ["$", "{edge.url}"]),
        ("$$${edge.url}", ["$", Path("edge.url")]),
        ("5 $$ {x} }", ["5 ", "$", " {x} }"]),
    ],
)
def test_a_text_is_literal_parts_and_references(text: str, expected: list[object]):
    assert list(parts(text)) == expected


@pytest.mark.parametrize("text", ["$", "a$b", "$5", "${edge.url", "$$$", "${a${b}}"])
def test_a_dollar_sign_by_itself_is_refused(text: str):
    with pytest.raises(ValueError, match=r"write \$\$ for a dollar sign"):
        list(parts(text))


@given(st.text())
def test_any_text_is_itself_when_its_dollar_signs_are_doubled(text: str):
    assert render(text.replace("$", "$$"), lambda _: "wrong") == text


def test_every_path_that_is_offered_is_found_and_every_row_is_offered():
    found = {path: find(path) for path in known(GROUPS)}
    assert None not in found.values()
    assert {one[0].path for one in found.values() if one} == {reference.path for reference in REFERENCES}
    [(_, name)] = [found["buckets.my-files.key"] or ("", "")]
    assert name == "my-files"


def test_no_two_secrets_have_one_variable():
    paths = known(GROUPS)
    assert len({Path(path).variable for path in paths}) == len(paths)


def test_every_use_gives_variables_that_refer_to_something():
    assert all(find(path.replace("*", "x")) for table in USES.values() for path in table.values())
    assert variables_of("buckets.my-files") == {
        f"SPACES_MY_FILES_{field}": f"buckets.my-files.{field.lower()}"
        for field in ("BUCKET", "REGION", "ENDPOINT", "KEY", "SECRET", "URL", "ACL")
    }
    assert variables_of("database").keys() == {"DATABASE_URL", "DATABASE_DIRECT_URL"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("${edge.url}", None),
        ("${database.hots}", "${database.hots} refers to nothing; did you mean database.host?"),
        ("${buckets.asets.url}", "did you mean buckets.assets.url?"),
        ("${}", "${} refers to nothing; there are: edge.url"),
        ("${x}", "there are: edge.url"),
    ],
)
def test_a_reference_to_nothing_is_told_the_nearest_name(text: str, told: str | None):
    problem = problem_of(text, known(GROUPS))
    assert problem is None if told is None else told in (problem or "")
