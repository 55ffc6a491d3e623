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

from .conftest import CANARY, LOGIN, PEM, SERVICES, make_outputs, make_plan, make_secrets

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


def services(**each: dict[str, object]) -> dict[str, ServiceSettings]:
    image = {"image": "x:1"}
    return {name: ServiceSettings.model_validate(image | values) for name, values in each.items()}


def compose_of(**changes: object) -> dict[str, dict[str, object]]:
    """The services of compose.yaml when these keys of `api` are changed."""
    api = {**SERVICES["api"], **changes}
    return yaml.safe_load(make_plan(services={"api": api}).compose)["services"]


def test_images_are_pinned_by_digest_and_ports_are_on_loopback():
    document = yaml.safe_load(make_plan().compose)
    for name, found in document["services"].items():
        assert found["image"].startswith("registry.digitalocean.com/acme/")
        assert f"@sha256:{name}-1.0.0" in found["image"]
        assert [port.startswith("127.0.0.1:") for port in found.get("ports", [])] == [True] * (name != "jobs")
        assert found["logging"]["options"] == {"max-size": "10m", "max-file": "3"}


def test_a_container_may_do_nothing_but_run():
    """The least that a container is left with, and what each key takes back."""
    api = compose_of()["api"]
    assert api["security_opt"] == ["no-new-privileges:true"]
    assert api["cap_drop"] == ["ALL"]
    assert (api["read_only"], api["tmpfs"], api["environment"]["HOME"]) == (
        True,
        ["/tmp:mode=1777,size=256m"],
        "/tmp",
    )
    assert not {"cap_add", "user", "mem_limit", "cpus", "command"} & api.keys()

    given = compose_of(
        readOnly=False,
        capabilities=["NET_BIND_SERVICE"],
        user=1000,
        memory="512M",
        cpus=0.5,
        command=["serve", "$HOME"],
    )["api"]
    assert not {"read_only", "tmpfs"} & given.keys()
    assert "HOME" not in given["environment"]
    assert given["cap_add"] == ["NET_BIND_SERVICE"]
    assert (given["user"], given["mem_limit"], given["cpus"]) == ("1000", 512 * 1024**2, 0.5)
    assert given["command"] == ["serve", "$$HOME"]


def test_a_worker_has_no_port_and_nothing_leads_to_it():
    plan = make_plan()
    jobs = yaml.safe_load(plan.compose)["services"]["jobs"]
    assert "ports" not in jobs
    assert "PORT" not in jobs["environment"]
    assert "jobs" not in plan.routes + plan.upstreams
    [planned] = [service for service in plan.services if service.name == "jobs"]
    assert (planned.port, planned.health_path, planned.public_path) == (None, None, None)


@pytest.mark.parametrize(
    ("health", "planned", "check"),
    [
        ({"path": "/up"}, (3001, "/up"), None),
        ({"tcp": True}, (3001, None), None),
        ({"none": True}, (None, None), {"disable": True}),
        (
            {"command": ["check", "$X"]},
            (None, None),
            {
                "test": ["CMD", "check", "$$X"],
                "interval": "10s",
                "timeout": "5s",
                "retries": 3,
                "start_period": "60s",
            },
        ),
    ],
)
def test_each_kind_of_health_is_asked_by_who_can(health: object, planned: object, check: object):
    plan = make_plan(services={"api": {**SERVICES["api"], "health": health}})
    assert (plan.services[0].port, plan.services[0].health_path) == planned
    assert yaml.safe_load(plan.compose)["services"]["api"].get("healthcheck") == check


def test_each_instance_has_a_container_and_an_address_of_its_own():
    plan = make_plan(services={"api": {**SERVICES["api"], "instances": 3}})
    found = yaml.safe_load(plan.compose)["services"]
    assert {name: one["ports"] for name, one in found.items()} == {
        "api": ["127.0.0.1:3001:3001"],
        "api.2": ["127.0.0.2:3001:3001"],
        "api.3": ["127.0.0.3:3001:3001"],
    }
    assert "server 127.0.0.1:3001;\n    server 127.0.0.2:3001;\n    server 127.0.0.3:3001;\n" in plan.upstreams
    assert plan.services[0].containers == [("api", "127.0.0.1"), ("api.2", "127.0.0.2"), ("api.3", "127.0.0.3")]


def test_an_image_from_elsewhere_is_taken_by_its_own_digest():
    digest = "sha256:" + "a" * 64
    foreign = {"image": f"ghcr.io/team/tool:1.2@{digest}", "port": 9000}
    plan = build_plan(make_outputs(services={"tool": foreign}), make_secrets(), {}, LOGIN)
    assert (plan.services[0].image, plan.services[0].version) == (f"ghcr.io/team/tool@{digest}", "1.2")


