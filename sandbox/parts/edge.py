"""The edge: one Nginx that ends TLS for every sandbox name; the CDN's caches; the published page."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import threading
import time
from collections.abc import Iterable

from sandbox.catalog import SPACES_REGIONS
from sandbox.parts.authority import RENEW_DAYS
from sandbox.parts.base import CdnSpec, PartError, RegistryLogin
from sandbox.parts.container_spec import ContainerSpec
from sandbox.parts.docker import File
from sandbox.parts.service import Infrastructure, Where

SPACES_DOMAIN = "digitaloceanspaces.com"
REGISTRY_HOST = "registry.digitalocean.com"
PAGE_PORT = 8080
CACHE = "/var/cache/cdn"
CONF = "/etc/edge"


def names() -> tuple[str, ...]:
    """Every name the edge's own certificate carries."""
    wildcards = [(f"{region}.{SPACES_DOMAIN}", f"*.{region}.{SPACES_DOMAIN}") for region in SPACES_REGIONS]
    cdns = [f"*.{region}.cdn.{SPACES_DOMAIN}" for region in SPACES_REGIONS]
    return (REGISTRY_HOST, *(name for pair in wildcards for name in pair), *cdns)


def spaces_server(front: str) -> str:
    """Spaces: each request is first put to the front, which says where it goes and with what signature."""
    regions = "|".join(SPACES_REGIONS)
    return f"""
server {{
    listen 80;
    listen 443 ssl;
    server_name "~^(.+\\.)?({regions})\\.digitaloceanspaces\\.com$";
    location = /.spaces-authorize {{
        internal;
        proxy_pass http://{front}:7000/authorize;
        proxy_pass_request_body off;
        proxy_set_header Content-Length "";
        proxy_set_header Transfer-Encoding "";
        proxy_set_header Host $http_host;
        proxy_set_header X-Spaces-Question 1;
        proxy_set_header X-Original-Method $request_method;
        proxy_set_header X-Original-URI $request_uri;
    }}
    location / {{
        auth_request /.spaces-authorize;
        auth_request_set $spaces_upstream $upstream_http_x_spaces_upstream;
        auth_request_set $spaces_authorization $upstream_http_x_spaces_authorization;
        auth_request_set $spaces_date $upstream_http_x_spaces_date;
        auth_request_set $spaces_sha256 $upstream_http_x_spaces_sha256;
        auth_request_set $spaces_error $upstream_http_x_spaces_error;
        error_page 401 = @unmet;
        error_page 403 = @refused;
        proxy_pass http://$spaces_upstream;
        proxy_set_header Host $http_host;
        proxy_set_header Connection "";
        proxy_set_header Expect "";
        proxy_set_header X-Spaces-Question "";
        proxy_set_header Authorization $spaces_authorization;
        proxy_set_header X-Amz-Date $spaces_date;
        proxy_set_header X-Amz-Content-Sha256 $spaces_sha256;
    }}
    location @unmet {{
        default_type application/xml;
        return 412 $spaces_error;
    }}
    location @refused {{
        default_type application/xml;
        return 403 $spaces_error;
    }}
}}
"""


def registry_server(registry: str) -> str:
    """The container registry, behind its logins; the password file is read again on each request."""
    return f"""
server {{
    listen 80;
    listen 443 ssl;
    server_name {REGISTRY_HOST};
    location /v2/ {{
        auth_basic "{REGISTRY_HOST}";
        auth_basic_user_file {CONF}/registry.htpasswd;
        add_header Docker-Distribution-Api-Version registry/2.0 always;
        proxy_hide_header Docker-Distribution-Api-Version;
        proxy_pass http://{registry}:5000;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header Authorization "";
    }}
}}
"""


def cdn_server(cdn: CdnSpec) -> str:
    """One CDN endpoint: a cache of its own before the Space, asked as a stranger would."""
    zone = "cdn_" + re.sub(r"\W", "_", cdn.id)
    listen = "listen 80;\n    listen 443 ssl;"
    custom = ""
    location = f"""location / {{
        limit_except GET HEAD OPTIONS {{ deny all; }}
        proxy_pass http://127.0.0.1:80;
        proxy_set_header Host {cdn.origin};
        proxy_set_header Authorization "";
        proxy_buffering on;
        proxy_cache {zone};
        proxy_cache_key "$http_origin|$uri$is_args$args";
        proxy_cache_valid 200 206 {cdn.ttl}s;
        proxy_cache_lock on;
        proxy_ignore_headers Vary Set-Cookie;
        add_header X-Cache $upstream_cache_status always;
    }}"""
    if cdn.custom_domain:
        tls = ""
        if cdn.certificate and cdn.private_key:
            tls = f"ssl_certificate {CONF}/cdn/{cdn.id}.pem;\n    ssl_certificate_key {CONF}/cdn/{cdn.id}.key;"
        custom = f"server {{\n    {listen}\n    server_name {cdn.custom_domain};\n    {tls}\n    {location}\n}}\n"
    return (
        f"proxy_cache_path {CACHE}/{cdn.id} keys_zone={zone}:1m max_size=1g inactive=7d use_temp_path=off;\n"
        f"server {{\n    {listen}\n    server_name {cdn.endpoint};\n    {location}\n}}\n{custom}"
    )


