"""Build Nginx's part of a release: an upstream for each service, and the routes of its site. Nginx checks the text."""

from __future__ import annotations

from collections.abc import Sequence

from blueprint.settings.services import ServiceSettings

_HEAD = "# Written by Ancla; changes here are undone by the next release.\n"

# Inherited by every location, since none sets a header of its own. X-Forwarded-For is replaced, not added to: this is
# the edge, so a client's own header is not forwarded.
_PROXY = """\
proxy_http_version 1.1;
proxy_set_header Host $host;
proxy_set_header X-Real-IP $remote_addr;
proxy_set_header X-Forwarded-For $remote_addr;
proxy_set_header X-Forwarded-Proto $scheme;
proxy_set_header X-Forwarded-Host $host;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection $connection_upgrade;
proxy_connect_timeout 5s;
proxy_read_timeout 60s;
"""


def build_upstreams(services: Sequence[ServiceSettings]) -> str:
    """Build the upstreams (included in `http`), which map each service to its loopback port."""
    blocks = [
        f"upstream ancla_{service.name} {{\n    server 127.0.0.1:{service.port};\n    keepalive 16;\n}}\n"
        for service in services
        if service.route is not None
    ]
    return _HEAD + "".join(blocks)


def build_routes(services: Sequence[ServiceSettings]) -> str:
    """Build the locations (included in the site): `/api` covers `/api` and every path below it, passed on unchanged."""
    blocks: list[str] = []
    for service in services:
        if service.route is None:
            continue
        body = f"{{\n    proxy_pass http://ancla_{service.name};\n}}\n"
        if service.route == "/":
            blocks.append(f"location / {body}")
        else:
            blocks += [f"location = {service.route} {body}", f"location {service.route}/ {body}"]
    return _HEAD + _PROXY + "".join(blocks)


def owner_of(path: str, services: Sequence[ServiceSettings]) -> ServiceSettings | None:
    """Return the service that Nginx passes `path` to: the one with the longest matching route."""
    holding = [
        service
        for service in services
        if service.route is not None and (service.route == "/" or f"{path}/".startswith(f"{service.route}/"))
    ]
    return max(holding, key=lambda service: len(service.route or ""), default=None)
