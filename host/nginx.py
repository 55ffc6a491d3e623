"""Nginx on the host: the base that a release hangs its routes on. Certificates come later; 443 answers already."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from pyinfra.api.operation import operation
from pyinfra.context import host
from pyinfra.operations import files

from host.operations import FileState, ShellLines, follow, place, placing
from host.templates import render

ROUTES = "/etc/nginx/ancla.d"


@operation()
def _placeholder_certificate() -> Generator[str, Any, None]:
    if host.get_fact(ShellLines, script="test -s /etc/nginx/placeholder.key && echo yes || true"):
        host.noop("there is a placeholder certificate")
        return
    # The key's file comes last: a killed run makes both again.
    yield (
        "cd /etc/nginx && umask 077 && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
        "-days 3650 -subj /CN=placeholder -keyout placeholder.key.new -out placeholder.crt 2>/dev/null "
        "&& chmod 644 placeholder.crt && mv placeholder.key.new placeholder.key"
    )


@operation()
def _no_release() -> Generator[Any, Any, None]:
    """Place the page that says so, once: from the first release on the file is the release's."""
    path = f"{ROUTES}/app.routes.conf"
    if host.get_fact(FileState, path=path) is not None:
        host.noop("the routes are the release's")
        return
    yield from placing(dest=path, content=render("no-release.routes.conf"))


def nginx() -> None:
    """Have Nginx answer on 80 and 443."""
    config, site = render("nginx.conf"), render("site.conf")
    place(name="nginx: nginx.conf", dest="/etc/nginx/nginx.conf", content=config)
    _placeholder_certificate(name="nginx: placeholder certificate")
    available = "/etc/nginx/sites-available/ancla"
    place(name="nginx: the site", dest=available, content=site)
    files.link(name="nginx: the site is on", path="/etc/nginx/sites-enabled/ancla", target=available)
    files.link(name="nginx: the distribution's site is off", path="/etc/nginx/sites-enabled/default", present=False)
    _no_release(name="nginx: a page until the first release")
    follow(
        name="nginx: the server", service="nginx", configuration=[config, site], action="reload", check="nginx -t -q"
    )
