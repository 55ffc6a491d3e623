"""Build Nginx's part of a release: an upstream for each service, and the routes of its site. Nginx checks the text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from blueprint.settings.services import ServiceSettings
from ops.release.compose import containers_of

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


def build_upstreams(services: Mapping[str, ServiceSettings]) -> str:
    """Build the upstreams (included in `http`), which map each service to the loopback ports of its instances."""
    blocks: list[str] = []
    for name, service in services.items():
        if service.routes:
            addresses = (address for _, address in containers_of(name, service.instances.min))
            servers = "".join(f"    server {address}:{service.port};\n" for address in addresses)
            blocks.append(f"upstream ancla_{name} {{\n{servers}    keepalive 16;\n}}\n")
    return _HEAD + "".join(blocks)


def build_routes(services: Mapping[str, ServiceSettings]) -> str:
    """Build the locations (included in the site): `/api` covers `/api` and every path below it, passed on unchanged."""
    blocks: list[str] = []
    for name, path in _routes(services):
        body = f"{{\n    proxy_pass http://ancla_{name};\n}}\n"
        if path == "/":
            blocks.append(f"location / {body}")
        else:
            blocks += [f"location = {path} {body}", f"location {path}/ {body}"]
    return _HEAD + _PROXY + "".join(blocks)


def owner_of(path: str, services: Mapping[str, ServiceSettings]) -> str | None:
    """Return the name of the service that Nginx passes `path` to: the one with the longest matching route."""
    holding = [(name, route) for name, route in _routes(services) if route == "/" or f"{path}/".startswith(f"{route}/")]
    return max(holding, key=lambda found: len(found[1]), default=(None, ""))[0]


def _routes(services: Mapping[str, ServiceSettings]) -> Iterator[tuple[str, str]]:
    """Yield each route's service and path."""
    for name, service in services.items():
        for route in service.routes:
            yield name, route.path
