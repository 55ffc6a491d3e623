"""The page of a drill: whole, safe to open, and in Spanish when asked for."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ops.backup.manifest import Manifest
from ops.drill import checks, spanish
from ops.drill.damage import CAUGHT_BY, EXPLAINED, Damage
from ops.drill.evidence import Phase, TableComparison
from ops.drill.report import TEMPLATE, Language, render
from ops.drill.trend import LENGTH, trend
from tests.ops.drill_kit import RUNNER, document

START = datetime(2026, 6, 1, 4, tzinfo=UTC)


class Reader(HTMLParser):
    """Text, tags that were not closed, and what is loaded from elsewhere."""

    VOID = frozenset({"meta", "br", "img", "link", "input"})

    def __init__(self):
        super().__init__()
        self.open, self.text, self.elsewhere, self.tags = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.elsewhere += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style" and data.strip():
            self.text.append(" ".join(data.split()))


def read(html):
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader


def history(count, **more):
    return [
        document(started_at=START + timedelta(weeks=i), sequence=i + 1, rto_seconds=10.0 + i, **more)
        for i in range(count)
    ]


def controls():
    made = []
    for kind in Damage:
        check = checks.failed(CAUGHT_BY[kind], "1 of 12 objects are not right", ["x"])
        made.append(document(damage=kind, verdict="red", checks=[check]))
    return made


def test_it_is_whole_and_loads_nothing_from_elsewhere():
    reader = read(render([document(), *controls()], history(5), signer=RUNNER.public))
    assert reader.elsewhere == []
    assert not {"script", "link", "img", "iframe"} & set(reader.tags)
    assert "url(" not in render([document()])
    assert checks.key_name(RUNNER.public) in reader.text


def test_what_the_data_holds_is_text_and_no_markup():
    evil = "<script>alert(1)</script>"
    table = TableComparison(table=evil, expected_rows=1, found_rows=2, method="record", equal=False)
    page = render([document(name=evil, tables=[table], checks=[checks.failed("content", evil, [evil])], verdict="red")])
    assert "script" not in read(page).tags
    assert "&lt;script&gt;" in page


def test_every_phase_is_drawn_within_the_whole():
    phases = [Phase(name="fetch", begin=0.0, seconds=1.0), Phase(name="load", begin=1.0, seconds=3.0)]
    page = render([document(phases=phases)])
    bars = [tuple(map(float, bar)) for bar in re.findall(r'<i style="left:([\d.]+)%;width:([\d.]+)%">', page)]
    assert bars == [(0.0, 25.0), (25.0, 75.0)]


def test_the_trend_is_of_one_source_and_leaves_controls_out():
    documents = [*history(3), document(name="other", rto_seconds=99.0), *controls()]
    found = trend(documents, "shop", "rto")
    assert [point.value for point in found.points] == [10.0, 11.0, 12.0]
    assert [point.y for point in found.points] == sorted((point.y for point in found.points), reverse=True)
    assert trend(documents, "other", "rto") is None, "one drill is no trend"
    assert len(trend(history(60), "shop", "rto").points) == LENGTH
    assert 'class="path"' in render([document()], documents)
    assert 'class="path"' not in render([document()])


def test_a_budget_is_drawn_when_the_times_are_near_it_alone():
    assert trend(history(3), "shop", "rto").budget_y is None, "900 s would press 12 s flat"
    near = trend(history(3, rto_budget_seconds=20), "shop", "rto")
    assert near.budget_y < min(point.y for point in near.points)


def test_a_red_drill_says_what_is_wrong_and_a_control_is_red_by_right():
    red = document(verdict="red", checks=[checks.failed("content", "1 differences", ["public.orders: found 1 rows"])])
    assert "What is wrong" in read(render([red])).text
    assert "public.orders: found 1 rows" in read(render([red])).text
    page = read(render([document(), *controls()]))
    assert page.text.count("caught") == len(Damage)
    assert "verdict green" in render([document(), *controls()])
    unseen = document(damage="flip", verdict="green")
    assert "not seen" in read(render([document(), unseen])).text
    assert "verdict red" in render([document(), unseen])


def test_an_unsigned_drill_says_so():
    assert "nobody" in read(render([document()])).text
    assert "nobody" not in read(render([document()], signer=RUNNER.public)).text


def literals():
    """Texts that the template gives to be translated."""
    folder = Path(checks.__file__).parent
    template = (folder / TEMPLATE).read_text() + (folder / "parts.html.j2").read_text()
    found = set(re.findall(r'"([^"{}]+)"\|t', template))
    for group in re.findall(r"\(([^()]*)\)\|t", template):
        found |= set(re.findall(r'"([^"]+)"', group))
    found |= set(re.findall(r'goal\(section, "\w+", "([^"]+)"', template))
    found |= set(re.findall(r'"((?:measured|computed), [^"]+)"', template))
    return found


def answers():
    """Every answer that a check of ours gives."""
    manifest = Manifest.model_construct(
        id="20261123T030000Z-0a1b2c", objects=(), recipients=("a",), signed=None, started_at=START, snapshot_at=START
    )  # fmt: skip
    key = RUNNER.public
    return [
        checks.check_origin(manifest, key),
        checks.check_age(manifest, START + timedelta(hours=5), 4),
        checks.check_age(manifest, START - timedelta(hours=5), 4),
        checks.check_loss(-9 * 3600, "the age of the newest snapshot", 3600),
        checks.check_objects(manifest, []),
        checks.check_objects(manifest, ["x"]),
        checks.check_key(manifest, []),
        checks.check_key(manifest, ["x"]),
        checks.check_digests(manifest, []),
        checks.check_assertions(2, []),
        checks.check_assertions(2, ["x"]),
        checks.check_identity(str(1795000000 << 32), START),
        checks.check_identity("1", START),
        checks.check_loss(3600.0, "measured", 7200),
        checks.check_loss(3600.0, "computed", 7200),
        checks.check_integrity([]),
        checks.check_integrity(["x"]),
        checks.check_time(3.0, 15),
    ]


def test_every_text_of_ours_is_there_in_spanish():
    assert len(literals()) > 40
    untranslated = {text for text in literals() | set(EXPLAINED.values()) | set(checks.QUESTIONS.values())
                    if spanish.translate(text) == text}  # fmt: skip
    assert untranslated == set()
    rehearsals = [Path(checks.__file__).with_name(f"{kind}.py").read_text() for kind in ("sqlite", "secrets", "bucket")]
    said = {
        text
        for file in rehearsals
        for text in re.findall(r'done = f"(.+)"|"content", f"(.+)"\)|PROFILE = "(.+)"', file)
    }
    given = {re.sub(r"\{[^}]*\}", "7", next(filter(None, groups))) for groups in said}
    assert len(given) >= 4
    assert {text for text in given if spanish.translate(text) == text and "differences" not in text} == set()
    assert [check.answer for check in answers() if spanish.translate(check.answer) == check.answer] == []


def test_a_text_that_is_not_there_would_be_found():
    assert spanish.translate("a text of tomorrow") == "a text of tomorrow"


@pytest.mark.parametrize(
    ("english", "expected"),
    [
        ("4.2 h old, budget 26 h", "4,2 h de antigüedad, límite 26 h"),
        ("9 tables, 4552 rows, 2 sequences", "9 tablas, 4552 filas, 2 secuencias"),
        ("pg_restore 15.20, no error", "pg_restore 15.20, sin errores"),
        ("3.5 s", "3,5 s"),
    ],
)
def test_answers_keep_their_values(english, expected):
    assert spanish.translate(english) == expected


def test_the_spanish_page_says_its_language():
    page = render([document(), *controls()], history(3), language=Language.ES, signer=RUNNER.public)
    assert '<html lang="es">' in page
    text = " ".join(read(page).text)
    assert "Simulacro de restauración" in text
    assert not re.search(r"\b(Restore drill|budget|caught|What was proved|rows in)\b", text)
