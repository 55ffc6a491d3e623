"""The second token: one of custom scopes, as people make them who read only what a page asks for.

It lacks two: `database:view_credentials`, without which every password in an answer is empty, with no error
(terraform-provider-digitalocean#1165), and those of Spaces keys, without which these calls are 403.
"""

from __future__ import annotations

import re
from typing import Any

from sandbox.api.context import ApiError, Operation

_URI_PASSWORD = re.compile(r"(?<=://)([^:/@]*):[^@]*@")


def narrow_token(token: str) -> str:
    """Return the second token of the account that this one is of."""
    return f"{token}_custom_scopes"


def must_be_allowed(operation: Operation) -> None:
    """Refuse what the second token may not do.

    Raises:
        ApiError: 403.
    """
    if operation.id.startswith("spacesKey_"):
        raise ApiError(403, "You are missing the required permission spaces_key:create_credentials")


def without_passwords(body: Any) -> Any:
    """Return the answer as the second token sees it."""
    if isinstance(body, list):
        return [without_passwords(item) for item in body]
    if isinstance(body, dict):
        return {name: "" if name == "password" else without_passwords(value) for name, value in body.items()}
    return _URI_PASSWORD.sub(r"\1:@", body) if isinstance(body, str) else body
