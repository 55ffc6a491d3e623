"""A preview as the engine prints it, as plain values: the resources to be and to go, and the configuration used."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from blueprint.kinds import KINDS, Kind

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""Placeholder of the engine for a text that is known only after `up` (pulumi/sdk/go/common/resource/plugin)."""

_GONE = ("delete", "delete-replaced", "discard", "discard-replaced", "read-discard", "remove-pending-replace")
_ENGINES_OWN = ("pulumi:", "ancla:", "command:")
_NAMESPACE = "ancla"


class PreviewError(ValueError):
    """Not a preview that can be judged; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One resource of the environment to be. `name` is the one DigitalOcean shows, where the inputs give it."""

    urn: str
    type: str
    logical_name: str
    operation: str
    inputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    protect: bool = False
    property_dependencies: Mapping[str, list[str]] = field(default_factory=dict[str, list[str]])
    id: str = ""

    @property
    def kind(self) -> str:
        """The last part of the type token, such as `Droplet`."""
        return self.type.rpartition(":")[2]

    @property
    def name(self) -> str:
        """The name a person sees."""
        name = self.inputs.get("name")
        return name if isinstance(name, str) and name not in ("", "@", UNKNOWN) else self.logical_name

    @property
    def is_clouds(self) -> bool:
        """Tell whether it is made at a provider; the engine's groups and the commands it runs are not."""
        return not self.type.startswith(_ENGINES_OWN)

    def refers_to(self, key: str, other: Resource) -> bool:
        """Tell whether an input was made from another resource."""
        value = self.inputs.get(key)
        return other.urn in self.property_dependencies.get(key, []) or bool(other.id and value == other.id)


@dataclass(frozen=True, kw_only=True)
class Preview:
    """Every resource there will be, those that will be deleted, and the values under `ancla:`."""

    resources: tuple[Resource, ...]
    config: Mapping[str, Any]
    deleted: tuple[Resource, ...] = ()

    def of_kind(self, *kinds: str) -> Iterator[Resource]:
        """Yield DigitalOcean's resources of these kinds that there will be."""
        return (item for item in self.resources if item.type.startswith("digitalocean:") and item.kind in kinds)

    def where(self, holds: Callable[[Kind], bool]) -> Iterator[Resource]:
        """Yield DigitalOcean's resources that there will be, of the kinds for which this holds."""
        return self.of_kind(*(name for name, kind in KINDS.items() if holds(kind)))


def parse_preview(text: str) -> Preview:
    """Parse what `pulumi preview --json --show-sames` printed.

    Raises:
        PreviewError: not JSON, a preview that failed, or one that leaves out unchanged resources.
    """
    try:
        document: Any = json.loads(text)
    except json.JSONDecodeError as error:
        what = f"is not JSON (line {error.lineno})" if text.strip() else "is empty; the preview printed nothing"
        raise PreviewError(f"the preview {what}; give `pulumi preview --json --show-sames` on stdin") from None
    if not isinstance(document, dict) or not isinstance(document.get("steps", []), list):
        raise PreviewError("the preview has no steps; give `pulumi preview --json --show-sames` on stdin")
    for diagnostic in document.get("diagnostics") or []:
        if diagnostic.get("severity") == "error":
            raise PreviewError(f"the preview failed: {' '.join(str(diagnostic.get('message')).split())}")
    resources: dict[str, Resource] = {}
    deleted: dict[str, Resource] = {}
    for step in document.get("steps", []):
        operation, new, old = str(step.get("op")), step.get("newState"), step.get("oldState")
        if operation not in _GONE and isinstance(new, dict):
            resource = _resource(step, operation, new)
            resources[resource.urn] = resource
        elif operation == "delete" and isinstance(old, dict) and not old.get("retainOnDelete"):
            resource = _resource(step, operation, old)
            deleted[resource.urn] = resource
    _check_complete(document, resources)
    return Preview(
        resources=tuple(resources.values()),
        config=_config(document.get("config") or {}),
        deleted=tuple(deleted.values()),
    )


def _resource(step: Mapping[str, Any], operation: str, state: Mapping[str, Any]) -> Resource:
    urn = str(step["urn"])
    return Resource(
        urn=urn,
        type=str(state.get("type", "")),
        logical_name=urn.rpartition("::")[2],
        operation="replace" if "replace" in operation else operation,
        inputs=state.get("inputs") or {},
        protect=bool(state.get("protect")),
        property_dependencies={
            key: list(value or []) for key, value in (state.get("propertyDependencies") or {}).items()
        },
        id=str(state.get("id") or ""),
    )


def _check_complete(document: Mapping[str, Any], resources: Mapping[str, Resource]) -> None:
    same = int((document.get("changeSummary") or {}).get("same", 0))
    listed = sum(resource.operation == "same" for resource in resources.values())
    if listed < same:
        raise PreviewError(
            f"the preview lists {listed} of {same} unchanged resources, so nothing can be said of the others; "
            "run it with --show-sames"
        )


def _config(raw: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in raw.items():
        namespace, _, name = key.partition(":")
        if namespace != _NAMESPACE:
            continue
        parsed = value
        if isinstance(value, str) and value[:1] in ("{", "["):
            try:
                parsed = json.loads(value)
            except json.JSONDecodeError:
                parsed = value
        values[name] = parsed
    return values
