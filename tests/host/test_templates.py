from __future__ import annotations

import json
import re
from pathlib import Path

import jinja2
import pytest

from blueprint.machine import DockerSettings, NginxSettings
from host.bases import BASES
from host.templates import render


def test_an_unknown_value_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        render("sshd.conf")


def test_sshd_lets_in_keys_of_the_deploy_user_alone():
    settings = dict(
        line.split(maxsplit=1) for line in render("sshd.conf", user="deploy").splitlines() if line[:1] != "#"
    )
    assert settings["AllowUsers"] == "deploy"
    assert settings["PermitRootLogin"] == "no"
    assert settings["PasswordAuthentication"] == settings["KbdInteractiveAuthentication"] == "no"
    assert settings["AuthenticationMethods"] == "publickey"
    assert settings["AllowTcpForwarding"] == "local"


def test_docker_bounds_logs_and_publishes_on_loopback_unless_told():
    settings = json.loads(render("daemon.json", docker=DockerSettings()))
    assert settings["log-opts"] == {"max-size": "10m", "max-file": "3"}
    assert settings["ip"] == "127.0.0.1"
    assert settings["live-restore"] is True


def test_fail2ban_never_bans_a_source_that_is_named():
    assert "ignoreip = 127.0.0.1/8 ::1 203.0.113.0/24\n" in render("fail2ban.conf", trusted=["203.0.113.0/24"])
    assert "ignoreip = 127.0.0.1/8 ::1\n" in render("fail2ban.conf", trusted=[])


def test_a_page_says_when_there_is_no_release():
    assert "return 503" in render("no-release.routes.conf")


def test_headers_are_set_where_no_location_can_lose_them():
    site = render("site.conf", base=BASES[0])
    headers = re.findall(r"^    add_header (\S+) .* always;$", site, re.MULTILINE)
    assert {"X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy"} <= set(headers)


def test_nginx_hides_its_version_and_speaks_modern_tls_only():
    config = render("nginx.conf", nginx=NginxSettings())
    assert "server_tokens off;" in config
    assert "ssl_protocols TLSv1.2 TLSv1.3;" in config


def test_docker_is_never_upgraded_at_night():
    assert '"^docker"; "^containerd"; "^runc";' in render("apt-upgrades.conf")


def test_clients_of_postgresqls_own_repository_follow_the_servers_minor():
    """A backup by older ones is refused, and the provider upgrades a cluster by itself."""
    pattern = re.compile(r'^Unattended-Upgrade::Origins-Pattern \{ "([^"]*)"; \};$', re.MULTILINE)
    assert pattern.findall(render("apt-upgrades.conf")) == [
        "origin=apt.postgresql.org,codename=${distro_codename}-pgdg"
    ]


def test_every_template_ends_in_a_newline():
    for path in Path("host/templates").iterdir():
        assert path.read_text().endswith("\n"), path
