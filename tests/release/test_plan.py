"""The plan and its files: compose.yaml, .env, Nginx's part."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from blueprint.settings.services import ServiceSettings
from ops.core.errors import ReleaseError
from ops.release.plan import ReleasePlan, build_plan
from ops.release.routes import build_routes, build_upstreams, owner_of
from ops.release.variables import build_dotenv, build_environment

from .conftest import CANARY, LOGIN, PEM, make_outputs, make_plan, make_secrets

SHARP = {
    "PLAIN": "value",
    "EMPTY": "",
    "SPACES": "  two words  ",
    "HASH": "a #b",
    "DOLLARS": "$HOME ${HOME} $$ \\$x",
    "QUOTES": "'single' \"double\" `back`",
    "BACKSLASHES": "a\\b \\n \\\\ end\\",
    "BACKSLASH_QUOTE": "\\\"\\'",
    "LINES": PEM,
    "LINES_OF_WINDOWS": PEM.replace("\n", "\r\n"),
    "RETURN": "a\rb\r",
    "UNICODE": "ñandú ☃ 漢字",
    "EQUALS": "a=b=c",
    "SHELL": "$(id) ; rm -rf / & |",
}


def service(**values: object) -> ServiceSettings:
    return ServiceSettings.model_validate({"image": "x:1", "port": 3000, **values})


def test_images_are_pinned_by_digest_and_ports_are_on_loopback():
    document = yaml.safe_load(make_plan().compose)
    for name, found in document["services"].items():
        assert found["image"].startswith("registry.digitalocean.com/acme/")
        assert f"@sha256:{name}-1.0.0" in found["image"]
        assert [port.startswith("127.0.0.1:") for port in found["ports"]] == [True]
        assert found["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
        assert found["security_opt"] == ["no-new-privileges:true"]


def test_a_service_gets_its_own_secrets_and_no_other_services():
    services = yaml.safe_load(make_plan().compose)["services"]
    assert "TOKEN" in services["api"]["environment"]
    assert "TOKEN" not in services["web"]["environment"]
    assert services["web"]["environment"]["PRICE"] == "$$5"
    assert services["worker"]["environment"]["VERSION"] == "1.0.0"


def test_a_new_authority_of_the_database_makes_new_containers():
    outputs = make_outputs()
    assert outputs.database
    renewed = outputs.database.model_copy(update={"ca_certificate": "another"})
    assert make_plan().compose != make_plan(database=renewed.model_dump()).compose


def test_the_database_is_reached_privately_verified_and_by_the_pool():
    values = build_environment(make_outputs(), make_secrets())
    assert values["DATABASE_URL"].endswith(
        "@private-db.example.org:25061/app-pool?sslmode=verify-full&sslrootcert=/run/ancla/database-ca.crt"
    )
    assert "@private-db.example.org:25060/app?" in values["DATABASE_DIRECT_URL"]
    assert "$x%5C%20%26%3D%2F" in values["DATABASE_URL"] or "%24x%5C%20%26%3D%2F" in values["DATABASE_URL"]
    assert "UNUSED" not in values


def test_what_the_stack_lacks_is_not_in_the_environment():
    plan = make_plan(database=None, buckets={})
    assert not {name for name in plan.variables if name.startswith(("DATABASE", "SPACES"))}
    assert plan.ca_certificate is None
    assert "volumes" not in yaml.safe_load(plan.compose)["services"]["api"]


def test_each_bucket_has_its_variables_by_its_name():
    values = build_environment(make_outputs(), make_secrets())

    assert {name.removeprefix("SPACES_MY_ASSETS_"): value for name, value in values.items() if "SPACES" in name} == {
        "BUCKET": "assets",
        "REGION": "nyc3",
        "ENDPOINT": "https://nyc3.digitaloceanspaces.com",
        "URL": "https://assets.nyc3.cdn.digitaloceanspaces.com",
        "ACL": "public-read",
        "KEY": "ACCESS",
        "SECRET": "SPACES-SECRET",
    }


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"secrets": ["ABSENT"]}, r"services.web.secrets: ABSENT is not in secrets.app; .*pulumi config set"),
        ({"secrets": ["COMPOSE_FILE"]}, "COMPOSE_FILE: compose itself reads this name"),
        ({"replicas": 2}, "services.web.replicas: 2 is valid, but not supported yet"),
    ],
)
def test_what_cannot_be_released_is_refused_at_the_desk(change: dict[str, object], complaint: str):
    web = {"name": "web", "image": "web:1", "port": 3000, **change}
    with pytest.raises(ReleaseError, match=complaint):
        make_plan(services=[web])


def test_no_secret_is_in_what_a_person_or_a_log_sees():
    plan = make_plan()
    seen = "\n".join((plan.described(), repr(plan), str(plan.model_dump(mode="json")), plan.compose))
    for secret in (CANARY, "first-line-of-a-key", "SPACES-SECRET", "LOGIN-CANARY", "kanarienvogel"):
        assert secret not in seen
        # the control: it is in what the machine gets
        assert secret in json.dumps(plan.document(), ensure_ascii=False).replace("\\n", "\n") or secret == CANARY


def test_the_machine_reads_the_very_plan_the_desk_made():
    plan = make_plan()
    received = ReleasePlan.model_validate_json(json.dumps(plan.document()))
    assert received == plan
    assert received.digest == plan.digest


def test_the_digest_follows_what_is_released_and_not_the_login():
    assert make_plan().digest == make_plan(login='{"auths": {}}').digest
    assert make_plan().digest != make_plan("1.0.1").digest
    changed = make_secrets().model_copy(update={"app": make_secrets().app | {"TOKEN": make_secrets().app["KEY"]}})
    digests = dict.fromkeys(("web", "api", "worker"), "sha256:x")
    plans = [build_plan(make_outputs(), secrets, digests, LOGIN) for secrets in (make_secrets(), changed)]
    assert plans[0].digest != plans[1].digest


def test_routes_pass_a_prefix_and_all_below_it_and_nothing_beside_it():
    services = [service(name="web", route="/"), service(name="api", route="/api", port=3001), service(name="worker")]
    routes = build_routes(services)
    assert "location / {\n    proxy_pass http://ancla_web;" in routes
    assert "location = /api {" in routes
    assert "location /api/ {" in routes
    assert "worker" not in routes + build_upstreams(services)
    assert "add_header" not in routes  # it would take the site's headers away
    assert build_upstreams(services) == (
        "# Written by Ancla; changes here are undone by the next release.\n"
        "upstream ancla_web {\n    server 127.0.0.1:3000;\n    keepalive 16;\n}\n"
        "upstream ancla_api {\n    server 127.0.0.1:3001;\n    keepalive 16;\n}\n"
    )


@pytest.mark.parametrize(
    ("path", "owner"),
    [("/", "web"), ("/health", "web"), ("/api", "api"), ("/api/x", "api"), ("/apiary", "web"), ("/api/v2/x", "v2")],
)
def test_a_path_belongs_to_the_longest_route(path: str, owner: str):
    services = [service(name="web", route="/"), service(name="api", route="/api"), service(name="v2", route="/api/v2")]
    found = owner_of(path, services)
    assert found is not None
    assert found.name == owner


def test_a_path_without_a_route_belongs_to_nobody():
    assert owner_of("/health", [service(name="api", route="/api")]) is None


def test_a_health_path_of_another_service_is_not_asked_for_through_nginx():
    services = {planned.name: planned for planned in make_plan().services}
    assert (services["web"].public_path, services["web"].public_is_health) == ("/health", True)
    assert (services["api"].public_path, services["api"].public_is_health) == ("/api", False)
    assert services["worker"].public_path is None


@pytest.fixture
def compose() -> list[str]:
    for command in (["docker", "compose"], [os.environ.get("ANCLA_COMPOSE") or "docker-compose"]):
        if (
            shutil.which(command[0])
            and not subprocess.run([*command, "version"], capture_output=True, check=False).returncode
        ):
            return command
    pytest.skip("docker compose v2 is not installed here; set ANCLA_COMPOSE")


def test_composes_own_reader_gives_every_value_back(compose: list[str], tmp_path: Path):
    (tmp_path / ".env").write_text(build_dotenv(SHARP))
    listed = "\n".join(f"      {name}:" for name in SHARP)
    (tmp_path / "compose.yaml").write_text(f"services:\n  one:\n    image: x\n    environment:\n{listed}\n")
    done = subprocess.run(
        [*compose, "config", "--format", "json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    found = json.loads(done.stdout)["services"]["one"]["environment"]
    # what `config` prints can be read again as a compose file, so it writes `$` as `$$`
    assert {name: value.replace("$$", "$") for name, value in found.items()} == SHARP
