"""Read the engine's record of a stack, `pulumi stack export`."""

from __future__ import annotations

import json
from typing import Any

SECRET_SIGNATURE = "4dabf18193072939515e22adb298388d"  # noqa: S105  # the engine's mark of a secret value, not a secret


def urn_types(urn: str) -> list[str]:
    """Return the type tokens in a resource's URN, from the outermost component to the resource's own."""
    return urn.split("::")[2].split("$")


def urn_name(urn: str) -> str:
    """Return the name of a resource, as a preview shows it."""
    return urn.rpartition("::")[2]


def plain(value: Any) -> Any:
    """Return a value of an export made with --show-secrets with its secrets unwrapped."""
    if isinstance(value, dict):
        if SECRET_SIGNATURE in value:
            text = value.get("plaintext")
            return plain(json.loads(text)) if isinstance(text, str) else None
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value
