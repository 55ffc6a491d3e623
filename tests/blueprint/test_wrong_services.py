"""A hundred wrong stack files about services and releases: each is one clear line, and exit 1."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from blueprint.pulumi_config import load_stack_file
from blueprint.references import known
from blueprint.settings.services import HealthSettings, MigrateSettings, ReleaseSettings, RouteSettings, ServiceSettings
from tests.kits.command import ops_in

ROOT = Path(__file__).resolve().parents[2]
WHOLE: dict[str, Any] = yaml.safe_load((ROOT / "Pulumi.staging.yaml").read_text())
DIGEST = "sha256:" + "a" * 64


@dataclass(frozen=True)
class Wrong:
    """A change of the stack file's `services` (or of `release`), and parts of the line that must be said of it."""

    name: str
    path: tuple[str | int, ...]
    value: Any
    told: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        document = copy.deepcopy(WHOLE)
        config = document["config"]
        config["ancla:release"] = {"migrate": {"service": "api", "command": ["migrate"]}}
        first, *rest = (f"ancla:{self.path[0]}", *self.path[1:])
        group: Any = config
        for key, below in zip((first, *rest), rest, strict=False):
            group = group[key]
            if not isinstance(below, int) and below not in group:
                group[below] = {}
        group[[first, *rest][-1]] = self.value
        return document


def at(path: tuple[str | int, ...]) -> str:
    """The path as a line has it."""
    return "ancla:" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)[1:]


API = ("services", "api")
GROUPS: dict[tuple[str | int, ...], type] = {
    API: ServiceSettings,
    (*API, "routes", 0): RouteSettings,
    (*API, "health"): HealthSettings,
    ("release",): ReleaseSettings,
    ("release", "migrate"): MigrateSettings,
}
LIST_NOT_TEXT = ("command", "uses", "secrets", "capabilities", "routes")


def unknown_keys() -> Iterator[Wrong]:
    """Every key with its last letter twice."""
    for path, model in GROUPS.items():
        for name, field in model.model_fields.items():
            key = field.alias or name
            wrong = (*path, key + key[-1])
            yield Wrong(f"unknown {at(wrong)}", wrong, "x", (f"{at(wrong)}: unknown key; did you mean {key}?",))


def wrong_types() -> Iterator[Wrong]:
    """Every key with a value of a kind that it cannot have."""
    for path, model in GROUPS.items():
        for name, field in model.model_fields.items():
            key = field.alias or name
            wrong = (*path, key)
            value = "text" if key in LIST_NOT_TEXT else ["a", "list"]
            yield Wrong(f"type of {at(wrong)}", wrong, value, (f"{at(wrong)}",))


def bad_references() -> Iterator[Wrong]:
    """Every reference with one letter less."""
    for reference in known(["database", "buckets.assets", "services.web"]):
        yield Wrong(
            f"reference {reference}",
            (*API, "environment", "A"),
            f"<${{{reference[:-1]}}}>",
            (
                f"ancla:services.api.environment.A: ${{{reference[:-1]}}} refers to nothing",
                f"did you mean {reference}?",
            ),
        )

    for text, told in (
        ("${buckets.asets.origin}", "refers to nothing; did you mean buckets.assets.origin?"),
        ("${database.password}", "${database.password} is secret, and everybody would read it here"),
        ("img-src $x", "has a $ by itself"),
    ):
        path = ("edge", "headers", "contentSecurityPolicy")
        yield Wrong(f"header {text}", path, text, ("ancla:edge.headers.contentSecurityPolicy: ", told))


def circles() -> Iterator[Wrong]:
    for size in range(1, 6):
        names = [f"s{number}" for number in range(size)]
        each = {
            name: {"image": "x:1", "uses": [f"services.{names[(number + 1) % size]}"]}
            for number, name in enumerate(names)
        }
        told = f"goes in a circle: {' → '.join([*names, names[0]])}; remove one"
        yield Wrong(f"circle of {size}", ("services",), each, ("ancla:services.s0.uses:", told))


def bad_names() -> Iterator[Wrong]:
    for name in ("API", "a", "1st", "my_api", "api.v1", "-api", "api-", "a" * 41, "ápi", "a b"):
        yield Wrong(f"service {name}", ("services", name), {"image": "x:1"}, (f"ancla:services.{name}: ", "short name"))
    for name in ("A-B", "1A", "A B", "É", "A=B", ""):
        yield Wrong(
            f"variable {name}",
            (*API, "environment", name),
            "x",
            ("ancla:services.api.environment", "cannot be the name"),
        )
        yield Wrong(
            f"secret {name}", (*API, "secrets"), [name], ("ancla:services.api.secrets[0]", "cannot be the name")
        )