def test_a_service_gets_what_it_uses_its_own_secrets_and_nothing_else():
    found = {name: one["environment"] for name, one in yaml.safe_load(make_plan().compose)["services"].items()}
    assert found["worker"] == {"ENVIRONMENT": "staging", "VERSION": "1.0.0", "HOME": "/tmp", "PORT": "3002"}
    assert found["api"].keys() - found["worker"].keys() == {
        "DATABASE_URL",
        "DATABASE_DIRECT_URL",
        *(f"SPACES_MY_FILES_{name}" for name in ("BUCKET", "REGION", "ENDPOINT", "KEY", "SECRET", "URL", "ACL")),
        "TOKEN",
        "KEY",
    }
    assert found["api"]["TOKEN"] is None
    assert found["web"].keys() - found["worker"].keys() == {"PRICE", "HOST", "SPACES_KEY"}


def test_a_reference_is_its_value_and_a_secret_one_is_in_dotenv_alone():
    plan = make_plan()
    web = yaml.safe_load(plan.compose)["services"]["web"]["environment"]
    assert (web["PRICE"], web["HOST"]) == ("$$5", "staging.example.org")
    assert web["SPACES_KEY"] == "<${ancla_buckets_my_files_key}$$>"
    assert 'ancla_buckets_my_files_key="ACCESS"' in plan.dotenv.get_secret_value()
    assert "ACCESS" in {value.get_secret_value() for value in plan.secret_values}
    assert "ACCESS" not in plan.compose


def test_another_service_is_used_by_its_name_and_started_first():
    web = {"image": "web:1", "uses": ["services.api"]}
    found = yaml.safe_load(make_plan(services={"api": SERVICES["api"], "web": web}).compose)["services"]
    assert found["web"]["depends_on"] == ["api"]
    assert found["web"]["environment"]["SERVICE_API_URL"] == "http://api:3001"


def test_a_new_authority_of_the_database_makes_new_containers_of_who_uses_it():
    outputs = make_outputs()
    assert outputs.database
    renewed = outputs.database.model_copy(update={"ca_certificate": "another"})
    before, after = (
        yaml.safe_load(plan.compose)["services"] for plan in (make_plan(), make_plan(database=renewed.model_dump()))
    )
    assert {name for name in before if before[name] != after[name]} == {"api"}
    assert "volumes" not in before["worker"]


@pytest.mark.parametrize(("environment", "mounted"), [({"HOST": "${database.host}"}, True), ({"HOST": "x"}, False)])
def test_who_refers_to_the_database_has_its_certificate(environment: dict[str, str], mounted: bool):
    assert ("volumes" in compose_of(uses=[], environment=environment)["api"]) is mounted


def test_the_database_is_reached_privately_verified_and_by_the_pool():
    values = build_environment(make_outputs(), make_secrets()).dotenv
    assert values["ancla_database_url"].endswith(
        "@private-db.example.org:25061/app-pool?sslmode=verify-full&sslrootcert=/run/ancla/database-ca.crt"
    )
    assert "@private-db.example.org:25060/app?" in values["ancla_database_directurl"]
    assert "%24x%5C%20%26%3D%2F" in values["ancla_database_url"]
    assert "UNUSED" not in values


def test_each_bucket_has_its_variables_by_its_name():
    """The control of what a service uses: each variable has its own value."""
    api = yaml.safe_load(make_plan().compose)["services"]["api"]["environment"]
    assert {name.removeprefix("SPACES_MY_FILES_"): value for name, value in api.items() if "SPACES" in name} == {
        "BUCKET": "assets",
        "REGION": "nyc3",
        "ENDPOINT": "https://nyc3.digitaloceanspaces.com",
        "URL": "https://assets.nyc3.cdn.digitaloceanspaces.com",
        "ACL": "public-read",
        "KEY": "${ancla_buckets_my_files_key}",
        "SECRET": "${ancla_buckets_my_files_secret}",
    }


