"""What of the team's runs, and how it is released."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from blueprint.fields import (
    AbsolutePath,
    Domain,
    Duration,
    EnvironmentVariable,
    OrNumber,
    Percent,
    Port,
    Rate,
    Size,
    Slug,
    UrlPath,
    Written,
)
from blueprint.model import Settings
from blueprint.reference_text import Text

_TAG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_IMAGE = re.compile(
    rf"(?P<repository>[a-z0-9][a-z0-9._-]*((:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)+)?)"
    rf"(:(?P<tag>{_TAG}))?(@(?P<digest>sha256:[0-9a-f]{{64}}))?"
)
_RESERVED_PORTS = {22: "sshd", 80: "Nginx", 443: "Nginx"}
_MOST_INSTANCES = 32
_OF_PROCESSES = ("port", "command", "user", "health", "folders", "capabilities", "uses", "environment", "secrets")
_SMALLEST_MEMORY = Size("6M")  # Docker's own


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image as it is written. One of the environment's own registry has no `host`, one from elsewhere a digest."""

    host: str | None
    repository: str
    tag: str | None
    digest: str | None

    @property
    def version(self) -> str:
        """The tag; without one, the first characters of the digest, or `latest`."""
        return self.tag or (self.digest or "").removeprefix("sha256:")[:12] or "latest"


def parse_image(text: str) -> Image:
    """Parse an image as a service has it.

    Raises:
        ValueError: it is no image, or one from elsewhere without a digest.
    """
    found = _IMAGE.fullmatch(text)
    first, _, rest = (found["repository"] if found else "").partition("/")
    foreign = rest != "" and ("." in first or ":" in first or first == "localhost")
    if found is None or (":" in first and not foreign):
        raise ValueError(
            "is not an image: write its repository in the environment's registry, in lower case, and a tag, such as "
            "web:1.2.0; or a full reference with a digest, such as ghcr.io/team/web:1.2.0@sha256:…"
        )
    if foreign and found["digest"] is None:
        raise ValueError(
            f"is from {first} and has no digest, so that it may change under its tag; add it: {text}@sha256:… "
            "(`docker buildx imagetools inspect` shows it)"
        )
    return Image(
        host=first if foreign else None,
        repository=rest if foreign else found["repository"],
        tag=found["tag"],
        digest=found["digest"],
    )


def _image(value: str) -> str:
    parse_image(value)
    return value


def _enough_memory(value: Size) -> Size:
    if value < _SMALLEST_MEMORY:
        raise ValueError(f"is less than Docker takes; give at least {_SMALLEST_MEMORY}")
    return value


RoutePath = Annotated[
    str,
    Written(
        r"/([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?",
        "is not a route: it begins with /, does not end with one, and has letters, digits, -, _, . and ~ between, "
        "such as /api/v1",
    ),
]
ServedPath = Annotated[
    str,
    Written(
        r"(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)*",
        "is not the path of files that are served: it has letters, digits, -, _, . and ~ between /, and no .., such as "
        "public/index.html",
    ),
]
FolderPath = Annotated[
    str,
    Written(
        r"/?(?!\.{1,2}(/|$))[^/\s\x00]+(/(?!\.{1,2}(/|$))[^/\s\x00]+)*",
        "is not the path of a folder: write it without / at its end and without .., such as /data or data/files",
    ),
]
Capability = Annotated[
    str,
    Written(
        r"(?!ALL$|CAP_)[A-Z][A-Z0-9_]*",
        "is not a capability: write one name of capabilities(7) without CAP_, such as NET_BIND_SERVICE",
    ),
]
Command = Annotated[
    tuple[Annotated[str, Written(r"[^\x00]*", "has a NUL character, which no argument can hold")], ...],
    Field(min_length=1),
]


