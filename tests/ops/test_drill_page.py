"""The page of a drill: whole, safe to open, and in Spanish when asked for."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from string import Formatter
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

import ops.cli.backrest
import ops.cli.pitr
import ops.drill.kinds.pgbackrest
import ops.drill.kinds.provider_fork
import ops.drill.runner
from blueprint.outputs import OutputSecrets
from ops.cli.app import app
from ops.core.formatting import duration, size
from ops.core.messages import Message, say
from ops.drill import checks
from ops.drill.context import NO_ROWS
from ops.drill.evidence.catalogue import Language, catalogue, translate
from ops.drill.evidence.chain import append
from ops.drill.evidence.document import Phase, SkippedObject, TableComparison
from ops.drill.evidence.report import render
from ops.drill.evidence.trend import LENGTH, trend
from ops.drill.negative_controls import CAUGHT_BY, Damage
from ops.pgbackrest.target import Target
from tests.ops.drill_kit import RUNNER, backrest_document, document, fork_document
from tests.ops.messages_kit import codes, literals, phases, texts

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
        check = checks.failed(CAUGHT_BY[kind], "1 of 12 objects are missing or damaged", ["x"])
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


@pytest.mark.parametrize("language", Language)
def test_a_drill_in_part_names_what_was_not_made_in_a_colour_of_its_own(language):
    skipped = [
        SkippedObject(what="view public.<v>", why="function f() does not exist", mend="CREATE VIEW public.<v> …"),
        SkippedObject(what="publication all_of_it", why="must be superuser"),
    ]
    html = render([document(verdict="in part", skipped=skipped)], language=language)
    page = " ".join(read(html).text)
    for text in ("view public.<v>", "function f() does not exist", "CREATE VIEW public.<v> …", "must be superuser"):
        assert text in page
    heading, verdict = {"en": ("What could not be made", "in part"), "es": ("Qué no se pudo crear", "en parte")}[
        language
    ]
    assert heading in page
    assert heading not in " ".join(read(render([document()], language=language)).text)
    assert f'<span class="verdict in-part">{verdict}</span>' in html
    assert html.count(f'<span class="tag in-part">{verdict}</span>') == 2
    assert re.search(r"\.in-part \{ color", html), "a colour of its own"


def test_red_or_an_unseen_damage_outweighs_in_part():
    partly, red = document(verdict="in part"), document(verdict="red")
    assert 'class="verdict red"' in render([partly, red])
    assert 'class="verdict red"' in render([partly, document(damage="flip", verdict="green")])
    assert 'class="verdict in-part"' in render([document(), partly, *controls()])


def test_an_unsigned_drill_says_so():
    assert "nobody" in read(render([document()])).text
    assert "nobody" not in read(render([document()], signer=RUNNER.public)).text


def test_every_text_of_ours_is_in_each_catalogue_and_nothing_else_is():
    ours = texts()
    assert len(literals()) > 40
    assert len(codes()) > 80
    assert {"fetch", "index", "replay", "destroy", "start scratch target"} <= phases()
    for language in set(Language) - {Language.EN}:
        known = catalogue(language)
        assert ours - known.keys() == set(), "not translated"
        assert known.keys() - ours == set(), "not used"
        assert {code for code, text in known.items() if not text} == set()
        assert {code for code, text in known.items() if fields(code) != fields(text)} == set()


def fields(template):
    """Fields of a template, each with its format."""
    return sorted((name, spec) for _, name, spec, _ in Formatter().parse(template) if name is not None)


def test_a_text_that_is_not_there_stays_as_it_is():
    assert translate(Language.ES, "a text of tomorrow") == "a text of tomorrow"
    assert translate(Language.ES, Message("tomorrow {count}", {"count": 1})) == "tomorrow 1"


@pytest.mark.parametrize(
    ("english", "expected"),
    [
        (say("{hours:.1f} h old, budget {budget} h", hours=4.2, budget=26), "4,2 h de antigüedad, límite 26 h"),
        (
            say("{tables} tables, {rows} rows, {sequences} sequences", tables=9, rows=4552, sequences=2),
            "9 tablas, 4552 filas, 2 secuencias",
        ),
        (say("no error: {done}", done="pg_restore 15.20"), "sin errores: pg_restore 15.20"),
        (say("{size}, {stored} stored", size=size(3 << 20), stored=size(1536)), "3,0 MiB, 1,5 KiB almacenados"),
        (duration(3.5), "3,5 s"),
        (duration(5), "5,0 s"),
    ],
)
def test_a_translation_keeps_the_values_with_the_numbers_of_its_language(english, expected):
    assert translate(Language.ES, english) == expected
    assert translate(Language.EN, english) == english


def test_an_answer_is_translated_from_its_document_alone():
    """A drill on a droplet is shown by the workstation, which has the document and not the message."""
    late = say("backup {backup} is too old: {age}", backup="b", age=duration(3.5))
    check = checks.failed("age", duration(3.5), [late, "the words of a program"])
    again = type(check).model_validate_json(check.model_dump_json())
    assert (again.answer, again.code, again.values) == ("3.5 s", "{value:.1f} s", {"value": 3.5})
    assert translate(Language.ES, again.message) == "3,5 s"
    assert [translate(Language.ES, problem) for problem in again.problem_messages] == [
        "la copia b es demasiado antigua: 3,5 s",
        "the words of a program",
    ]


def test_the_spanish_page_says_its_language():
    page = render([document(), *controls()], history(3), language=Language.ES, signer=RUNNER.public)
    assert '<html lang="es">' in page
    text = " ".join(read(page).text)
    assert "Simulacro de restauración" in text
    assert not re.search(r"\b(Restore drill|budget|caught|What was proved|rows in)\b", text)


def in_both(evidence):
    """Texts that stand in the Spanish page as in the English one; times and amounts aside."""
    english, other = (read(render([evidence], language=language, signer=RUNNER.public)).text for language in Language)
    assert "What is wrong" in english if evidence.red else "What is wrong" not in english
    same = {left for left, right in zip(english, other, strict=True) if left == right}
    return {
        text
        for text in same
        if re.search(r"[a-z]", re.sub(r"\d[\d.]* (ms|s|min|h)\b|[KMG]iB|SHA256:\S+|.*UTC · .*", "", text))
    }


NAMES = {
    "backup": {"shop", "ci", "postgresql", "s3://backups", "d" * 64, "ops evidence verify"},
    "pgbackrest": {"shop", "main", "pgbackrest", "postgres", "ops evidence verify"},
    "provider-restore-point": {"shop", "shop-db", "shop-db, nyc3", "drill-c-261101030000", "ops evidence verify"},
}


BARE = {"rto_seconds": None, "phases": [], "rows": 0}


@pytest.mark.parametrize(
    ("made", "questions", "bare"),
    [
        (document, checks.QUESTIONS, BARE | {"manifest_digest": None, "snapshot_at": None, "rpo_seconds": None}),
        (
            backrest_document,
            ops.drill.kinds.pgbackrest.QUESTIONS,
            BARE | {"recovered": None, "asked_for": None, "databases": []},
        ),
        (
            fork_document,
            ops.drill.kinds.provider_fork.QUESTIONS,
            BARE | {"server_version": None, "fork_seconds": None, "databases": []},
        ),
    ],
)
def test_the_page_of_every_kind_leaves_nothing_in_english(made, questions, bare):
    green = made()
    names = NAMES[green.detail.kind]
    assert in_both(green) == names
    empty = questions.failed("rows", NO_ROWS, [NO_ROWS])
    assert in_both(made(verdict="red", checks=questions.in_full([empty]), **bare)) <= names
    unknown = in_both(made(proves="a text of tomorrow")) - names
    assert [text[-18:] for text in unknown] == ["a text of tomorrow"], "or nothing would be found"


def test_the_language_is_the_pages_and_not_the_documents(tmp_path):
    for made in (document, backrest_document, fork_document):
        folders = [tmp_path / f"{made.__name__}-{language}" for language in Language]
        for folder in folders:
            folder.mkdir()
        kept = [append(at, [made()], signer=RUNNER, language=each) for at, each in zip(folders, Language, strict=True)]
        documents = [links[0].path.read_text() for links, _ in kept]
        left, right = (page.read_text() for _, page in kept)
        assert documents[0] != documents[1], "each names its page by digest"
        facts = [{**json.loads(text), "page": None, "signed": None} for text in documents]
        assert facts[0] == facts[1]
        assert '<html lang="en">' in left
        assert '<html lang="es">' in right
        assert re.fullmatch("Simulacro de.+, verde", read(right).text[0])


def test_both_commands_write_the_page_in_the_language_asked_for(tmp_path, monkeypatch):
    budgets = SimpleNamespace(max_age_hours=26, rto_minutes=15, signers=())
    outputs = SimpleNamespace(project="test", environment="staging", backup=budgets)
    stack = SimpleNamespace(name="staging", on_machine=False, outputs=outputs, secrets=OutputSecrets())
    monkeypatch.setenv("ANCLA_AUDIT", str(tmp_path / "audit.jsonl"))
    monkeypatch.setenv("ANCLA_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(ops.cli.backrest, "_on_droplet", lambda *_: backrest_document())
    monkeypatch.setattr(ops.cli.backrest, "_target", lambda *_: Target(stanza="main", stack=stack))
    monkeypatch.setattr(ops.cli.pitr, "load_stack", lambda *_: stack)
    monkeypatch.setattr(ops.cli.pitr, "cloud_from_environment", lambda: SimpleNamespace(is_real=False))
    monkeypatch.setattr(ops.drill.runner, "run", lambda *_, **__: fork_document())
    for drill in ("backrest", "pitr"):
        for language, more in (("en", ()), ("es", ("--lang", "es"))):
            folder = tmp_path / drill / language
            result = CliRunner().invoke(app, [drill, "drill", "--evidence", str(folder), *more])
            assert result.exit_code == 0, result.output
            (page,) = folder.glob("*.html")
            assert f'<html lang="{language}">' in page.read_text()
