"""Read the engine's record of a stack, `pulumi stack export`."""

from __future__ import annotations

import json
from typing import Any

SECRET_SIGNATURE = "4dabf18193072939515e22adb298388d"  # noqa: S105  # the engine's mark of a secret value, not a secret


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