class RouteSettings(Settings):
    """A public path that leads to the service, with all that lies below it; the longest route of a path wins."""

    host: Domain | None = Field(
        default=None,
        description="Name by which the route is reached, in the environment's zone; default: the environment's own.",
    )
    path: RoutePath = Field(
        description="Path on the public address, passed on unchanged; a change moves the traffic at the next deploy."
    )
    root: ServedPath | None = Field(
        default=None,
        description="Folder of the service whose files Nginx serves below the path; default: none.",
    )
    fallback: ServedPath | None = Field(
        default=None,
        description="File of a static service that answers where there is none, such as index.html; default: 404.",
    )
    rate: Rate | None = Field(
        default=None,
        description="Requests of one address above which Nginx answers 429, such as 10r/s or 10r/m; default: no limit.",
    )
    timeout: Duration | None = Field(
        default=None, description="How long the service may take until it answers, such as 2m; default: 60s."
    )
    body_limit: Size | None = Field(
        default=None,
        description="Largest request body, such as 1M, above which Nginx answers 413; default: the edge's.",
    )
    stream: bool = Field(
        default=False,
        description="Pass answers on as they come, for server-sent events and downloads; default: false, buffered.",
    )
    cache: Duration | None = Field(
        default=None,
        description="How long browsers may keep assets, by file ending, never HTML, such as 1y; default: not said.",
    )
    login: Slug | None = Field(
        default=None,
        description="Name of access.logins whose password the route asks for; default: none, it is public.",
    )


class HealthSettings(Settings):
    """How a release proves that the service works: one of the four. Changed by the next deploy."""

    path: UrlPath | None = Field(default=None, description="Path that answers 200 to 299 on the service's port.")
    tcp: bool = Field(default=False, description="Accept a connection on the service's port; default: false.")
    command: Command | None = Field(
        default=None, description="Command in the container that ends with 0, as a list of arguments; run every 10 s."
    )
    none: bool = Field(default=False, description="Only keep running; default: false.")

    @model_validator(mode="after")
    def _one(self) -> HealthSettings:
        if sum(map(bool, (self.path, self.tcp, self.command, self.none))) != 1:
            raise ValueError("takes exactly one of path, tcp, command and none, such as {path: /health}")
        return self


