"""Write `.env.example` from the stack files: `python -m ops.release.env_example` (in the repository's root).

It documents every variable that a release gives to the app. A test fails if it is out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from blueprint.pulumi_config import SettingsError, load_stack_file
from blueprint.settings.environment import EnvironmentSettings
from ops.release.variables import variables_of

FILE = Path(".env.example")

_HEAD = """\
# Every variable of the app, written by `python -m ops.release.env_example` from the stack files.
# On the droplet the values are in /opt/ancla/app/.env (root, 0600) and compose.yaml; here there are only examples.
"""


def build_env_example(stacks: Iterable[EnvironmentSettings]) -> str:
    """Build the text for the services of these stacks together."""
    stacks = tuple(stacks)
    variables = variables_of(dict.fromkeys(name for stack in stacks for name in stack.buckets))
    parts = [_HEAD, "\n# ── Given to every service\n"]
    for variable in variables:
        secret = " Secret." if variable.secret else ""
        parts.append(f"# {variable.meaning}{secret}\n{variable.name}={variable.example}\n")
    parts.append("# Tag of the service's image. Each service has its own.\nVERSION=1.0.0\n")
    parts.append("# Where the service must listen. Each service has its own.\nPORT=3000\n")
    shared = {variable.name for variable in variables}
    services: dict[str, dict[str, str]] = {}
    for service in (service for stack in stacks for service in stack.services):
        lines = services.setdefault(service.name, {})
        for name in service.environment:
            above = " In place of the one above." if name in shared else ""
            lines[name] = f"# Set in the stack file: services, {service.name}, environment.{above}\n{name}=\n"
        for name in service.secrets:
            lines[name] = f"# The stack's secrets.app.{name}. Secret.\n{name}=\n"
    for service_name, lines in services.items():
        if lines:
            parts += [f"\n# ── Given to {service_name}\n", *(text for _, text in sorted(lines.items()))]
    return "".join(parts)


def main() -> None:
    """Write the file."""
    try:
        text = build_env_example(load_stack_file(path) for path in sorted(Path().glob("Pulumi.*.yaml")))
    except SettingsError as error:
        sys.exit(f"error: {error}")
    FILE.write_text(text)


if __name__ == "__main__":
    main()
