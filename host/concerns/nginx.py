"""Nginx on the host: the base that a release hangs its routes on. Certificates come later; 443 answers already."""

from __future__ import annotations

from blueprint.machine import NginxSettings
from host.bases import Base
from host.services import Off, Service
from host.steps import Command, Ensure, File, Gone, Link, Step
from host.templates import render

PACKAGES = ("nginx", "openssl")
ROUTES = "/etc/nginx/ancla.d"
_AVAILABLE = "/etc/nginx/sites-available/ancla"
_PLACEHOLDER = Ensure(
    name="nginx: placeholder certificate",
    question="test -s /etc/nginx/placeholder.key && echo yes",
    answer=("yes",),
    difference="there is no placeholder certificate",
    commands=(
        # The key's file comes last: a killed run makes both again.
        Command(
            "cd /etc/nginx && umask 077 && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
            "-days 3650 -subj /CN=placeholder -keyout placeholder.key.new -out placeholder.crt 2>/dev/null "
            "&& chmod 644 placeholder.crt && mv placeholder.key.new placeholder.key"
        ),
    ),
)


def _no_release() -> Step:
    """Place the page that says so, once: from the first release on the file is the release's."""
    page = File(path=f"{ROUTES}/app.routes.conf", content=render("no-release.routes.conf"))
    return Ensure(
        name="nginx: a page until the first release",
        question=f"test -f {page.path} && echo yes",
        answer=("yes",),
        difference="there are no routes",
        commands=(page.command(),),
    )


def ensure(settings: NginxSettings, base: Base) -> list[Step]:
    """Let Nginx answer on 80 and 443."""
    return [
        _PLACEHOLDER,
        _no_release(),
        Service(
            name="nginx: the server",
            key="nginx",
            units=("nginx.service",),
            items=(
                File(path="/etc/nginx/nginx.conf", content=render("nginx.conf", nginx=settings)),
                File(path=_AVAILABLE, content=render("site.conf", base=base)),
                Link("/etc/nginx/sites-enabled/ancla", _AVAILABLE),
                Gone("/etc/nginx/sites-enabled/default"),
            ),
            action="reload",
            check="nginx -t -q",
        ),
    ]


def absent() -> list[Step]:
    """Switch Nginx off."""
    keeps = "and its sites, certificates and logs stay in /etc/nginx and /var/log/nginx"
    return [Off(name="nginx: off", key="nginx", units=("nginx.service",), keeps=keeps)]