class InstancesSettings(Settings):
    """How many containers run: a number, or from `min` to `max` by CPU where the topology scales."""

    min: int = Field(ge=1, le=_MOST_INSTANCES, description="Fewest instances.")
    max: int = Field(ge=1, le=_MOST_INSTANCES, description="Most instances.")
    cpu: Percent | None = Field(default=None, description="Percent of CPU above which an instance is added.")

    @model_validator(mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            if not 1 <= value <= _MOST_INSTANCES:
                raise ValueError(f"{value} is not a number of instances; give 1 to {_MOST_INSTANCES}")
            return {"min": value, "max": value}
        if not isinstance(value, Mapping | InstancesSettings):
            raise ValueError("is neither a number nor {min: …, max: …, cpu: …}")  # noqa: TRY004 - pydantic's protocol
        return value

    @model_validator(mode="after")
    def _ordered(self) -> InstancesSettings:
        if self.min > self.max:
            raise ValueError(f"min: {self.min} is more than max: {self.max}")
        return self

    @property
    def scales(self) -> bool:
        """True if the number changes by itself."""
        return self.min != self.max or self.cpu is not None


@dataclass(frozen=True)
class _NumberToo:
    """Tells editors that a whole number stands for a group."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "integer", "minimum": 1, "maximum": _MOST_INSTANCES}, handler(schema)]}


class FolderSettings(Settings):
    """A folder that outlives a release."""

    path: FolderPath = Field(
        description="Where the service finds it: a full path in its container, or one below the folder of a process."
    )
    volume: Slug | None = Field(
        default=None,
        description="Name of topology.volumes that holds it; default: the only one, else the droplet's disk.",
    )
    backup: bool = Field(default=True, description="Back it up with the environment's own data; default: true.")


class ServiceSettings(Settings):
    """A service of the team. Changes are applied by the next `ops deploy`."""

    run: Literal["container", "static", "node"] = Field(
        default="container",
        description="What it is: a container, static files by Nginx, or a Node.js process of the host.",
    )
    image: Annotated[str, AfterValidator(_image)] | None = Field(
        default=None,
        description="Repository in the environment's registry and tag, such as web:1.2.0, or a full reference with a "
        "digest from anywhere; required but for `run: node`.",
    )
    artifact: (
        Annotated[str, Written(rf"[a-z0-9][a-z0-9._-]*:{_TAG}", "is not an artifact: write a name and a version")]
        | None
    ) = Field(default=None, description="Name and version of what runs with `run: node`, such as shop:1.4.0.")
    command: Command | None = Field(
        default=None,
        description="Arguments in place of the image's own command, as a list; default: the image's.",
    )
    user: (
        Annotated[
            str,
            OrNumber(),
            Written(
                r"([a-z_][a-z0-9_-]*|[0-9]{1,9})(:([a-z_][a-z0-9_-]*|[0-9]{1,9}))?",
                "is not a user: write a name or a number of the image, and a group after a colon, such as 1000:1000",
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="User, and group, that it runs as; default: the image's own, which must not be root unless it is "
        "written here.",
    )
    port: Port | None = Field(
        default=None,
        description="Port on which it listens, in the variable PORT too; default: none, a worker that nobody reaches.",
    )
    routes: tuple[RouteSettings, ...] = Field(
        default=(), description="Public paths that lead to it; default: none, reached by other services alone."
    )
    health: HealthSettings | None = Field(
        default=None,
        description="How a release proves that it works; default: a connection to its port, without one that it runs.",
    )
    memory: Annotated[Size, AfterValidator(_enough_memory)] | None = Field(
        default=None,
        description="Most memory of one instance, such as 512M, above which it is restarted; default: no limit.",
    )
    cpus: float | None = Field(
        default=None, gt=0, le=64, description="Most processors of one instance, such as 0.5; default: no limit."
    )
    instances: Annotated[InstancesSettings, _NumberToo()] = Field(
        default=InstancesSettings(min=1, max=1),
        description="How many run at once behind its routes, or {min, max, cpu} where the topology scales; default: 1.",
    )
    uses: tuple[str, ...] = Field(
        default=(),
        description="What it is given the variables of: database, database.replicas.NAME, cache, buckets.NAME, "
        "extras.NAME, services.NAME; default: nothing.",
    )
    environment: dict[EnvironmentVariable, Text] = Field(
        default_factory=dict,
        description="Variables by name: text in quotes, with ${group.field} for what the environment has and $$ for a "
        "dollar sign; they go before those of `uses` and `secrets`.",
    )
    secrets: tuple[EnvironmentVariable, ...] = Field(
        default=(), description="Names of variables whose values are in secrets.app; default: none."
    )
    folders: dict[Slug, FolderSettings] = Field(
        default_factory=dict,
        description="Folders by name that outlive a release; default: none, all else is temporary.",
    )
    read_only: bool = Field(
        default=True,
        description="Let it write in memory alone, /tmp being its HOME; default: true.",
    )
    capabilities: tuple[Capability, ...] = Field(
        default=(), description="Linux capabilities it keeps, such as NET_BIND_SERVICE; default: none."
    )
    from_folder: AbsolutePath | None = Field(
        default=None,
        alias="from",
        description="Folder in the image that a static service publishes, such as /app/dist.",
    )
    node: Annotated[Literal["20", "22", "24"], OrNumber()] | None = Field(
        default=None, description="Major version of Node.js, with `run: node`; default: 22."
    )
    manager: Literal["systemd", "pm2"] | None = Field(
        default=None, description="What keeps a process running with `run: node`; default: systemd."
    )

    @property
    def reference(self) -> Image:
        """The parsed image of a container.

        Raises:
            ValueError: it has none.
        """
        return parse_image(self.image or "")

    @property
    def containers(self) -> int:
        """How many containers run; static files need none."""
        return 0 if self.run == "static" else self.instances.min

    @property
    def proof(self) -> HealthSettings:
        """How a release proves that it works: as written, or by default."""
        return self.health or (HealthSettings(none=True) if self.port is None else HealthSettings(tcp=True))

    @model_validator(mode="after")
    def _fits_what_runs(self) -> ServiceSettings:
        node, static = self.run == "node", self.run == "static"
        needed, other = ("artifact", "image") if node else ("image", "artifact")
        if getattr(self, needed) is None:
            raise ValueError(f"{needed}: is missing, and `run: {self.run}` requires it")
        belongs = {"from": (self.from_folder, static), "node": (self.node, node), "manager": (self.manager, node)}
        for name, (value, fits) in {other: (getattr(self, other), False), **belongs}.items():
            if value is not None and not fits:
                raise ValueError(f"{name}: does not go with `run: {self.run}`; remove one of them")
        if static and self.from_folder is None:
            raise ValueError("from: is missing, and `run: static` requires it: the folder in the image")
        for name in _OF_PROCESSES if static else ():
            if getattr(self, name):
                raise ValueError(f"{name}: static files have none, Nginx serves them; remove it")
        return self

    @model_validator(mode="after")
    def _fits_its_port(self) -> ServiceSettings:
        static = self.run == "static"
        for index, route in enumerate(self.routes):
            if self.port is None and not static and route.root is None:
                raise ValueError(f"routes[{index}]: leads to a port, and the service has none; give it one")
            if route.fallback is not None and not static:
                raise ValueError(f"routes[{index}].fallback: goes with `run: static` alone; remove it")
        if self.port is None and self.health is not None and (self.health.path or self.health.tcp):
            raise ValueError("health: asks a port, and the service has none; give it one, or write command or none")
        if self.port in _RESERVED_PORTS:
            raise ValueError(
                f"port: {self.port} is {_RESERVED_PORTS[self.port]}'s on the droplet; let it listen on another one"
            )
        return self


class MigrateSettings(Settings):
    """What brings the database to the new release's shape, before the release starts."""

    service: Slug = Field(description="Service whose image and variables the command gets.")
    command: Command = Field(
        description="Command that ends with 0, as a list of arguments, such as [node, migrate.js]."
    )
    timeout: Duration = Field(default=Duration("5m"), description="How long it may take; default: 5m.")


class ReleaseSettings(Settings):
    """How a release is brought about. Changes are applied by the next `ops deploy`."""

    migrate: MigrateSettings | None = Field(
        default=None, description="Command run once before the release starts; default: none."
    )
    backup_before: bool = Field(
        default=False, description="Back the databases up before a release, and stop if that fails; default: false."
    )
    keep_releases: int = Field(
        default=5, ge=1, le=50, description="How many former releases keep their images on the droplet; default: 5."
    )
    strategy: Literal["blue-green", "stop-first", "waves"] | None = Field(
        default=None,
        description="How the new release takes over: beside the old one, after it, or one droplet after another.",
    )
    burn_in: Duration = Field(
        default=Duration("30s"),
        description="How long the new release is watched, and taken back if it fails; default: 30s.",
    )
    hook: bool = Field(
        default=False,
        description="Let CI deploy what was pushed to the main branch when its tests pass; default: false.",
    )


def service_conflicts(services: Mapping[str, ServiceSettings], release: ReleaseSettings) -> Iterator[str]:
    """Yield a line for each way in which services cannot be beside one another."""
    ports: dict[int, str] = {}
    routes: dict[tuple[str | None, str], str] = {}
    for name, service in services.items():
        if service.port is not None and (other := ports.setdefault(service.port, name)) != name:
            yield f"services.{name}.port: {service.port} is {other}'s too; each needs its own"
        for index, route in enumerate(service.routes):
            place = f"services.{name}.routes[{index}]"
            if (other := routes.setdefault((route.host, route.path), place)) != place:
                yield f"{place}: {route.host or ''}{route.path} is the route of {other} too; remove one"
    if circle := _circle(services):
        yield f"services.{circle[0]}.uses: goes in a circle: {' → '.join(circle)}; remove one of them"
    if release.migrate is not None and release.migrate.service not in services:
        known = ", ".join(services)
        yield f'release.migrate.service: there is no service "{release.migrate.service}"; there are: {known}'


def _circle(services: Mapping[str, ServiceSettings]) -> list[str]:
    """Return the services that use one another in a circle, the first one at both ends; nothing where none do."""
    used = {
        name: [use.removeprefix("services.") for use in service.uses if use.startswith("services.")]
        for name, service in services.items()
    }
    try:
        TopologicalSorter(used).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))  # graphlib lists what is used before what uses it
    return []
