"""Write `.env.example` from the stack files: `python -m ops.release.env_example` (in the repository's root).

It documents every variable that a release gives to the app. A test fails if it is out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from blueprint.pulumi_config import SettingsError, load_stack_file
from blueprint.reference_text import references
from blueprint.references import find, variables_of
from blueprint.settings.environment import EnvironmentSettings
from blueprint.settings.services import ServiceSettings

FILE = Path(".env.example")

_HEAD = """\
# Every variable of the app, written by `python -m ops.release.env_example` from the stack files.
# On the droplet the values are in /opt/ancla/app/.env (root, 0600) and compose.yaml; here there are only examples.

# ── Given to every service
# Name of the environment.
ENVIRONMENT=staging
# Tag of the service's image. Each service has its own.
VERSION=1.0.0
# Where the service must listen, if it has a port. Each service has its own.
PORT=3000
# A folder to write in, which is memory.
HOME=/tmp
"""


def build_env_example(stacks: Iterable[EnvironmentSettings]) -> str:
    """Build the text for the services of these stacks together."""
    services: dict[str, dict[str, str]] = {}
    for stack in stacks:
        for name, service in stack.services.items():
            services.setdefault(name, {}).update(_lines(name, service))
    parts = [_HEAD]
    for name, lines in services.items():
        if lines:
            parts += [f"\n# ── Given to {name}\n", *(text for _, text in sorted(lines.items()))]
    return "".join(parts)


def _lines(name: str, service: ServiceSettings) -> dict[str, str]:
    lines: dict[str, str] = {}
    for use in service.uses:
        for variable, path in variables_of(use).items():
            lines[variable] = f"# {_meaning(path)}\n{variable}={_example(path)}\n"
    for variable in service.secrets:
        lines[variable] = f"# The stack's secrets.app.{variable}. Secret.\n{variable}=\n"
    for variable, text in service.environment.items():
        referred = references(text)
        meaning = " " + _meaning(referred[0].text) if len(referred) == 1 else ""
        example = _example(referred[0].text) if [text] == [f"${{{path.text}}}" for path in referred] else ""
        lines[variable] = f"# Set in the stack file: services.{name}.environment.{meaning}\n{variable}={example}\n"
    return lines


def _meaning(path: str) -> str:
    found = find(path)
    return "" if found is None else f"{found[0].meaning}{' Secret.' if found[0].secret else ''}"


def _example(path: str) -> str:
    found = find(path)
    return "" if found is None else found[0].example


def main() -> None:
    """Write the file."""
    try:
        text = build_env_example(load_stack_file(path) for path in sorted(Path().glob("Pulumi.*.yaml")))
    except SettingsError as error:
        sys.exit(f"error: {error}")
    FILE.write_text(text)


if __name__ == "__main__":
    main()
