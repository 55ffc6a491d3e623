"""The plan of a droplet, on every base: rendered, ordered, and the same until something in it changes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from blueprint.machine import (
    BackupTimerSettings,
    Fail2banSettings,
    FirewallSettings,
    MachineSettings,
    PostgresqlClientSettings,
    SshSettings,
)
from host.bases import BASES, Base, base_named, base_of_image
from host.errors import ConvergeError
from host.look import Seen
from host.plan import Plan, build_ops_plan, build_packages, build_plan
from host.services import Off, Service
from host.steps import File
from sandbox.parts import images
from tests.host.machine import Machine

PERSON = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEDj0m0v1V5gqf3v2pJmB0q1m4bQ2yqk0cQW1Zk3p0aB ana@laptop extra words"
DEPLOY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEDj0m0v1V5gqf3v2pJmB0q1m4bQ2yqk0cQW1Zk3p0aC"
OFF = ("upgrades", "docker", "nginx", "fail2ban", "journal")
every_base = pytest.mark.parametrize("base", BASES, ids=lambda base: f"{base.name}-{base.version}")


@pytest.fixture(autouse=True)
def _compose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "docker-compose").write_text("")
    monkeypatch.setenv("ANCLA_COMPOSE", str(tmp_path / "docker-compose"))


def settings(**changes: Any) -> MachineSettings:
    values = {
        "hostname": "acme-prod",
        "ssh": SshSettings(user="deploy", deploy_key=DEPLOY, keys={"zoe": PERSON, "ana": PERSON}),
        "firewall": FirewallSettings(ssh_sources=("203.0.113.0/24", "::/0")),
        "fail2ban": Fail2banSettings(trusted=("203.0.113.0/24", "::/0")),
        "postgresql_client": PostgresqlClientSettings(majors=("15",)),
    }
    return MachineSettings(**(values | changes))


def item(plan: Plan, path: str) -> str:
    """The text of the one file of a plan at this path."""
    found = [file for step in plan.steps for file in step.files() if file.path == path]
    assert len(found) == 1, f"{path}: owned by {len(found)} steps"
    assert isinstance(found[0], File)
    return found[0].content


def base_of(version: str) -> Base:
    return next(base for base in BASES if base.version == version)


# --- every base ------------------------------------------------------------------------------------------------------


@every_base
def test_a_plan_renders_with_one_owner_for_each_file(base: Base):
    plan = build_plan(settings(), base)
    paths = [file.path for step in plan.steps for file in step.files()]
    assert len(paths) == len(set(paths))
    assert len({step.name for step in plan.steps}) == len(plan.steps)
    assert "{{" not in plan.text()


@every_base
def test_a_new_droplet_has_something_to_do_in_every_step_but_those_for_later(base: Base):
    plan = build_plan(settings(), base)
    idle = [step.name for step in plan.steps if not step.change(Seen()).commands]
    assert idle == ([] if base.postgresql != "15" else ["packages: no repository of PostgreSQL's own"])


@every_base
def test_with_everything_off_ssh_and_the_firewall_stay(base: Base):
    plan = build_plan(settings(**dict.fromkeys(OFF), postgresql_client=None), base)
    assert {step.key for step in plan.steps if isinstance(step, Service)} == {"ssh", "systemd-journald"}
    assert any(step.name == "firewall: UFW" for step in plan.steps)
    off = {step.key: step for step in plan.steps if isinstance(step, Off)}
    assert off.keys() == {"docker", "nginx", "fail2ban"}
    assert all("stay" in step.keeps for step in off.values()), "it says where the data lies"
    packages = build_packages(settings(**dict.fromkeys(OFF), postgresql_client=None), base)
    assert not {"docker.io", "nginx", "fail2ban", "unattended-upgrades"} & set(packages)


@every_base
def test_the_firewall_is_closed_before_any_service_listens(base: Base):
    names = [step.name.partition(":")[0] for step in build_plan(settings(), base).steps]
    firewall = names.index("firewall")
    assert names.index("packages") < firewall < names.index("ssh") < names.index("nginx")


@every_base
def test_http2_is_written_as_the_bases_nginx_wants_it(base: Base):
    site = item(build_plan(settings(), base), "/etc/nginx/sites-available/ancla")
    new = base.nginx >= (1, 25, 1)
    assert ("http2 on;" in site) is new
    assert ("listen 443 ssl http2 default_server;" in site) is not new
    assert "listen 80 default_server;" in site


@every_base
def test_postgresqls_own_repository_is_on_for_a_major_that_the_base_lacks(base: Base):
    other = build_plan(settings(postgresql_client=PostgresqlClientSettings(majors=("13", base.postgresql))), base)
    sources = item(other, "/etc/apt/sources.list.d/ancla-pgdg.sources")
    assert f"Suites: {base.codename}-pgdg\n" in sources
    key = next(line for line in sources.splitlines() if line.startswith("Signed-By: ")).removeprefix("Signed-By: ")
    assert item(other, key).startswith("-----BEGIN PGP PUBLIC KEY BLOCK-----\n")
    own = build_plan(settings(postgresql_client=PostgresqlClientSettings(majors=(base.postgresql,))), base)
    assert "no /etc/apt/sources.list.d/ancla-pgdg.sources" in own.text()


@pytest.mark.skipif(shutil.which("gpg") is None, reason="no gpg here")
def test_the_repositorys_key_is_the_one_that_postgresql_publishes():
    done = subprocess.run(
        ["gpg", "--show-keys", "--with-colons", "host/templates/pgdg.asc"], capture_output=True, text=True, check=True
    )
    fingerprints = [line.split(":")[9] for line in done.stdout.splitlines() if line.startswith("fpr:")]
    assert fingerprints[0] == "B97B0AFCAA1A47F044F244A07FCC7D46ACCC4CF8"


@pytest.mark.parametrize("version", ["13", "forky"])
def test_the_docker_command_is_installed_where_it_is_a_package_of_its_own(version: str):
    assert "docker-cli" in build_packages(settings(), base_of(version))
    assert "docker-cli" not in build_packages(settings(), base_of("24.04"))


def test_a_droplet_without_a_database_gets_no_client():
    packages = build_packages(settings(postgresql_client=None), base_of("12"))
    assert not [name for name in packages if "postgresql" in name]


def test_sshd_takes_the_place_of_its_socket_on_every_base():
    for base in BASES:
        (ssh,) = [
            step for step in build_plan(settings(), base).steps if isinstance(step, Service) and step.key == "ssh"
        ]
        assert ssh.instead_of == ("ssh.socket",)
        assert ssh.guards_login


def test_what_may_lock_out_has_a_way_back():
    ways = {step.name: step.way_back() or "" for step in build_plan(settings(), base_of("24.04")).steps}
    back = {name: way for name, way in ways.items() if way}
    assert back.keys() == {"firewall: UFW", "ssh: who may log in, and how"}
    assert "/home/deploy/.ssh/authorized_keys" in back["ssh: who may log in, and how"]
    assert "/etc/ssh/sshd_config.d/10-ancla.conf" in back["ssh: who may log in, and how"]
    for path in ("/etc/ufw/user.rules", "/etc/ufw/after.rules", "/etc/default/ufw"):
        assert path in back["firewall: UFW"]


def test_authorized_keys_are_the_deploy_key_and_people_without_options():
    text = item(build_plan(settings(), base_of("12")), "/home/deploy/.ssh/authorized_keys")
    deploy, ana, zoe = text.splitlines()
    assert deploy == f"{DEPLOY} ancla-deploy"
    assert ana.split() == [*PERSON.split()[:2], "ana"]
    assert zoe.endswith(" zoe")


# --- bases -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", ["ubuntu-22-04-x64", "ubuntu-24-04-x64", "ubuntu-26-04-x64"])
def test_each_image_has_its_distribution_and_one_that_stands_for_it(image: str):
    name, major, minor, _ = image.split("-")
    assert base_of_image(image) == base_named(name, f"{major}.{minor}")
    official, suite = images.BASES[images.DROPLETS[image]]
    assert official == f"{name}:{major}.{minor}"
    assert suite in {base.codename for base in BASES if base.name == "debian"}


def test_a_distribution_without_a_version_is_known_by_its_codename():
    assert base_named("debian", "", "forky").codename == "forky"


def test_an_unknown_distribution_is_refused_by_name():
    with pytest.raises(ConvergeError, match=r"runs fedora 41; Ancla supports ubuntu 22.04, "):
        base_named("fedora", "41", "")
    with pytest.raises(ConvergeError, match=r"droplet.image: centos-9 is not known"):
        base_of_image("centos-9")


# --- when a droplet is converged again -------------------------------------------------------------------------------


def digests(root: str = ".", **changes: Any) -> dict[str, str]:
    request = {
        "image": "ubuntu-24-04-x64",
        "machine": settings(**changes).model_dump(mode="json"),
        "timers": {"schedule": "daily"},
    }
    done = subprocess.run(
        [sys.executable, "-m", "host", "plan"],
        input=json.dumps(request),
        text=True,
        capture_output=True,
        cwd=root,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy")
    subprocess.run(["cp", "-r", "host", "blueprint", "ops", str(folder)], check=True)
    return folder


def test_the_digests_are_the_same_in_another_folder(copy: Path):
    assert digests() == digests(str(copy))


def test_a_docstring_in_ops_converges_no_droplet(copy: Path):
    before = digests(str(copy))
    file = copy / "ops" / "__init__.py"
    file.write_text(file.read_text() + '"""Another docstring."""\n')
    after = digests(str(copy))
    assert after["machine"] == before["machine"]
    assert after["ops"] != before["ops"]


@pytest.mark.parametrize(
    ("path", "plan"),
    [("sshd.conf", "machine"), ("site.conf", "machine"), ("backup.timer", "ops"), ("ops.sh", "ops")],
)
def test_a_template_changes_the_plan_it_is_in_and_no_other(copy: Path, path: str, plan: str):
    before = digests(str(copy))
    file = copy / "host" / "templates" / path
    file.write_text(file.read_text() + "# another line\n")
    after = digests(str(copy))
    assert [name for name in before if before[name] != after[name]] == [plan]


def test_a_new_colleague_is_another_plan():
    assert digests()["machine"] != digests(ssh=SshSettings(user="deploy", deploy_key=DEPLOY))["machine"]


# --- one look --------------------------------------------------------------------------------------------------------


def test_one_look_answers_all_that_a_plan_asks(tmp_path: Path):
    machine = Machine(tmp_path)
    machine.unit("nginx.service", on=True)
    machine.path("/etc/nginx").mkdir()
    machine.path("/etc/nginx/nginx.conf").write_text("edited\n")
    machine.path("/etc/nginx/nginx.conf").chmod(0o644)
    plan = build_plan(settings(), base_of("12"))

    seen = machine.look(plan)

    assert seen.files["/etc/nginx/nginx.conf"].startswith("644 root:root ")
    assert "/etc/fail2ban/jail.d/ancla.conf" not in seen.files
    assert seen.unit("nginx.service").on
    assert not seen.unit("fail2ban.service").present
    assert seen.lines["hostname"] != ()
    nginx = next(step for step in plan.steps if step.name == "nginx: the server")
    assert "/etc/nginx/nginx.conf differs" in nginx.change(seen).differences


def test_a_secret_that_differs_is_named_and_not_shown(tmp_path: Path):
    machine = Machine(tmp_path)
    machine.path("/etc/ancla").mkdir()
    machine.path("/etc/ancla/secrets.json").write_text("{}\n")
    steps = build_ops_plan(base_of("12"), None, {}, {"password": "CANARY"}).steps
    (step,) = [step for step in steps if step.name == "ops: secrets"]
    seen = machine.look(step)
    assert step.change(seen).differences == ("/etc/ancla/secrets.json differs",)
    assert step.edited(seen) == []


def test_texts_are_never_in_a_command_line():
    canary = "CANARY-of-a-secret"
    plan = build_ops_plan(base_of("12"), BackupTimerSettings(schedule="daily"), {}, {"password": canary})
    for step in plan.steps:
        assert canary not in repr(step)
        for command in step.change(Seen()).commands:
            assert canary not in command.script
            assert canary not in repr(command)
    assert canary not in plan.text()
