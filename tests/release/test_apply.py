"""What a machine holds after a release: whole, unchanged, failed, killed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from ops.core.errors import ReleaseError
from ops.release.apply import Release
from ops.release.machine import Layout, Machine
from ops.release.plan import ReleasePlan

from .conftest import CANARY, LOGIN, PEM, FakeMachine, KilledError, failing_at, make_plan


def apply(plan: ReleasePlan, machine: Machine) -> Any:
    return Release(plan=plan, machine=machine, progress=lambda _: None).apply()


def assert_whole(machine: FakeMachine, plan: ReleasePlan) -> None:
    """Exactly this release is on disk, in Docker and in Nginx, and recorded."""
    layout = machine.layout
    assert json.loads(layout.record.read_text())["digest"] == plan.digest
    assert machine.up_with == {
        "compose.yaml": plan.compose,
        ".env": plan.dotenv.get_secret_value(),
        "ca.crt": plan.ca_certificate,
    }
    assert {name: (layout.app / name).read_text() for name in machine.up_with} == machine.up_with
    assert machine.served == {"app.upstreams.conf": plan.upstreams, "app.routes.conf": plan.routes}


def test_a_release_is_whole_and_its_secrets_are_roots_alone(machine: FakeMachine):
    report = apply(make_plan(), machine)
    assert report.result == "released"
    assert [(s.name, s.version) for s in report.services] == [
        (name, "1.0.0") for name in ("web", "api", "worker", "jobs")
    ]
    assert_whole(machine, make_plan())
    for name in (".env", "compose.yaml", "release.json"):
        assert stat.S_IMODE((machine.layout.app / name).stat().st_mode) == 0o600


def test_the_same_again_is_unchanged_and_touches_nothing(machine: FakeMachine):
    apply(make_plan(), machine)
    machine.calls.clear()
    assert apply(make_plan(login='{"auths": {"another": {}}}'), machine).result == "unchanged"
    assert {call.split()[0] for call in machine.calls} == {"get", "connect"}


@pytest.mark.parametrize("name", ["compose.yaml", ".env", "ca.crt"])
def test_a_file_changed_by_hand_is_put_right(machine: FakeMachine, name: str):
    apply(make_plan(), machine)
    (machine.layout.app / name).write_text("by hand\n")
    assert apply(make_plan(), machine).result == "released"
    assert_whole(machine, make_plan())


def test_a_service_that_died_is_started_again(machine: FakeMachine):
    apply(make_plan(), machine)
    machine.up_with.clear()
    assert apply(make_plan(), machine).result == "released"


def test_images_are_pulled_before_anything_is_touched(machine: FakeMachine):
    apply(make_plan("1.0.0"), machine)
    machine.before["any"] = failing_at("pull api@sha256:api-2.0.0")
    with pytest.raises(ReleaseError):
        apply(make_plan("2.0.0"), machine)
    assert_whole(machine, make_plan("1.0.0"))


@pytest.mark.parametrize("step", ["up", "reload_nginx", "get api by Nginx"])
def test_a_failed_first_release_leaves_the_page_that_says_so(machine: FakeMachine, step: str):
    failures = [failing_at(step)]
    machine.before["any"] = lambda call: failures.pop()(call) if failures and call == step else None
    with pytest.raises(ReleaseError, match="no release runs, as before"):
        apply(make_plan(), machine)
    assert machine.up_with == {}
    assert machine.served == {"app.routes.conf": "no release yet\n"}
    assert not machine.layout.record.exists()


@pytest.mark.parametrize("step", ["up", "connect worker", "reload_nginx", "get api by Nginx"])
def test_a_failed_release_leaves_the_former_one(machine: FakeMachine, step: str):
    apply(make_plan("1.0.0"), machine)
    failures = [failing_at(step)]
    machine.before["any"] = lambda call: failures.pop()(call) if failures and call == step else None
    with pytest.raises(ReleaseError, match="the former release runs again"):
        apply(make_plan("2.0.0"), machine)
    assert_whole(machine, make_plan("1.0.0"))


def test_a_service_that_keeps_ending_is_named_with_its_last_words_and_no_secret(machine: FakeMachine):
    apply(make_plan("1.0.0"), machine)
    machine.broken.add("2.0.0")
    with pytest.raises(ReleaseError) as found:
        apply(make_plan("2.0.0"), machine)
    assert "web 2.0.0: its container exits repeatedly" in str(found.value)
    text = "\n".join((str(found.value), *found.value.log))
    assert "cannot reach postgresql with [secret]" in text
    assert CANARY not in text
    assert PEM.splitlines()[1] not in text
    assert_whole(machine, make_plan("1.0.0"))


def test_a_secret_with_carriage_returns_is_unchanged_and_comes_back_as_it_was(machine: FakeMachine):
    plan = make_plan(key=PEM.replace("\n", "\r\n") + "\r")
    apply(plan, machine)
    written = (machine.layout.app / ".env").read_bytes()
    assert b"\r\n" in written
    assert apply(plan, machine).result == "unchanged"
    machine.broken.add("2.0.0")
    with pytest.raises(ReleaseError, match="the former release runs again"):
        apply(make_plan("2.0.0"), machine)
    assert (machine.layout.app / ".env").read_bytes() == written


@pytest.mark.parametrize("name", ["former.new/compose.yaml", ".env", "release.json"])
def test_a_full_disk_is_one_line_with_the_file_and_what_runs(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch, name: str
):
    apply(make_plan("1.0.0"), machine)
    path = machine.layout.app / name
    full = [path]
    flush = os.fsync

    def fsync(descriptor: int) -> None:
        written = Path(f"/proc/self/fd/{descriptor}").readlink()
        if full and (written.parent, written.stem) == (path.parent, f".{path.name}"):
            full.clear()  # what goes back is smaller, or there is room again
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ReleaseError) as found:
        apply(make_plan("2.0.0"), machine)
    assert f"{machine.layout.app / name}: cannot be written: No space left on device" in str(found.value)
    left = {
        "former.new/compose.yaml": "",
        ".env": "; the former release runs again",
        "release.json": "the new release runs but is not recorded: free some disk space, and run `ops deploy` again",
    }
    assert str(found.value).endswith(left[name])
    assert not [path for path in machine.layout.app.rglob(".*") if path.name != ".env"], "it would fill the disk"
    if name == "release.json":
        assert apply(make_plan("2.0.0"), machine).result == "released"
    else:
        assert_whole(machine, make_plan("1.0.0"))


@pytest.mark.parametrize("method", ["mkdir", "rename"])
def test_what_else_the_disk_refuses_is_one_line_too(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch, method: str):
    apply(make_plan("1.0.0"), machine)
    real = getattr(Path, method)

    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "former.new":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, method, refuse)
    with pytest.raises(ReleaseError, match=r"former\.new: Read-only file system"):
        apply(make_plan("2.0.0"), machine)


@pytest.mark.parametrize("first", [None, "1.0.0"])
def test_killed_at_any_step_the_next_deploy_ends_whole(machine: FakeMachine, first: str | None, monkeypatch: Any):
    if first:
        apply(make_plan(first), machine)
    # a killed process runs no handler
    monkeypatch.setattr(Release, "_put_back", lambda _: (_ for _ in ()).throw(KilledError))
    monkeypatch.setattr(Release, "_last_words", lambda _: ())
    at = 0
    while True:
        machine.calls.clear()
        version = f"2.{at}.0"

        def kill(_: str, at: int = at) -> None:
            if len(machine.calls) > at:
                raise KilledError

        machine.before["any"] = kill
        try:
            apply(make_plan(version), machine)
        except KilledError:
            machine.before.clear()
            # the release that was killed, or the one before it, or another: each ends whole
            apply(make_plan(version), machine)
            assert_whole(machine, make_plan(version))
            at += 1
        else:
            break
    assert at > 10


def test_killed_and_then_failed_goes_back_to_the_last_proven_one(machine: FakeMachine, monkeypatch: Any):
    apply(make_plan("1.0.0"), machine)
    with monkeypatch.context() as patch:
        patch.setattr(Release, "_put_back", lambda _: (_ for _ in ()).throw(KilledError))
        machine.before["any"] = lambda call: (_ for _ in ()).throw(KilledError) if call == "reload_nginx" else None
        with pytest.raises(KilledError):
            apply(make_plan("2.0.0"), machine)
        machine.before.clear()
    assert machine.up_with["compose.yaml"] == make_plan("2.0.0").compose  # half-way, as the kill left it
    machine.broken.add("3.0.0")
    with pytest.raises(ReleaseError, match="the former release runs again"):
        apply(make_plan("3.0.0"), machine)
    assert_whole(machine, make_plan("1.0.0"))


def test_two_releases_stay_on_the_disk_and_others_images_are_not_ours(machine: FakeMachine):
    machine.images_here.add("docker.io/library/redis@sha256:other")
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        apply(make_plan(version), machine)
    versions = {image.rpartition("-")[2] for image in machine.images_here if "acme" in image}
    assert versions == {"2.0.0", "3.0.0"}
    assert "docker.io/library/redis@sha256:other" in machine.images_here


def test_an_image_that_runs_as_root_is_refused_before_anything_is_touched(machine: FakeMachine):
    apply(make_plan("1.0.0"), machine)
    machine.roots.add("worker")
    complaint = r"worker 2.0.0: its image runs as root; give the image a USER, or name one in services.worker.user"
    with pytest.raises(ReleaseError, match=complaint):
        apply(make_plan("2.0.0"), machine)
    assert_whole(machine, make_plan("1.0.0"))


def test_root_is_taken_where_the_stack_file_says_so(machine: FakeMachine):
    machine.roots.add("tool")
    plan = make_plan(services={"tool": {"image": "tool:1", "user": "root"}})
    assert apply(plan, machine).result == "released"


def test_a_worker_that_ends_after_its_start_leaves_the_former_release(machine: FakeMachine):
    jobs = {"jobs": {"image": "worker:1"}}
    apply(make_plan("1.0.0", services=jobs), machine)
    machine.broken.add("2.0.0")
    with pytest.raises(ReleaseError, match=r"jobs 2\.0\.0: its container exits repeatedly; the former release runs"):
        apply(make_plan("2.0.0", services=jobs), machine)
    assert_whole(machine, make_plan("1.0.0", services=jobs))


def test_every_instance_is_asked(machine: FakeMachine):
    worker = {"image": "worker:1", "port": 3002, "instances": 2}
    apply(make_plan(services={"worker": worker}), machine)
    assert {"connect worker", "connect worker.2"} <= set(machine.calls)


STATIC = {"site": {"run": "static", "image": "site:1", "from": "/dist", "routes": [{"path": "/"}, {"path": "/docs"}]}}


def test_files_are_copied_out_of_the_image_and_the_former_ones_stay(machine: FakeMachine):
    plans = [make_plan(version, services=STATIC) for version in ("1.0.0", "2.0.0", "3.0.0")]
    for plan in plans:
        assert apply(plan, machine).result == "released"
    roots = [plan.services[0].static.root for plan in plans if plan.services[0].static]
    folder = machine.layout.static
    assert sorted(path.name for path in folder.iterdir()) == sorted(roots[1:])
    assert (folder / roots[2] / "index.html").read_text() == plans[2].services[0].image
    assert (folder / roots[2] / "docs" / "index.html").exists()
    assert "up" not in machine.calls, "compose refuses a project without services"
    machine.calls.clear()
    assert apply(plans[2], machine).result == "unchanged"
    shutil.rmtree(folder / roots[2])
    assert apply(plans[2], machine).result == "released"


def test_files_that_cannot_be_copied_leave_the_former_release(machine: FakeMachine):
    apply(make_plan("1.0.0"), machine)
    machine.before["any"] = failing_at("extract /dist")
    with pytest.raises(ReleaseError, match="extract /dist failed"):
        apply(make_plan("2.0.0", services=STATIC), machine)
    assert_whole(machine, make_plan("1.0.0"))


def test_the_login_is_kept_nowhere(machine: FakeMachine):
    apply(make_plan(login=LOGIN), machine)
    for path in machine.layout.app.rglob("*"):
        assert path.is_dir() or "LOGIN-CANARY" not in path.read_text()


def test_a_second_release_at_the_same_time_is_refused_with_the_first_ones_name(tmp_path: Any):
    machine = Machine(layout=Layout(lock=tmp_path / "lock"))
    refused = pytest.raises(ReleaseError, match=r"in progress \(release abc of staging, pid \d+")
    with machine.locked("release abc of staging"), refused, machine.locked("other"):
        pass
    with machine.locked("afterwards"):
        pass
