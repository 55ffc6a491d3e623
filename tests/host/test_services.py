"""A service runs with the files of its step: whatever was edited by hand, killed, switched off or refused before."""

from __future__ import annotations

from pathlib import Path

import pytest

from host.services import BeforePackage, Off, Service
from host.steps import File, Gone, Link
from tests.host.machine import Machine, reload_by_hand

CONFIG = "/etc/web/web.conf"
WANTED = "wanted = yes\n"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.unit("web.service", CONFIG, on=False)
    return made


def web(text: str = WANTED, **changes: object) -> Service:
    values = {
        "name": "web: the server",
        "key": "web",
        "units": ("web.service",),
        "items": (File(path=CONFIG, content=text),),
        "action": "reload",
    }
    return Service(**(values | changes))


def test_a_new_service_starts_enabled_with_its_file(machine: Machine):
    assert machine.take(web()) == [
        f"{CONFIG} is missing",
        "web.service is not enabled",
        "web.service does not run",
    ]
    assert machine.running("web.service") == WANTED
    assert machine.is_on("web.service") == (True, True)
    assert machine.take(web()) == [], "the second time there is nothing to do"


def test_a_file_edited_by_hand_is_put_back_and_the_service_reads_it_again(machine: Machine):
    machine.take(web())
    reload_by_hand(machine, web(), CONFIG, "edited\n")

    assert machine.take(web()) == [f"{CONFIG} differs"]

    assert machine.path(CONFIG).read_text() == WANTED
    assert machine.running("web.service") == WANTED
    assert machine.log() == ["reload web.service"]
    assert machine.take(web()) == []


def test_a_link_edited_by_hand_makes_the_service_read_again(machine: Machine):
    link = Link("/etc/web/on", "/etc/web/available")
    service = web(items=(File(path=CONFIG, content=WANTED), link, Gone("/etc/web/default")))
    machine.take(service)
    machine.log()
    machine.path("/etc/web/on").unlink()
    machine.path("/etc/web/default").write_text("the distribution's\n")

    assert machine.take(service) == ["/etc/web/on is missing", "/etc/web/default must not be there"]

    assert machine.log() == ["reload web.service"]
    assert machine.take(service) == []


def test_a_changed_mode_is_a_difference_that_names_it(machine: Machine):
    machine.take(web())
    machine.path(CONFIG).chmod(0o666)

    assert machine.take(web()) == [f"{CONFIG} has mode and owner 666 root:root, not 644 root:root"]
    assert machine.path(CONFIG).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("commands", range(1, 5))
def test_a_run_that_is_killed_anywhere_is_completed_by_the_next(machine: Machine, commands: int):
    machine.take(web())
    reload_by_hand(machine, web(), CONFIG, "edited\n")
    machine.killed_after = commands
    machine.take(web("other = yes\n", check="true"))

    machine.killed_after = None
    machine.take(web("other = yes\n", check="true"))

    assert machine.running("web.service") == "other = yes\n"
    assert machine.take(web("other = yes\n", check="true")) == []


def test_files_that_the_check_refuses_are_put_back_and_never_loaded(machine: Machine):
    machine.take(web())
    machine.log()
    refused = web("broken\n", check=f"! grep -q broken {CONFIG}")

    with pytest.raises(AssertionError):
        machine.take(refused)

    assert machine.path(CONFIG).read_text() == WANTED
    assert machine.log() == []
    assert machine.running("web.service") == WANTED


def test_a_file_that_was_not_there_is_removed_when_the_check_refuses_it(machine: Machine):
    with pytest.raises(AssertionError):
        machine.take(web("broken\n", check="false"))
    assert not machine.path(CONFIG).exists()


def test_nothing_is_placed_when_what_comes_before_fails(machine: Machine):
    machine.take(web())
    with pytest.raises(AssertionError):
        machine.take(web("other\n", before="false"))
    assert machine.path(CONFIG).read_text() == WANTED


@pytest.mark.parametrize("by_hand", ["disable", "stop"])
def test_a_service_stopped_or_disabled_by_hand_is_started(machine: Machine, by_hand: str):
    machine.take(web())
    machine.run(f"systemctl {by_hand} web.service")
    assert machine.take(web())
    assert machine.is_on("web.service") == (True, True)
    assert machine.take(web()) == []


def test_a_unit_file_is_loaded_before_the_unit_starts(machine: Machine):
    machine.unit("web.service", on=False)
    service = web(items=(File(path="/etc/systemd/system/web.service", content="[Service]\n"),), action="restart")
    machine.take(service)
    assert machine.log() == ["daemon-reload", "enable web.service", "restart web.service"]


