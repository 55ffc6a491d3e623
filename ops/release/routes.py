"""Build Nginx's part of a release: an upstream for each service, and the routes of its site. Nginx checks the text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from blueprint.settings.services import RouteSettings, ServiceSettings
from ops.release.compose import containers_of

STATIC = "/var/www/ancla"
"""Folder on the droplet with the files of static services."""

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
        if service.routes and service.containers:
            addresses = (address for _, address in containers_of(name, service.containers))
            servers = "".join(f"    server {address}:{service.port};\n" for address in addresses)
            blocks.append(f"upstream ancla_{name} {{\n{servers}    keepalive 16;\n}}\n")
    return _HEAD + "".join(blocks)


def build_routes(services: Mapping[str, ServiceSettings], roots: Mapping[str, str]) -> str:
    """Build the locations (included in the site): `/api` covers `/api` and every path below it, passed on unchanged.

    Args:
        services: of the app, by name.
        roots: the folder in `STATIC` with the files of each static service, by name.
    """
    blocks: list[str] = []
    for name, service in services.items():
        for route in service.routes:
            lines = _files(roots[name], route) if name in roots else [f"proxy_pass http://ancla_{name};"]
            body = "".join(["{\n", *(f"    {line}\n" for line in lines), "}\n"])
            if route.path == "/":
                blocks.append(f"location / {body}")
            else:
                blocks += [f"location = {route.path} {body}", f"location {route.path}/ {body}"]
    return _HEAD + _PROXY + "".join(blocks)


def _files(root: str, route: RouteSettings) -> list[str]:
    """Return the lines of a location of static files, which lie in the root below the route's own path."""
    last = f"{route.path.rstrip('/')}/{route.fallback}" if route.fallback else "=404"
    return [
        f"root {STATIC}/{root};",
        # A link in an image would otherwise lead to the droplet's own files.
        "disable_symlinks on;",
        f"try_files $uri $uri/index.html {last};",
    ]


def owner_of(path: str, services: Mapping[str, ServiceSettings]) -> str | None:
    """Return the name of the service that Nginx passes `path` to: the one with the longest matching route."""
    holding = [(name, route) for name, route in _routes(services) if route == "/" or f"{path}/".startswith(f"{route}/")]
    return max(holding, key=lambda found: len(found[1]), default=(None, ""))[0]


def _routes(services: Mapping[str, ServiceSettings]) -> Iterator[tuple[str, str]]:
    """Yield each route's service and path."""
    for name, service in services.items():
        for route in service.routes:
            yield name, route.path