def bad_values() -> Iterator[Wrong]:
    """Keys of `api` with a value that is not allowed, and what must be said."""
    table: dict[str, list[tuple[Any, str]]] = {
        "image": [
            ("Web:1", "is not an image"),
            ("web:", "is not an image"),
            ("web:1:2", "is not an image"),
            ("web:-1", "is not an image"),
            ("web@sha256:abc", "is not an image"),
            ("ghcr.io/team/web:1", "is from ghcr.io and has no digest"),
            ("localhost:5000/web:1", "is from localhost:5000 and has no digest"),
        ],
        "run": [("static", "from: is missing"), ("node", "artifact: is missing"), ("pod", "container")],
        "artifact": [("shop", "is not an artifact"), ("shop:1", "does not go with `run: container`")],
        "from": [("dist", "is not the full path"), ("/dist", "does not go with `run: container`")],
        "node": [("21", "20, 22, 24"), ("22", "does not go with `run: container`")],
        "manager": [("forever", "systemd, pm2"), ("pm2", "does not go with `run: container`")],
        "user": [("a b", "is not a user"), ("1:2:3", "is not a user"), ("-1", "is not a user")],
        "port": [
            (0, "greater than or equal to 1"),
            (70000, "less than or equal to 65535"),
            (80, "is Nginx's"),
            (22, "is sshd's"),
            (3000, "is web's too"),
        ],
        "memory": [("512", "is not a size"), ("0M", "is not a size"), ("1M", "is less than Docker takes")],
        "cpus": [(0, "greater than 0"), (-1, "greater than 0"), (65, "less than or equal to 64")],
        "instances": [
            (0, "give 1 to 32"),
            (33, "give 1 to 32"),
            ({"min": 3, "max": 2}, "min: 3 is more than max: 2"),
            ("many", "is neither a number nor"),
        ],
        "command": [([], "at least 1"), (["a\0b"], "NUL")],
        "capabilities": [
            (["ALL"], "is not a capability"),
            (["CAP_CHOWN"], "is not a capability"),
            (["chown"], "is not a capability"),
        ],
        "uses": [
            (["databse"], "there is no databse; did you mean database?"),
            (["buckets.asset"], "there is no buckets.asset; did you mean buckets.assets?"),
            (["cache"], "there is no cache"),
            (["services.wep"], "there is no services.wep; did you mean services.web?"),
        ],
        "health": [
            ({}, "takes exactly one of"),
            ({"path": "/a", "tcp": True}, "takes exactly one of"),
            ({"tcp": False}, "takes exactly one of"),
            ({"path": "health"}, "is not a path"),
            ({"command": []}, "at least 1"),
        ],
        "environment": [({"A": "$B"}, "has a $ by itself"), ({"A": "${b"}, "has a $ by itself"), ({"A": 1}, "quotes")],
        "folders": [
            ({"data": {"path": "../etc"}}, "is not the path of a folder"),
            ({"data": {}}, "is missing, and it is required"),
        ],
    }
    for key, values in table.items():
        for value, told in values:
            yield Wrong(f"{key} {str(value)[:40]}", (*API, key), value, ("ancla:services.api", told))
    for key, value, told in (
        ("path", "api", "is not a route"),
        ("path", "/api/", "is not a route"),
        ("path", "/a b", "is not a route"),
        ("path", "/a;b", "is not a route"),
        ("host", "no dots", "is not a domain name"),
        ("rate", "10", "is not a rate"),
        ("timeout", 60, "is not a duration"),
        ("bodyLimit", "1MB", "is not a size"),
        ("cache", "forever", "is not a duration"),
        ("fallback", "index.html", "goes with `run: static` alone"),
    ):
        yield Wrong(f"route {key} {value}", (*API, "routes", 0, key), value, ("ancla:services.api", told))


def bad_together() -> Iterator[Wrong]:
    alike = [{"path": "/api"}, {"path": "/api"}]
    told = "ancla:services.api.routes[1]: /api is the route of services.api.routes[0] too; remove one"
    yield Wrong("two routes of one service", (*API, "routes"), alike, (told,))
    told = "ancla:services.api.routes[0]: / is the route of services.web.routes[0] too; remove one"
    yield Wrong("two routes of two services", (*API, "routes"), [{"path": "/"}], (told,))
    site = {"run": "static", "image": "x:1", "from": "/dist"}
    for key, value in (("port", 8000), ("command", ["a"]), ("user", "me"), ("health", {"none": True})):
        told = f"ancla:services.site: {key}: static files have none"
        yield Wrong(f"static with {key}", ("services", "site"), {**site, key: value}, (told,))
    worker = {"image": "x:1", "routes": [{"path": "/w"}]}
    yield Wrong("a route to nothing", ("services", "job"), worker, ("ancla:services.job: routes[0]: leads to a port",))
    yield Wrong("no services", ("services",), {}, ("ancla:services", "at least 1"))
    yield Wrong("a list of services", ("services",), [{"name": "web"}], ("ancla:services: ", "a mapping"))
    told = 'ancla:release.migrate.service: there is no service "ap"; there are: web, api'
    yield Wrong("migrate of nobody", ("release", "migrate", "service"), "ap", (told,))
    for key, value, said in (
        ("keepReleases", 0, "greater than or equal to 1"),
        ("strategy", "rolling", "blue-green, stop-first, waves"),
        ("burnIn", "30", "is not a duration"),
    ):
        yield Wrong(f"release {key} {value}", ("release", key), value, (f"ancla:release.{key}", said))


ALL = [
    *unknown_keys(),
    *wrong_types(),
    *bad_references(),
    *circles(),
    *bad_names(),
    *bad_values(),
    *bad_together(),
]


def test_the_file_that_they_are_made_of_is_right(tmp_path: Path):
    """The control: nothing is refused for what all of them have."""
    right = Wrong("right", ("services", "web", "port"), 3000, ())
    path = tmp_path / "Pulumi.staging.yaml"
    path.write_text(yaml.safe_dump(right.document()))
    assert load_stack_file(path, environ={}).services
    assert len({wrong.name for wrong in ALL}) == len(ALL) > 100


@pytest.mark.parametrize("wrong", ALL, ids=lambda wrong: wrong.name)
def test_a_wrong_stack_file_is_one_line_and_exit_1(
    wrong: Wrong, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "Pulumi.staging.yaml"
    path.write_text(yaml.safe_dump(wrong.document(), allow_unicode=True, sort_keys=False))

    done = ops_in(tmp_path, monkeypatch, capsys)("settings", "check", path.name)

    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    for part in wrong.told:
        assert part in lines[0]
    assert "Traceback" not in done.stderr
