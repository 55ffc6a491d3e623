"""The page of a drill: whole, safe to open, and in Spanish when asked for."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

import ops.cli.backrest
import ops.cli.pitr
import ops.drill.kinds.pgbackrest
import ops.drill.kinds.pgbackrest_evidence
import ops.drill.kinds.provider_fork
import ops.drill.kinds.provider_fork_evidence
from blueprint.outputs import OutputSecrets
from ops.cli.app import app
from ops.drill import checks
from ops.drill.evidence import spanish
from ops.drill.evidence.chain import keep
from ops.drill.evidence.document import Phase, SkippedObject, TableComparison
from ops.drill.evidence.report import Language, render, render_other
from ops.drill.evidence.trend import LENGTH, trend
from ops.drill.negative_controls import CAUGHT_BY, EXPLAINED, Damage
from ops.managed_postgres import forks
from ops.pgbackrest import driver, info
from ops.pgbackrest.target import Target
from ops.repository.freshness import Freshness
from ops.repository.manifest import Manifest
from ops.sources.postgres import identity
from ops.targets import kinds as kinds_module
from tests.ops.drill_kit import RUNNER, backrest_document, document, fork_document

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


def literals():
    """Texts that the templates give to be translated."""
    template = "".join(
        path.read_text() for path in (Path(checks.__file__).parent / "evidence/templates").glob("*.html.j2")
    )
    found = set(re.findall(r'"([^"{}]+)"\|t', template))
    for group in re.findall(r"\(([^()]*)\)\|t", template):
        found |= set(re.findall(r'"([^"]+)"', group))
    found |= set(re.findall(r'goal(?:_and_trend)?\((?:section, "\w+", )?"([^"]+)"', template))
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
    kinds = Path(kinds_module.__file__).read_text()
    said = set(re.findall(r'compared=f"(.+)"|NEW_FOLDER = "(.+)"|profile="(.+)"', kinds))
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


def texts(node, named):
    """Texts that an expression may be; a value in one is 7."""
    match node:
        case ast.Constant(value=str()):
            return {node.value}
        case ast.JoinedStr():
            return {"".join(part.value if isinstance(part, ast.Constant) else "7" for part in node.values)}
        case ast.Name():
            return named[node.id]
        case ast.IfExp():
            return texts(node.body, named) | texts(node.orelse, named)
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.BoolOp(values=parts):
            return set().union(*(texts(part, named) for part in parts))
    return set()


def of_ours(subject):
    """Texts that a module or function answers, names wrong or returns, and its phases, by its source."""
    nodes = [*ast.walk(ast.parse(textwrap.dedent(inspect.getsource(subject))))]
    named, said = defaultdict(set), []
    for node in nodes:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                named[name] |= texts(value, named)
            case ast.Call(func=ast.Attribute(attr="add" | "skip"), args=[_, *parts]):
                said += parts
            case ast.Call(func=ast.Attribute(attr="append" | "phase"), args=[part]) | ast.Return(value=part):
                said.append(part)
            case ast.Call(func=ast.Name(id="Phase"), keywords=words):
                said += [word.value for word in words]
    found = set().union(*(texts(part, named) for part in said))
    return {text for text in found if re.search("[a-z]", text)}


OF_A_LIVE_SERVER = {56, 57, 58, 68, 80, 82, 87}
"""Exit codes of pgbackrest that a restore does not end with."""


def test_every_text_of_the_other_drills_is_there_in_spanish():
    drills = of_ours(ops.drill.kinds.pgbackrest) | of_ours(ops.drill.kinds.provider_fork)
    assert {"both", "destroyed", "there was none", "replay", "fork", "7 rows", "they could not all be asked"} <= drills
    assert {"it is on timeline 1: it was not recovered from a backup", "exit 7", "7 s, budget 7 s"} <= drills
    told = [info.Stanza.usable, forks.wait_online, identity.schema_differences, Freshness.__str__]
    restore = set(driver.EXIT_CODES) - driver.NOT_OF_THE_BACKUP - OF_A_LIVE_SERVER
    wrong = {driver.as_error(driver.Done(returncode=code, stdout="", problem="x", warnings=()), "restore", "main")
             for code in restore | {125}}  # fmt: skip
    texts = drills.union(
        *map(of_ours, told),
        ops.drill.kinds.pgbackrest_evidence.QUESTIONS.values(),
        ops.drill.kinds.provider_fork_evidence.QUESTIONS.values(),
        (driver.EXIT_CODES[code][1] for code in restore),
        map(str, wrong),
        ("shop: constraint public.orders.positive is not validated", "shop: index public.orders_at is not valid"),
        ("no history", "no reason given", "no recovery target specified", "after 2026-11-01 03:00:00+00"),
        ("shop: app may not read public.orders", "no end of recovery after 60 s: no message"),
    )
    assert {text for text in texts if spanish.translate(text) == text} == {"no", "7, 7 MiB"}, "which is Spanish too"


def in_both(evidence):
    """Texts that stand in the Spanish page as in the English one; times and amounts aside."""
    english, other = (
        read(render_other(evidence, language=language, signer=RUNNER.public)).text for language in Language
    )
    assert "What is wrong" in english if evidence.red else "What is wrong" not in english
    same = {left for left, right in zip(english, other, strict=True) if left == right}
    return {
        text for text in same if re.search(r"[a-z]", re.sub(r"\d[\d.]* (ms|s|min|h)\b|[KMG]iB|SHA256:\S+", "", text))
    }


NAMES = {
    "pgbackrest": {"shop", "pgbackrest", "postgres", "ops evidence verify"},
    "provider-restore-point": {"shop", "shop-db, nyc3", "drill-c-261101030000", "ops evidence verify"},
}


BARE = {"rto_seconds": None, "databases": [], "phases": [], "server_version": "15"}


@pytest.mark.parametrize(
    ("made", "questions", "bare"),
    [
        (
            backrest_document,
            ops.drill.kinds.pgbackrest_evidence.QUESTIONS,
            BARE | {"recovered": None, "asked_for": None},
        ),
        (
            fork_document,
            ops.drill.kinds.provider_fork_evidence.QUESTIONS,
            BARE | {"server_version": None, "fork_seconds": None},
        ),
    ],
)
def test_the_page_of_another_drill_leaves_nothing_in_english(made, questions, bare):
    green = made()
    names = NAMES[green.kind]
    assert in_both(green) == names
    empty = questions.failed("rows", "0 rows", ["no row in any table; say --may-be-empty if that is right"])
    assert in_both(made(verdict="red", checks=questions.in_full([empty]), **bare)) <= names
    unknown = in_both(made(proves="a text of tomorrow")) - names
    assert [text[-18:] for text in unknown] == ["a text of tomorrow"], "or nothing would be found"


def test_the_language_is_the_pages_and_not_the_documents(tmp_path):
    for made in (backrest_document, fork_document):
        folders = [tmp_path / f"{made.__name__}-{language}" for language in Language]
        for folder in folders:
            folder.mkdir()
        left, right = map(keep, (made(), made()), folders, (RUNNER, RUNNER), Language)
        documents = [file.read_text() for file in (left, right)]
        assert documents[0] != documents[1], "each names its page by digest"
        facts = [{**json.loads(text), "page": None, "signed": None} for text in documents]
        assert facts[0] == facts[1]
        assert '<html lang="en">' in left.with_suffix(".html").read_text()
        page = right.with_suffix(".html").read_text()
        assert '<html lang="es">' in page
        assert re.fullmatch("Simulacro de la copia de.+, verde", read(page).text[0])


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
    monkeypatch.setattr(ops.drill.kinds.provider_fork, "run", lambda *_: fork_document())
    for drill in ("backrest", "pitr"):
        for language, more in (("en", ()), ("es", ("--lang", "es"))):
            folder = tmp_path / drill / language
            result = CliRunner().invoke(app, [drill, "drill", "--evidence", str(folder), *more])
            assert result.exit_code == 0, result.output
            (page,) = folder.glob("*.html")
            assert f'<html lang="{language}">' in page.read_text()