def htpasswd(logins: Iterable[RegistryLogin], now: float) -> str:
    """Salted SHA-1 lines, which Nginx checks itself; a login past its time is left out."""
    lines: list[str] = []
    for login in logins:
        if login.expires is None or login.expires > now:
            salt = os.urandom(8)
            digest = hashlib.sha1(login.password.encode() + salt).digest()  # noqa: S324 - the form Nginx checks; logins are random tokens
            lines.append(f"{login.username}:{{SSHA}}{base64.b64encode(digest + salt).decode()}\n")
    return "".join(lines)


class Edge(Infrastructure):
    """The edge of one instance."""

    name = "edge"

    def __init__(self, *where: *Where) -> None:
        super().__init__(*where)
        self._reserved: dict[int, tuple[str, ...]] = {}
        self._page: str | None = None
        self._pages = threading.Lock()

    def spec(self) -> ContainerSpec:
        """Nginx, between the public network and the backbone."""
        plan = self.instance.plan
        return ContainerSpec(
            name=self.container,
            image=self.images.image("parts"),
            labels=self.instance.labels,
            options=(
                "--restart", "unless-stopped", "--network", self.networks.public, "--ip", plan.infrastructure("edge"),
                "--publish", f"127.0.0.1:{self.instance.page_port}:{PAGE_PORT}",
            ),
            command=("nginx", "-c", "/etc/sandbox/nginx.conf"),
            networks=((self.networks.backbone, plan.inner("edge")),),
            files=(
                File(path=f"{CONF}/http.d/spaces.conf", text=spaces_server(plan.inner("spaces"))),
                File(path=f"{CONF}/http.d/registry.conf", text=registry_server(plan.inner("registry"))),
                File(path=f"{CONF}/http.d/cdn.conf", text=""),
                File(path=f"{CONF}/registry.htpasswd", text=""),
                File(path=f"{CONF}/stream.d/page.conf", text=""),
                File(path=f"{CACHE}/.keep", text=""),
            ),
            first_files=lambda: self.images.authority.files(f"{CONF}/tls", names()),
            renew_days=RENEW_DAYS,
        )  # fmt: skip

    def set_cdns(self, cdns: tuple[CdnSpec, ...]) -> None:
        """Serve exactly these CDN endpoints."""
        files = [File(path=f"{CONF}/http.d/cdn.conf", text="".join(cdn_server(cdn) for cdn in cdns))]
        for cdn in cdns:
            if cdn.certificate and cdn.private_key:
                files.append(File(path=f"{CONF}/cdn/{cdn.id}.pem", text=cdn.certificate))
                files.append(File(path=f"{CONF}/cdn/{cdn.id}.key", text=cdn.private_key, mode=0o600))
        self._apply(files)

    def purge(self, cdn: CdnSpec, files: tuple[str, ...]) -> None:
        """Forget cached files: paths without a leading slash; `*` at the end takes all that begin so."""
        patterns: list[str] = []
        for file in files:
            end = "" if file.endswith("*") else "(\\?.*)?$"
            patterns.append(f"^KEY: [^|]*\\|/{re.escape(file.lstrip('/').removesuffix('*'))}{end}\n")
        # Each cache file names its key in its head; Nginx takes a missing file as a miss.
        script = f"grep -rlaE -f - {CACHE}/{cdn.id} 2>/dev/null | xargs -r rm -f"
        self.docker.execute(self.container, "sh", "-c", script, stdin="".join(patterns))

    def set_registry_logins(self, logins: tuple[RegistryLogin, ...]) -> None:
        """Let in exactly these logins that are not past their time."""
        text = htpasswd(logins, time.time())
        self.docker.put(self.container, [File(path=f"{CONF}/registry.htpasswd", text=text)])

    def note_reserved(self, droplet_id: int, addresses: tuple[str, ...]) -> None:
        """Take note of a droplet's reserved IPs."""
        with self._pages:
            self._reserved[droplet_id] = addresses
            self._publish()

    def publish(self, reserved: dict[int, tuple[str, ...]]) -> None:
        """Take note of the reserved IPs of all droplets, and write the page whatever it was."""
        with self._pages:
            self._reserved = dict(reserved)
            self._page = ""  # what the edge has from before is not known
            self._publish()

    def _publish(self) -> None:
        """Publish port 80 of the first reserved IP on the loopback page port; of none, nothing."""
        page = next((addresses[0] for _, addresses in sorted(self._reserved.items()) if addresses), None)
        if page != self._page:
            text = f"server {{ listen {PAGE_PORT}; proxy_pass {page}:80; proxy_connect_timeout 5s; }}\n" if page else ""
            self._apply([File(path=f"{CONF}/stream.d/page.conf", text=text)])
            self._page = page

    def _apply(self, files: list[File]) -> None:
        self.docker.put(self.container, files)
        if self.docker.running(self.container):
            try:
                self.docker.execute(self.container, "nginx", "-c", "/etc/sandbox/nginx.conf", "-s", "reload")
            except PartError as error:
                raise PartError(f"edge: Nginx refuses its settings: {error}") from None