def test_what_the_stack_lacks_is_not_in_the_environment():
    plan = make_plan(database=None, buckets={}, services={"api": SERVICES["api"]})
    assert plan.variables == ("KEY", "TOKEN")
    assert plan.ca_certificate is None
    assert "volumes" not in yaml.safe_load(plan.compose)["services"]["api"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"secrets": ["ABSENT"]}, r"services.web.secrets: ABSENT is not in secrets.app; .*pulumi config set"),
        ({"secrets": ["COMPOSE_FILE"]}, "COMPOSE_FILE: compose itself reads this name"),
        ({"secrets": ["ancla_database_url"]}, "ancla_database_url: compose itself reads this name"),
        (
            {"environment": {"A": "${buckets.none.key}"}},
            r"services.web.environment.A: the environment has no buckets.none.key",
        ),
    ],
)
def test_what_cannot_be_released_is_refused_at_the_desk(change: dict[str, object], complaint: str):
    with pytest.raises(ReleaseError, match=complaint):
        make_plan(services={"web": {"image": "web:1", "port": 3000, **change}})


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
    digests = dict.fromkeys(SERVICES, "sha256:x")
    plans = [build_plan(make_outputs(), secrets, digests, LOGIN) for secrets in (make_secrets(), changed)]
    assert plans[0].digest != plans[1].digest


ROUTED = services(
    web={"port": 3000, "routes": [{"path": "/"}]},
    api={"port": 3001, "routes": [{"path": "/api"}, {"path": "/hooks"}]},
    v2={"port": 3002, "routes": [{"path": "/api/v2"}]},
    worker={"port": 3003},
)


def test_routes_pass_a_prefix_and_all_below_it_and_nothing_beside_it():
    routes = build_routes(ROUTED, {})
    assert "location / {\n    proxy_pass http://ancla_web;" in routes
    for path in ("/api", "/hooks"):
        assert f"location = {path} {{\n    proxy_pass http://ancla_api;" in routes
        assert f"location {path}/ {{\n    proxy_pass http://ancla_api;" in routes
    assert "worker" not in routes + build_upstreams(ROUTED)
    assert "add_header" not in routes  # it would take the site's headers away
    assert build_upstreams({name: ROUTED[name] for name in ("web", "api", "worker")}) == (
        "# Written by Ancla; changes here are undone by the next release.\n"
        "upstream ancla_web {\n    server 127.0.0.1:3000;\n    keepalive 16;\n}\n"
        "upstream ancla_api {\n    server 127.0.0.1:3001;\n    keepalive 16;\n}\n"
    )


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("/", "web"),
        ("/health", "web"),
        ("/api", "api"),
        ("/api/x", "api"),
        ("/apiary", "web"),
        ("/hooks/a", "api"),
        ("/api/v2/x", "v2"),
    ],
)
def test_a_path_belongs_to_the_longest_route(path: str, owner: str):
    assert owner_of(path, ROUTED) == owner


def test_a_path_without_a_route_belongs_to_nobody():
    assert owner_of("/health", {"api": ROUTED["api"]}) is None


def test_a_health_path_of_another_service_is_not_asked_for_through_nginx():
    planned = {service.name: service for service in make_plan().services}
    assert (planned["web"].public_path, planned["web"].public_is_health) == ("/health", True)
    assert (planned["api"].public_path, planned["api"].public_is_health) == ("/api", False)
    assert planned["worker"].public_path is None


def test_static_files_are_nginxs_and_have_no_container():
    site = {"run": "static", "image": "site:1", "from": "/dist"}
    routes = [{"path": "/", "fallback": "index.html"}, {"path": "/docs"}]
    plan = make_plan(services={"site": {**site, "routes": routes}, "api": SERVICES["api"]})
    [planned, _] = plan.services
    assert planned.static
    assert (planned.containers, planned.static.folder, planned.static.paths) == ([], "/dist", ("/", "/docs"))
    assert (planned.public_path, planned.public_is_health) == ("/", True)
    assert list(yaml.safe_load(plan.compose)["services"]) == ["api"]
    assert "site" not in plan.upstreams
    files = (
        f"    root /var/www/ancla/{planned.static.root};\n    disable_symlinks on;\n    try_files $uri $uri/index.html"
    )
    assert f"location / {{\n{files} /index.html;\n}}\n" in plan.routes
    assert f"location /docs/ {{\n{files} =404;\n}}\n" in plan.routes
    again = make_plan("2.0.0", services={"site": {**site, "routes": routes}}).services[0].static
    assert again
    assert again.root != planned.static.root


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
    # by its own name, as a secret of the app; and within a text, as a secret that is referred to
    listed = "\n".join(f"      {name}:\n      IN_{name}: '<${{{name}}}$$>'" for name in SHARP)
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
    wanted = SHARP | {f"IN_{name}": f"<{value}$>" for name, value in SHARP.items()}
    assert {name: value.replace("$$", "$") for name, value in found.items()} == wanted
