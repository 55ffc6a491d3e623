"""Where settings come from, as pydantic-settings sources.

The first one wins:

1. the environment variable `ANCLA_SECRETS`: one JSON document of `Secrets`, for stack files that hold none (the
   sandbox, CI);
2. the environment variable `ANCLA_SANDBOX_RECIPIENT`: one more recipient of backups, which the sandbox sets, so that
   the stack file tried there is the one that ships;
3. the engine's configuration inside a Pulumi program, or a stack file read as plain YAML: no engine, no passphrase,
   encrypted values accepted as they are.

Both give one frozen `EnvironmentSettings`, or a `SettingsError` with one line for each problem.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from blueprint import problems
from blueprint.keys import KeyFormatError, public_line
from blueprint.settings.built import Verdict, not_built
from blueprint.settings.environment import EnvironmentSettings
from blueprint.settings.required_secrets import missing_secrets
from blueprint.stack_file import NAMESPACE, OPAQUE, StackFileError, read_stack_file, refuse_encrypted, stack_of

SECRETS_VARIABLE = "ANCLA_SECRETS"
RECIPIENT_VARIABLE = "ANCLA_SANDBOX_RECIPIENT"
PRIVATE_KEYS = ("deploy_key", "bootstrap_host_key", "host_key", "backup_signing_key")


class SettingsError(ValueError):
    """The settings cannot be used. `problems` has one line each; the text is those lines."""

    def __init__(self, *found: str) -> None:
        super().__init__("\n".join(found))
        self.problems = found


def load_stack_file(path: Path, *, environ: Mapping[str, str] = os.environ) -> EnvironmentSettings:
    """Read and validate a stack file without the engine.

    Secrets that it lacks are no error here (see `check_buildable`).

    Raises:
        SettingsError: the file cannot be read, does not validate, or is by its name of another environment.
    """
    settings = _load(lambda: read_stack_file(path), environ)
    _check_stack(settings, stack_of(path))
    return settings


def load_program(*, environ: Mapping[str, str] = os.environ) -> EnvironmentSettings:
    """Read the configuration of the running Pulumi program, and make sure that it can be built.

    Raises:
        SettingsError: it does not validate, needs a feature that is not built yet, lacks a secret, is of another
            environment than the stack, or is from a stack file that other readers would read differently.
    """
    import pulumi  # noqa: PLC0415 - `ops` and the droplet read settings without Pulumi

    settings = _load(lambda: _engine_config(Path(pulumi.get_root_directory()), pulumi.get_stack()), environ)
    _check_stack(settings, pulumi.get_stack())
    check_buildable(settings)
    for what in not_built(settings):
        pulumi.log.warn(f"{NAMESPACE}:{what}: {what.verdict}")
    return settings


def _engine_config(folder: Path, stack: str) -> dict[str, Any]:
    """Return the engine's configuration, once the stack file it was read from is known to have one reading.

    The engine hands on `port: 03001` as 1537: the number alone does not show what was written.
    """
    path = folder / f"Pulumi.{stack}.yaml"
    if path.is_file():
        read_stack_file(path)
    return read_engine_config()


def _check_stack(settings: EnvironmentSettings, stack: str | None) -> None:
    """Refuse an environment of another name than the stack: it would take the first one's names and records.

    Raises:
        SettingsError: they differ.
    """
    if stack is not None and stack != settings.environment:
        raise SettingsError(
            f"{NAMESPACE}:environment: found {json.dumps(settings.environment)}, and the stack is {stack} "
            f"(Pulumi.{stack}.yaml); give both one name: a copied file would fight for the other stack's resources"
        )


def check_buildable(settings: EnvironmentSettings) -> None:
    """Refuse, before anything starts, settings that parse but cannot be built here and now.

    Raises:
        SettingsError: something not built yet is asked for, or a secret is absent or no key.
    """
    found = [
        f"{NAMESPACE}:{what}: is understood, and {what.verdict}"
        for what in not_built(settings)
        if what.verdict is Verdict.REFUSED
    ]
    found += [
        f"{NAMESPACE}:{path}: is missing; `ops stack init` makes the keys, "
        f"`pulumi config set --secret --path '{NAMESPACE}:{path}'` sets one value"
        for path in missing_secrets(settings)
    ]
    for name in PRIVATE_KEYS:
        value = getattr(settings.secrets, name)
        if value is None or value.get_secret_value() == OPAQUE:
            continue
        try:
            public_line(value)
        except KeyFormatError as error:
            found.append(f"{NAMESPACE}:secrets.{to_camel(name)}: {error}; `ops stack init` makes one")
    if found:
        raise SettingsError(*found)


def read_engine_config() -> dict[str, Any]:
    """Return the engine's configuration under `ancla:`, by key; objects and lists arrive as JSON texts.

    Raises:
        StackFileError: a value is encrypted outside `ancla:secrets`.
    """
    from pulumi.runtime import config as engine  # noqa: PLC0415 - `ops` and the droplet read settings without Pulumi

    values: dict[str, Any] = {}
    for key, text in {**engine.get_config_env(), **engine.CONFIG.get()}.items():
        namespace, _, name = key.partition(":")
        if namespace != NAMESPACE:
            continue
        secret = engine.is_config_secret(key) or key in engine.get_config_secret_keys_env()
        refuse_encrypted(name, encrypted=secret and name != "secrets")
        values[name] = _parsed(text)
    return values


def _parsed(text: Any) -> Any:
    if isinstance(text, str) and text.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text
    return text


class _Values(PydanticBaseSettingsSource):
    """A source whose values are one mapping."""

    def __init__(self, settings_cls: type[BaseSettings], read: Callable[[], dict[str, Any]]) -> None:
        super().__init__(settings_cls)
        self._read = read

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return nothing: a mapping is read as a whole."""
        del field
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        return self._read()


def _secrets_of(environ: Mapping[str, str]) -> dict[str, Any]:
    text = environ.get(SECRETS_VARIABLE, "")
    if not text:
        return {}
    try:
        values: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise StackFileError(f"{SECRETS_VARIABLE}: is not JSON (line {error.lineno}, column {error.colno})") from None
    if not isinstance(values, dict):
        raise StackFileError(f'{SECRETS_VARIABLE}: must be one JSON object, such as {{"deployKey": …}}')
    return {"secrets": values}


def _with_recipient(values: dict[str, Any], recipient: str | None) -> dict[str, Any]:
    """Return the values with the sandbox's own recipient beside those of the file, where it makes backups."""
    backup = values.get("backup")
    if not recipient or not isinstance(backup, dict) or not isinstance(backup.get("recipients", []), list):
        return values
    return {**values, "backup": {**backup, "recipients": [*backup.get("recipients", []), recipient]}}


def _load(read: Callable[[], dict[str, Any]], environ: Mapping[str, str]) -> EnvironmentSettings:
    class Sources(BaseSettings):
        """Merges these sources and no other: no variable of a setting's own name, no .env file."""

        model_config = SettingsConfigDict(extra="allow")

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            del init_settings, env_settings, dotenv_settings, file_secret_settings
            written = _Values(settings_cls, lambda: _with_recipient(read(), environ.get(RECIPIENT_VARIABLE)))
            return _Values(settings_cls, lambda: _secrets_of(environ)), written

    try:
        return EnvironmentSettings.model_validate(Sources().model_extra)
    except StackFileError as error:
        raise SettingsError(*error.problems) from None
    except ValidationError as error:
        raise SettingsError(*problems.lines(error)) from None
