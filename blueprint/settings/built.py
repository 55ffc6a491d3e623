"""What a stack file may ask for and Ancla does not build yet: one table, key by key.

A key is *refused* where the environment would be another than asked, and *without effect* where it would only lack
something: that is a warning, and `ops settings check --strict` makes it an error. A key that is in no row is built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from blueprint.fields import Duration
from blueprint.settings.alerts import PERIODS, WINDOWS
from blueprint.settings.environment import EnvironmentSettings
from blueprint.settings.extras import EXTRAS


class Verdict(StrEnum):
    """What becomes of a stack file that asks for something that is not built yet."""

    REFUSED = "not built yet"
    NO_EFFECT = "not in effect yet"


@dataclass(frozen=True)
class Row:
    """One key, as a path whose `*` stands for any name, and the values of it that are meant (`None`: whatever)."""

    path: str
    verdict: Verdict
    means: Callable[[Any], bool] | None = None
    what: str | None = None
    """What is not built, where it is not the value itself."""


@dataclass(frozen=True)
class Found:
    """What a stack file asks for: the path as a person writes it, the value as it was written, the verdict."""

    path: str
    shown: str
    verdict: Verdict

    def __str__(self) -> str:
        return f"{self.path}: {self.shown}"


def refused(path: str, means: Callable[[Any], bool] | None = None) -> Row:
    """Return a row of what makes the environment another than asked."""
    return Row(path, Verdict.REFUSED, means)


def without_effect(path: str, means: Callable[[Any], bool] | None = None, *, what: str | None = None) -> Row:
    """Return a row of what the environment only lacks."""
    return Row(path, Verdict.NO_EFFECT, means, what)


def is_one_of(*values: object) -> Callable[[Any], bool]:
    """Return a test for some values of a key."""
    return lambda value: value in values


def lasts_none_of(spans: Iterable[str]) -> Callable[[Any], bool]:
    """Return a test for a duration that is none of these."""
    known = {Duration(span) for span in spans}
    return lambda value: value not in known


def is_given(value: object) -> bool:
    """Return True if a key that may be left out has a value."""
    return value is not None


ROWS: tuple[Row, ...] = (
    refused("topology.kind", is_one_of("droplets", "kubernetes", "app-platform")),
    refused("topology.balancer", is_given),
    refused("topology.volumes", bool),
    refused("topology.ipv6", bool),
    without_effect("topology.swap", is_given),
    without_effect("topology.snapshots", is_given),
    without_effect("edge.names", lambda names: len(names) > 1, what="the redirect to the first name"),
    without_effect("edge.tls"),
    without_effect("edge.hsts"),
    without_effect("edge.headers"),
    without_effect("edge.bodyLimit"),
    refused("edge.proxy", is_one_of("cloudflare")),
    refused("edge.ports", bool),
    refused("database.kind", is_one_of("postgresql", "sqlite")),
    refused("database.replicas", bool),
    refused("cache.kind"),
    without_effect("buckets.*.cdn.host"),
    *(refused(f"extras.{name}", is_given) for name in EXTRAS if name != "panel"),
    without_effect("extras.panel", is_given),
    refused("extras.panel.at", is_given),
    refused("extras.panel.login", is_given),
    without_effect("growth", is_given),
    without_effect("recovery", is_given),
    refused("access.sshFrom", lambda value: not value),
    refused("access.logins", bool),
    without_effect("alerts.preset", what="its rules on availability and errors"),
    without_effect("alerts.thresholds.availability"),
    without_effect("alerts.thresholds.errorShare"),
    without_effect("alerts.thresholds.errorsAMinute"),
    without_effect("alerts.hold", lasts_none_of(WINDOWS), what=f"other than {', '.join(WINDOWS)}"),
    without_effect("alerts.uptime.every", lasts_none_of(PERIODS), what=f"other than {', '.join(PERIODS)}"),
    without_effect("alerts.channels.*.kind", lambda value: value not in ("email", "slack")),
    without_effect("alerts.failedLogins"),
    refused("backup.destinations.*.folder", is_given),
    without_effect("backup.destinations.*.writeOnce", is_given),
    without_effect("backup.vault", is_given),
    without_effect(
        "backup.signers", lambda keys: set(keys.drill) != set(keys.ledger), what="by role: each is for both"
    ),
    refused("services.*.run", is_one_of("node")),
    refused("services.*.folders", bool),
    refused("services.*.instances", lambda value: value.scales),
    refused("services.*.routes.*.host"),
    refused("services.*.routes.*.login"),
    refused("services.*.routes.*.root"),
    without_effect("services.*.routes.*.rate"),
    without_effect("services.*.routes.*.timeout"),
    without_effect("services.*.routes.*.bodyLimit"),
    without_effect("services.*.routes.*.stream", bool),
    without_effect("services.*.routes.*.cache"),
    without_effect("release.migrate"),
    without_effect("release.backupBefore", bool),
    without_effect("release.keepReleases"),
    refused("release.strategy", is_one_of("waves")),
    without_effect("release.strategy"),
    without_effect("release.burnIn"),
    without_effect("release.hook", bool),
)


def not_built(settings: EnvironmentSettings) -> list[Found]:
    """List what the stack file asks for that Ancla parses but does not build yet, in the order of the file's groups."""
    return [
        Found(path, row.what or _shown(value), row.verdict)
        for pattern, path, value in written(settings)
        if (row := _row_of(pattern, value)) is not None
    ]


def _row_of(pattern: str, value: object) -> Row | None:
    """Return the first row that means this value of a key."""
    return next((row for row in ROWS if row.path == pattern and (row.means is None or row.means(value))), None)


def written(value: object, pattern: str = "", path: str = "") -> Iterator[tuple[str, str, object]]:
    """Yield every key that was written, from the outside in: its pattern, its path, and its value.

    A name that a person chose is `*` in the pattern. What has its default is not yielded, and neither is a secret's
    name or value.
    """
    if path:
        yield pattern, path, value
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            if name in value.model_fields_set and (path or name != "secrets"):
                key = type(value).model_fields[name].alias or name
                yield from written(getattr(value, name), _below(pattern, key), _below(path, key))
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield from written(one, _below(pattern, "*"), _below(path, str(name)))
    elif isinstance(value, tuple):
        for index, one in enumerate(value):
            if isinstance(one, BaseModel):
                yield from written(one, _below(pattern, "*"), f"{path}[{index}]")


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _shown(value: object, *, inner: bool = False) -> str:
    """Return a value as a stack file would have it, on one line; a list by itself without its brackets."""
    if isinstance(value, tuple | list):
        items = ", ".join(_shown(one, inner=True) for one in value)
        return items if items and not inner else f"[{items}]"
    if isinstance(value, BaseModel):
        return _shown(value.model_dump(mode="json", by_alias=True, exclude_unset=True))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_shown(one, inner=True)}" for key, one in value.items()) + "}"
    return str(value)
