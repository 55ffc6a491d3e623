"""The files a droplet gets, as Jinja templates in `host/templates/`. Rendering is pure: the tests read the text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=False,  # noqa: S701 -- configuration files, not HTML
)


def render(template: str, **values: Any) -> str:
    """Return the text of `host/templates/<template>` with these values; an unknown name is an error."""
    return _ENVIRONMENT.get_template(template).render(**values)
