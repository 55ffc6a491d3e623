"""What the services of one sandbox have in common: where they run, and what of Docker is theirs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar

from sandbox.parts.base import World
from sandbox.parts.container_spec import ContainerSpec, ensure
from sandbox.parts.docker import Docker
from sandbox.parts.images import Images
from sandbox.parts.instance import Instance
from sandbox.parts.network import Networks, Things

Where = tuple[Instance, Docker, Images, Networks]
"""Where the services of one sandbox run."""


class Service:
    """A product's real part. A subclass says what a world means for it, and has the methods that the API calls."""

    def __init__(self, *where: *Where) -> None:
        self.instance, self.docker, self.images, self.networks = where

    def expected(self, world: World) -> Things:  # noqa: ARG002 - for those who have something
        """Return every container and volume that a world explains."""
        return set()

    def leaving(self, world: World) -> Things:  # noqa: ARG002
        """Return those of objects that are being deleted; a job removes them."""
        return set()

    def steps(self, world: World) -> dict[str, Callable[[], object]]:  # noqa: ARG002
        """Return what brings each object to a world, by the name under which a failure is reported."""
        return {}

    def leaks(self, world: World) -> list[str]:  # noqa: ARG002
        """Name what is inside the service and a world does not explain."""
        return []


class PerObject(Service, ABC):
    """A service of one container for each object, called `<name>-<id>`, and of a volume if it has `data`."""

    name: ClassVar[str]
    data: ClassVar[str] = ""

    def container(self, ident: object) -> str:
        """Return the name of an object's container."""
        return self.instance.thing(self.name, ident)

    def volume(self, ident: object) -> str:
        """Return the name of its volume."""
        return self.instance.thing(self.name, ident, self.data)

    @abstractmethod
    def ids(self, world: World) -> tuple[Iterable[object], Iterable[object]]:
        """Return the objects of a world, and those that are being deleted."""

    def expected(self, world: World) -> Things:  # noqa: D102
        return self._things(self.ids(world)[0])

    def leaving(self, world: World) -> Things:  # noqa: D102
        return self._things(self.ids(world)[1])

    def _things(self, ids: Iterable[object]) -> Things:
        kinds = {"container": self.container} | ({"volume": self.volume} if self.data else {})
        return {(kind, named(ident)) for ident in ids for kind, named in kinds.items()}


class Infrastructure(Service, ABC):
    """A service of one container that is there before any object is. Its data, if any, is in a volume."""

    name: ClassVar[str]
    has_volume: ClassVar[bool] = False

    @property
    def container(self) -> str:
        """Its container."""
        return self.instance.thing(self.name)

    @property
    def volume(self) -> str:
        """The volume of its data."""
        return self.instance.thing(self.name, "data")

    @abstractmethod
    def spec(self) -> ContainerSpec:
        """Return what its container is made of."""

    def ensure(self) -> bool:
        """Create and start the container if it is not there; False when it ran."""
        return ensure(self.docker, self.spec())

    def expected(self, world: World) -> Things:  # noqa: ARG002, D102 - they are always there
        return {("container", self.container)} | (
            {("volume", self.volume)} if self.has_volume else set[tuple[str, str]]()
        )
