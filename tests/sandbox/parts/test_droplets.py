"""Droplets are servers: systemd, cloud-init, sshd, Docker, addresses, a cloud firewall that holds through reboots."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace

import httpx
import pytest

from sandbox.parts.base import DropletSpec, FirewallRules, PartError, PortRule, RegistryLogin, World
from sandbox.parts.containers import ContainerParts
from sandbox.parts.docker import label_options
from tests.sandbox.parts.conftest import Key, Ssh, eventually, inside, scan

pytestmark = pytest.mark.containers
WORLD = ("0.0.0.0/0", "::/0")
OUT = tuple(PortRule(protocol=protocol, ports="0", addresses=WORLD) for protocol in ("tcp", "udp", "icmp"))
WEB_ONLY = FirewallRules(
    inbound=tuple(PortRule(protocol="tcp", ports=port, addresses=WORLD) for port in ("22", "80", "443")), outbound=OUT
)


def test_it_boots_systemd_and_cloud_init_ends_without_error(droplet: DropletSpec, ssh: Ssh) -> None:
    address = droplet.reserved_ips[0]
    eventually(lambda: ssh.try_(address, "systemctl is-system-running").stdout.strip() == "running")
    assert ssh(address, "cloud-init status --wait; hostname").splitlines()[-2:] == ["status: done", "web-1"]
    assert ssh(address, "cloud-id") == "nocloud"
    assert ssh(address, "sudo id -un", user="deploy") == "root"


def test_eth0_is_public_eth1_is_the_vpc_and_the_reserved_ip_answers(droplet: DropletSpec, ssh: Ssh) -> None:
    text = ssh(droplet.public_ip, "ip -4 -br address; ip route show default")
    assert f"{droplet.public_ip}/21 {droplet.reserved_ips[0]}/32" in " ".join(text.split())
    assert "eth1" in text
    assert f"{droplet.private_ip}/20" in text
    assert text.splitlines()[-1].startswith("default via")
    assert "dev eth0" in text.splitlines()[-1]


def test_its_resolver_is_the_sandbox_and_sandbox_names_have_trusted_certificates(
    parts: ContainerParts, droplet: DropletSpec, ssh: Ssh
) -> None:
    address = droplet.reserved_ips[0]
    assert ssh(address, "cat /etc/resolv.conf") == f"nameserver {parts.instance.plan.infrastructure('resolver')}"
    code = "curl -sS -o /dev/null -w '%{http_code}' https://registry.digitalocean.com/v2/"
    assert ssh(address, code) == "401"
    refused = ssh.try_(address, f"{code} --capath /nonexistent --cacert /etc/ssl/certs/ISRG_Root_X1.pem")
    assert refused.returncode == 60  # curl: not trusted without the sandbox's authority


def test_user_data_is_for_root_alone(droplet: DropletSpec, ssh: Ssh) -> None:
    done = ssh.try_(droplet.reserved_ips[0], "cat /var/lib/cloud/seed/nocloud/user-data", user="deploy")
    assert done.returncode != 0
    assert "Permission denied" in done.stderr


def test_host_keys_differ_between_droplets(
    parts: ContainerParts, droplet: DropletSpec, key: Key, ssh: Ssh, taken: set[str]
) -> None:
    public = parts.free_public_ip(frozenset(taken))
    other = replace(
        droplet, id=1002, name="web-2", public_ip=public, private_ip=inside(droplet.vpc, 3), reserved_ips=()
    )
    parts.droplets.create(other)
    try:
        ssh.wait(public)
        read = "cat /etc/ssh/ssh_host_ed25519_key.pub"
        assert ssh(public, read).split()[1] != ssh(droplet.public_ip, read).split()[1]
        assert ssh(public, f"ping -c1 -W2 {droplet.private_ip} >/dev/null && echo reached") == "reached"
    finally:
        parts.droplets.delete(other.id)
    assert not parts.docker.names("volume", parts.instance.label) & {parts.droplets.volume(1002)}


@pytest.fixture
def published(parts: ContainerParts, droplet: DropletSpec, ssh: Ssh) -> str:
    """The droplet runs Docker, and a container of its own is published on 0.0.0.0:9999."""
    address = droplet.reserved_ips[0]
    if ssh.try_(address, "docker inspect open >/dev/null").returncode:
        ssh(address, "apt-get install -y --no-install-recommends docker.io >/dev/null 2>&1", timeout=300)
        image = parts.images.image("app")
        container = parts.droplets.container(droplet.id)
        # By the container's own pipe: quicker than a registry.
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
            subprocess.run(["docker", "exec", "-i", container, "docker", "load"], stdin=saved.stdout, check=True)
        options = "-d --name open --restart always --stop-timeout 1 -p 9999:8000"
        ssh(address, f"docker run {options} {image} python3 -m http.server 8000 >/dev/null")
    answers = "for i in $(seq 40); do curl -sfm 2 localhost:9999 >/dev/null && exit; sleep 1; done; exit 1"
    if ssh.try_(address, answers, timeout=300).returncode:
        # Earlier tests pull the plug while Docker writes, and it may not come back by itself, as on any machine.
        seen = "docker ps -a; ip -br address; iptables -t nat -S; journalctl -b -n 60 -u docker -u containerd"
        print(ssh.try_(address, seen, timeout=60).stdout)
        ssh(address, "systemctl restart docker && docker restart open", timeout=180)
        ssh(address, answers, timeout=300)
    return address


@pytest.mark.long
def test_the_cloud_firewall_covers_published_container_ports_and_holds_through_reboots(
    parts: ContainerParts, droplet: DropletSpec, ssh: Ssh, published: str
) -> None:
    parts.droplets.set_firewall(droplet, None)
    assert scan(parts, published, 22, 9999) == {22: "open", 9999: "open"}  # the scan sees it when nothing is in the way
    parts.droplets.set_firewall(droplet, WEB_ONLY)
    closed = {22: "open", 80: "closed", 443: "closed", 9999: "filtered"}
    assert scan(parts, published, 22, 80, 443, 9999) == closed
    assert ssh(published, "curl -s -o /dev/null -w '%{http_code}' localhost:9999") == "200"  # inside nothing changed
    parts.droplets.power(droplet, "reboot")
    ssh.wait(published)
    assert scan(parts, published, 22, 80, 443, 9999) == closed
    started = _started(parts, droplet)
    ssh.try_(published, "systemctl reboot")
    eventually(lambda: _started(parts, droplet) != started)  # it may be up again before anybody has seen it down
    ssh.wait(published)
    assert scan(parts, published, 22, 80, 443, 9999) == closed


def _started(parts: ContainerParts, droplet: DropletSpec) -> str:
    return parts.docker.run("inspect", "--format", "{{.State.StartedAt}}", parts.droplets.container(droplet.id))


@pytest.mark.long
def test_firewall_sources_ports_and_outbound_are_kept_to(
    parts: ContainerParts, droplet: DropletSpec, ssh: Ssh, published: str
) -> None:
    stranger = parts.instance.plan.infrastructure("proxy")
    ssh_rule = PortRule(protocol="tcp", ports="22", addresses=WORLD)
    let_in = PortRule(protocol="tcp", ports="9000-9999", addresses=(f"{stranger}/32",))
    try:
        parts.droplets.set_firewall(droplet, FirewallRules(inbound=(ssh_rule, let_in), outbound=OUT))
        assert scan(parts, published, 9999) == {9999: "open"}
        shut_out = replace(let_in, addresses=("192.0.2.1/32",))
        parts.droplets.set_firewall(droplet, FirewallRules(inbound=(ssh_rule, shut_out), outbound=()))
        assert scan(parts, published, 9999) == {9999: "filtered"}
        resolver = parts.instance.plan.infrastructure("resolver")
        reach = f"timeout 15 bash -c '</dev/tcp/{resolver}/53' && echo out || echo shut"
        assert ssh(published, reach) == "shut"
        parts.droplets.set_firewall(droplet, FirewallRules(inbound=(ssh_rule,), outbound=OUT))
        assert ssh(published, reach) == "out"
    finally:
        parts.droplets.set_firewall(droplet, None)


@pytest.mark.long
def test_no_mail_leaves_a_droplet_with_a_firewall_or_without(
    parts: ContainerParts, droplet: DropletSpec, ssh: Ssh
) -> None:
    """Nobody listens there: what leaves is refused at once, what does not has no answer."""
    away = parts.instance.plan.infrastructure("proxy")

    def tried(*ports: int) -> set[str]:
        one = f"timeout 5 bash -c '</dev/tcp/{away}/'$0 2>/dev/null; echo $0 $?"
        each = f"printf '%s\\n' {' '.join(map(str, ports))} | xargs -P {len(ports)} -n 1 bash -c {shlex.quote(one)}"
        return set(ssh(droplet.public_ip, each).splitlines())

    everything = FirewallRules(inbound=(PortRule(protocol="tcp", ports="22", addresses=WORLD),), outbound=OUT)
    try:
        for rules in (None, everything):
            parts.droplets.set_firewall(droplet, rules)
            assert tried(25, 465, 587, 2525) == {"25 124", "465 124", "587 124", "2525 1"}
    finally:
        parts.droplets.set_firewall(droplet, None)


def test_reserved_ips_move_between_droplets(parts: ContainerParts, droplet: DropletSpec, ssh: Ssh) -> None:
    moved = replace(droplet, reserved_ips=())
    parts.droplets.set_reserved_ips(moved)
    assert scan(parts, droplet.reserved_ips[0], 22) != {22: "open"}
    parts.droplets.set_reserved_ips(droplet)
    ssh.wait(droplet.reserved_ips[0])
    parts.droplets.power(droplet, "power_cycle")
    ssh.wait(droplet.reserved_ips[0])


def test_power_off_stays_off_and_comes_back_with_its_disk(
    parts: ContainerParts, droplet: DropletSpec, ssh: Ssh
) -> None:
    ssh(droplet.public_ip, "echo kept > /root/mark; sync")
    parts.droplets.power(droplet, "power_off")
    assert scan(parts, droplet.public_ip, 22) != {22: "open"}
    parts.droplets.power(droplet, "power_off")  # again is no error
    parts.droplets.power(droplet, "power_on")
    ssh.wait(droplet.public_ip)
    assert ssh(droplet.public_ip, "cat /root/mark") == "kept"
    with pytest.raises(PartError, match="no power operation"):
        parts.droplets.power(droplet, "explode")


def test_resize_changes_what_the_droplet_may_use(parts: ContainerParts, droplet: DropletSpec) -> None:
    parts.droplets.resize(replace(droplet, memory=1024))
    found = parts.docker.inspect("container", parts.droplets.container(droplet.id))
    assert found is not None
    assert found["HostConfig"]["Memory"] == 1024 * 2**20
    parts.droplets.resize(droplet)


def test_what_the_world_does_not_explain_is_named_and_what_holds_no_data_goes(
    parts: ContainerParts, droplet: DropletSpec
) -> None:
    world = World(vpcs=(droplet.vpc,), droplets=(droplet,))
    databases = {name for name in parts.docker.names("container", parts.instance.label) if "-database-" in name}
    known = [line for line in parts.leaks(world) if "database" not in line and "bucket" not in line]
    assert known == []
    stray = parts.instance.thing("stray")
    parts.docker.ensure_volume(stray, parts.instance.labels)
    parts.docker.run("network", "create", "--internal", *label_options(parts.instance.labels), stray)
    try:
        assert {f"volume {stray}", f"network {stray}"} <= set(parts.leaks(world))
        if not databases:  # another test's cluster would go too
            assert f"volume {stray}" in parts.reconcile(world)
            assert f"network {stray}" not in parts.leaks(world)
            assert f"volume {stray}" in parts.leaks(world), "there may be data on it"
    finally:
        parts.docker.remove_network(stray)
        parts.docker.remove_volume(stray)


def test_an_image_is_pulled_from_the_registry_by_its_real_name(
    parts: ContainerParts, droplet: DropletSpec, ssh: Ssh, published: str
) -> None:
    parts.droplets.set_firewall(droplet, None)
    parts.registry.push(parts.images.image("app"), "acme/pulled:1.0.0")
    parts.edge.set_registry_logins((RegistryLogin(username="puller", password="let-me-in"),))
    reference = f"registry.digitalocean.com/acme/pulled@{parts.registry.digest('acme/pulled:1.0.0')}"
    refused = ssh.try_(published, f"docker pull -q {reference}")
    assert "no basic auth credentials" in refused.stderr
    ssh(published, "echo let-me-in | docker login -u puller --password-stdin registry.digitalocean.com 2>/dev/null")
    assert ssh(published, f"docker pull -q {reference}").endswith(reference)


def test_the_page_of_the_first_reserved_ip_is_published_on_loopback(
    parts: ContainerParts, droplet: DropletSpec, ssh: Ssh
) -> None:
    page = f"http://127.0.0.1:{parts.instance.page_port}/"
    with httpx.Client(trust_env=False) as client:
        with pytest.raises(httpx.TransportError):
            client.get(page)
        ssh(droplet.reserved_ips[0], "systemd-run --quiet --unit page python3 -m http.server 80")
        eventually(lambda: _status(client, page) == 200)
        ssh(droplet.reserved_ips[0], "systemctl stop page")


def _status(client: httpx.Client, address: str) -> int:
    try:
        return client.get(address).status_code
    except httpx.TransportError:
        return 0