# --- a socket that listens in the place of the service ----------------------------------------------------------------


def sshd() -> Service:
    return web(key="ssh", units=("ssh.service",), instead_of=("ssh.socket",), guards_login=True)


def with_socket(machine: Machine) -> None:
    machine.unit("ssh.socket")
    machine.unit("ssh.service", CONFIG, on=False)


def test_a_socket_gives_way_to_the_service(machine: Machine):
    with_socket(machine)
    requires = machine.path("/etc/systemd/system/ssh.service.requires/ssh.socket")
    requires.parent.mkdir(parents=True)
    requires.touch()

    assert "ssh.socket listens in the place of ssh.service" in machine.take(sshd())

    assert machine.is_on("ssh.socket") == (False, False)
    assert machine.is_on("ssh.service") == (True, True)
    assert not requires.exists()
    assert machine.take(sshd()) == []


@pytest.mark.parametrize("socket", [True, False], ids=["socket", "socket-lost"])
def test_sshd_that_its_socket_started_is_stopped_before_it_is_enabled(machine: Machine, socket: bool):
    """Otherwise systemd forgets it, and the port stays taken: see `Service._take_over`."""
    machine.unit("ssh.service", CONFIG, on=False)
    machine.path("units/ssh.service.alias").touch()
    machine.run("systemctl restart ssh.service")
    if socket:
        machine.unit("ssh.socket")

    machine.take(sshd())

    assert machine.is_on("ssh.service") == (True, True)
    assert machine.running("ssh.service") == WANTED
    assert machine.is_on("ssh.socket") == (False, False)
    assert machine.take(sshd()) == []


def test_the_socket_listens_again_when_the_service_does_not_start(machine: Machine):
    with_socket(machine)
    machine.path("units/ssh.service.broken").touch()

    with pytest.raises(AssertionError):
        machine.take(sshd())

    assert machine.is_on("ssh.socket") == (True, True)


def test_where_there_is_no_socket_nothing_is_asked_of_it(machine: Machine):
    machine.unit("ssh.service", CONFIG, on=False)
    machine.take(sshd())
    assert not [line for line in machine.log() if "socket" in line]


# --- the way back ----------------------------------------------------------------------------------------------------


def test_the_way_back_leaves_the_files_and_the_service_as_before(machine: Machine):
    machine.take(web("first\n"))
    service = web("locks out\n", guards_login=True)
    machine.take(service)

    script = service.way_back()

    assert script is not None
    assert machine.run(script).returncode == 0
    assert machine.path(CONFIG).read_text() == "first\n"
    assert machine.running("web.service") == "first\n"
    assert machine.take(service) != [], "the next run tries again"


def test_the_way_back_after_a_killed_run_leads_to_before_that_run(machine: Machine):
    machine.take(web("first\n"))
    service = web("locks out\n", guards_login=True)
    machine.killed_after = 2  # the file is placed, the service has not read it
    machine.take(service)
    machine.killed_after = None
    machine.path(CONFIG).write_text("edited in between\n")
    machine.take(service)

    machine.run(service.way_back() or "false")

    assert machine.path(CONFIG).read_text() == "first\n"


def test_a_service_that_guards_no_login_has_no_way_back():
    assert web().way_back() is None


# --- off, and before the package -------------------------------------------------------------------------------------


def off() -> Off:
    return Off(name="web: off", key="web", units=("web.service",), keeps="and its data stays in /srv")


def test_a_service_that_is_switched_off_stops_and_keeps_its_files(machine: Machine):
    machine.take(web())

    assert machine.take(off()) == ["web.service is on; it is switched off, and its data stays in /srv"]

    assert machine.is_on("web.service") == (False, False)
    assert machine.path(CONFIG).read_text() == WANTED
    assert machine.take(off()) == []
    machine.take(web())
    assert machine.is_on("web.service") == (True, True)


def test_a_service_that_was_never_there_needs_no_switching_off(machine: Machine):
    machine.path("units/web.service").unlink()
    assert machine.take(off()) == []


def test_a_file_comes_before_its_package_and_is_the_services_afterwards(machine: Machine):
    early = BeforePackage(name="early", service=web())
    machine.path("units/web.service").unlink()
    assert machine.take(early) == [f"{CONFIG} is missing"]
    assert machine.take(early) == []

    machine.unit("web.service", CONFIG)
    machine.take(web())
    reload_by_hand(machine, web(), CONFIG, "edited\n")
    assert machine.take(early) == [], "repaired here, the service would not be started again"
    machine.take(web())
    assert machine.running("web.service") == WANTED
