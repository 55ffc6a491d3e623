"""A droplet is converged, edited by hand, switched off, locked, rebooted; each time the *running* service is seen."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.hosts.droplet import Bare, bare_droplet

pytestmark = [pytest.mark.hosts, pytest.mark.containers]
IMAGES = [
    "ubuntu-24-04-x64",
    pytest.param("debian-13-x64", marks=pytest.mark.all),
    pytest.param("ubuntu-26-04-x64", marks=pytest.mark.all),
]
"""Three bases: Debian 12, 13 and testing, where Ubuntu's own cannot be pulled."""


@pytest.fixture(scope="module", params=IMAGES)
def bare(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    """A droplet that was converged once; every test leaves it as it found it."""
    with bare_droplet(tmp_path_factory.mktemp("bare"), request.param) as made:
        started = time.monotonic()
        answer, progress = made.converge()
        assert answer["changed"] > 8, progress
        print(f"first converge: {time.monotonic() - started:.0f} s\n{progress}")
        yield made


def server_header(bare: Bare) -> str:
    """The Server header of the running Nginx."""
    headers = bare.shell("curl -sI http://127.0.0.1/")
    return next(line for line in headers.splitlines() if line.lower().startswith("server:")).split(": ")[1].strip()


def until_header(bare: Bare, *, versioned: bool) -> None:
    """Wait until Nginx shows its version, or hides it: after a reload an old worker may answer once more."""
    for _ in range(50):
        if ("/" in server_header(bare)) is versioned:
            return
        time.sleep(0.2)
    raise AssertionError(server_header(bare))


def login_methods(bare: Bare) -> str:
    """The methods that the running sshd offers to who has no key."""
    for _ in range(50):  # sshd that reads its files again listens anew, and refuses for a moment
        said = bare.ssh("-o", "PreferredAuthentications=none").stderr
        if "refused" not in said:
            return said
        time.sleep(0.2)
    raise AssertionError(said)


def listener(bare: Bare) -> str:
    """The program that listens at port 22."""
    return bare.shell("ss -H -ltnp 'sport = :22'")


def test_a_second_converge_changes_nothing_and_the_check_says_so(bare: Bare):
    started = time.monotonic()
    answer, progress = bare.converge()
    print(f"nothing changed: {time.monotonic() - started:.1f} s")
    assert answer["changed"] == 0, progress
    assert answer["operations"] > 10
    checked, progress = bare.converge("--check")
    assert checked == answer
    assert "0 would change something" in progress


@pytest.mark.long
def test_an_nginx_edited_by_hand_runs_with_our_file_again(bare: Bare):
    bare.shell("sed -i 's/server_tokens off/server_tokens on/' /etc/nginx/nginx.conf && systemctl reload nginx")
    until_header(bare, versioned=True)

    checked, progress = bare.converge("--check", fails=4)
    assert checked["changed"] == 1
    assert "nginx: the server: /etc/nginx/nginx.conf differs" in progress
    assert "  -    server_tokens on;\n  +    server_tokens off;\n" in progress
    assert "/" in server_header(bare), "a check changes nothing"

    answer, _ = bare.converge()

    assert answer["changed"] == 1
    until_header(bare, versioned=False)
    assert bare.converge()[0]["changed"] == 0


def test_an_sshd_loosened_by_hand_runs_with_our_file_again(bare: Bare):
    assert "(publickey)" in login_methods(bare)
    bare.shell(
        "sed -i -e /AuthenticationMethods/d -e 's/^PasswordAuthentication no/PasswordAuthentication yes/' "
        "/etc/ssh/sshd_config.d/10-ancla.conf && systemctl reload ssh"
    )
    assert "(publickey,password)" in login_methods(bare), "the edited one runs"

    assert bare.converge()[0]["changed"] == 1

    assert "(publickey)" in login_methods(bare)


def test_fail2ban_edited_by_hand_runs_with_our_file_again(bare: Bare):
    tries = "for _ in $(seq 100); do fail2ban-client get sshd maxretry | grep -qx {} && exit 0; sleep 0.2; done; exit 1"
    bare.shell("sed -i 's/maxretry = 5/maxretry = 500/' /etc/fail2ban/jail.d/ancla.conf && systemctl restart fail2ban")
    bare.shell(tries.format(500))
    assert bare.converge()[0]["changed"] == 1
    bare.shell(tries.format(5))


@pytest.mark.long
def test_rules_for_containers_edited_by_hand_are_loaded_again(bare: Bare):
    bare.shell("sed -i 's/^-A DOCKER-USER -j DROP/-A DOCKER-USER -j RETURN/' /etc/ufw/after.rules && ufw reload")
    assert "-A DOCKER-USER -j RETURN" in bare.shell("iptables -S DOCKER-USER").splitlines()

    assert bare.converge()[0]["changed"] == 1

    assert "-A DOCKER-USER -j DROP" in bare.shell("iptables -S DOCKER-USER").splitlines()
    assert bare.converge()[0]["changed"] == 0


@pytest.mark.long
def test_a_rule_made_by_hand_goes(bare: Bare):
    bare.shell("ufw allow 8080/tcp")
    checked, progress = bare.converge("--check", fails=4)
    assert checked["changed"] == 1
    assert "a rule too many: allow in proto tcp" in progress
    assert bare.converge()[0]["changed"] == 1
    assert "8080" not in bare.shell("ufw status")
    assert bare.converge()[0]["changed"] == 0


def test_sshd_listens_by_itself_where_its_socket_did(bare: Bare):
    bare.shell("systemctl disable --now ssh.service && systemctl enable --now ssh.socket")
    assert "systemd" in listener(bare), "the socket listens"

    answer, progress = bare.converge()

    assert answer["changed"] == 1, progress
    assert "sshd" in listener(bare)
    assert "systemd" not in listener(bare)
    assert bare.shell("systemctl is-enabled ssh.socket || true").strip() == "disabled"
    assert bare.ssh("-o", "BatchMode=yes").returncode == 0
    assert bare.converge()[0]["changed"] == 0


@pytest.mark.long
def test_a_concern_that_is_switched_off_stops_and_keeps_its_data(bare: Bare):
    bare.shell("mkdir -p /var/lib/docker/volumes/kept/_data && touch /var/lib/docker/volumes/kept/_data/row")
    off = {"nginx": None, "docker": None, "fail2ban": None}

    _, progress = bare.converge("--check", fails=4, **off)
    assert "/var/lib/docker" in progress, "it says where the data lies"
    bare.converge(**off)

    units = "nginx.service docker.service docker.socket fail2ban.service"
    assert set(bare.shell(f"systemctl is-active {units} || true").split()) == {"inactive"}
    assert set(bare.shell(f"systemctl is-enabled {units} || true").split()) == {"disabled"}
    assert bare.shell("ls /var/lib/docker/volumes/kept/_data").strip() == "row"
    assert bare.converge(**off)[0]["changed"] == 0
    bare.converge()
    assert server_header(bare) == "nginx"
    bare.shell("docker info >/dev/null; rm -r /var/lib/docker/volumes/kept")


@pytest.mark.long
def test_a_change_that_locks_out_is_put_back_and_named(bare: Bare):
    """UFW lets another port in than the one that sshd listens at."""
    before = bare.shell("ufw status")

    _, progress = bare.converge(fails=1, firewall={"ssh_sources": ["0.0.0.0/0", "::/0"], "ssh_port": 2222})

    assert "no new login worked" in progress
    assert "put back as before: firewall: UFW; a login works again" in progress
    assert bare.shell("ufw status") == before
    assert bare.ssh("-o", "BatchMode=yes").returncode == 0
    bare.converge()
    assert bare.converge()[0]["changed"] == 0


def test_who_would_lock_themselves_out_is_refused(bare: Bare):
    _, progress = bare.converge(fails=1, firewall={"ssh_sources": ["203.0.113.0/24"]})
    assert "which is not in access.sshSources (203.0.113.0/24). Continuing would lock you out" in progress


def test_a_failing_step_shows_no_key(bare: Bare):
    bare.shell("mv /usr/sbin/nginx /usr/sbin/nginx.away; echo >>/etc/nginx/nginx.conf")
    try:
        _, progress = bare.converge(fails=1)
    finally:
        bare.shell("mv /usr/sbin/nginx.away /usr/sbin/nginx")
    assert "nginx: the server failed; nothing after it was done" in progress
    assert "OPENSSH" not in progress
    bare.converge()
    assert bare.converge()[0]["changed"] == 0


@pytest.mark.long
def test_after_a_reboot_everything_runs_and_nothing_is_to_be_done(bare: Bare):
    container = bare.parts.droplets.container(bare.spec.id)
    subprocess.run(["docker", "restart", "--time", "20", container], check=True, capture_output=True)
    for _ in range(300):
        if bare.ssh("-o", "BatchMode=yes").returncode == 0:
            break
        time.sleep(0.5)
    bare.shell("systemctl is-system-running --wait >/dev/null || true")
    answer, progress = bare.converge("--check")
    assert answer["changed"] == 0, progress
    assert json.loads(json.dumps(answer))["operations"] > 10
