"""Build the environment of every service: what compose hands to it, and the secret values in `.env`.

What a service uses and refers to is the table of `blueprint.references`; `.env` holds each secret value once, and
compose.yaml names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from blueprint.outputs import EnvironmentOutputs, OutputSecrets
from blueprint.reference_text import VALUE_PREFIX, Path, render
from blueprint.references import find, variables_of
from blueprint.settings.services import ServiceSettings
from ops.core.errors import ReleaseError

_RESERVED = ("COMPOSE_", "DOCKER_", VALUE_PREFIX)
HOME = "/tmp"  # noqa: S108 -- of a container, where it is memory and its own


@dataclass(frozen=True, kw_only=True)
class ServicesEnvironment:
    """Variables of the services as compose.yaml has them (None: the value is in `.env`), and the values of `.env`."""

    services: Mapping[str, Mapping[str, str | None]]
    dotenv: Mapping[str, str]


def build_environment(outputs: EnvironmentOutputs, secrets: OutputSecrets) -> ServicesEnvironment:
    """Return the variables of every service, and the secret values that they name.

    Raises:
        ReleaseError: a service uses a secret that the stack lacks, refers to what the environment has not, or has the
            name of a variable that compose itself reads.
    """
    dotenv: dict[str, str] = {}
    services = {
        name: _Variables(name, service, outputs, secrets, dotenv).build() for name, service in outputs.services.items()
    }
    return ServicesEnvironment(services=services, dotenv=dict(sorted(dotenv.items())))


@dataclass(frozen=True)
class _Variables:
    """Variables of one service; secret values are added to `dotenv`."""

    name: str
    service: ServiceSettings
    outputs: EnvironmentOutputs
    secrets: OutputSecrets
    dotenv: dict[str, str]

    def build(self) -> dict[str, str | None]:
        service = self.service
        found: dict[str, str | None] = {
            "ENVIRONMENT": self.outputs.environment,
            "VERSION": service.reference.version,
            **({"HOME": HOME} if service.read_only else {}),
            **({"PORT": str(service.port)} if service.port is not None else {}),
        }
        for use in service.uses:
            for variable, path in variables_of(use).items():
                if (value := self._value(Path(path))) is not None:
                    found[variable] = value
        for variable in service.secrets:
            self._take(variable)
            found[variable] = None
        for variable, text in service.environment.items():
            found[variable] = render(text, lambda path, to=variable: self._required(path, to), _literal)
        return found

    def _take(self, variable: str) -> None:
        place = f"services.{self.name}.secrets"
        if variable.startswith(_RESERVED):
            raise ReleaseError(f"{place}: {variable}: compose itself reads this name; choose another one")
        if variable not in self.secrets.app:
            raise ReleaseError(
                f"{place}: {variable} is not in secrets.app; "
                f"`pulumi config set --secret --path 'ancla:secrets.app.{variable}'`, then `pulumi up`"
            )
        self.dotenv[variable] = self.secrets.app[variable].get_secret_value()

    def _required(self, path: Path, variable: str) -> str:
        value = self._value(path)
        if value is None:
            raise ReleaseError(
                f"services.{self.name}.environment.{variable}: the environment has no {path.text}; "
                "run `pulumi up`, or correct the reference"
            )
        return value

    def _value(self, path: Path) -> str | None:
        """Return a reference's value as compose.yaml has it: itself, or the name of a secret one in `.env`."""
        found = find(path.text)
        value = None if found is None else found[0].value(self.outputs, self.secrets, found[1])
        if found is None or value is None:
            return None
        if not found[0].secret:
            return _literal(value)
        self.dotenv[path.variable] = value
        return f"${{{path.variable}}}"


def _literal(text: str) -> str:
    return text.replace("$", "$$")


def build_dotenv(values: Mapping[str, str]) -> str:
    """Build the text of `.env`: always double-quoted, which compose decodes correctly for every value except NUL."""
    lines = [f'{name}="{_escaped(value)}"' for name, value in values.items()]
    return "\n".join(["# Written by Ancla; changes here are undone by the next release.", *lines]) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
