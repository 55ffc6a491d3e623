"""Initialise a stack: generate its own keys and record its account. Safe to repeat."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blueprint.keys import make_key
from blueprint.settings.environment import EnvironmentSettings
from ops.core.errors import StackError
from ops.core.files import atomic_write
from ops.stack.cloud import Cloud
from ops.stack.outputs import pulumi
from ops.stack.preflight import preflight

NAMESPACE = "ancla"
KEYS = {
    "deployKey": "the key that logs in as deploy",
    "bootstrapHostKey": "the host key a droplet is born with",
    "hostKey": "the host key a droplet keeps",
    "backupSigningKey": "the key that signs manifests of backups",
}


@dataclass(kw_only=True)
class InitReport:
    """Names of the keys created and of those that existed already; never values. `problems` stop a `pulumi up`."""

    made: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    account: str | None = None
    backend: str | None = None
    written: Path | None = None
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def init_file(path: Path) -> InitReport:
    """Write missing keys into a JSON document for `ANCLA_SECRETS` (mode 0600); existing ones stay.

    Raises:
        StackError: the file exists and is not such a document, or cannot be written.
    """
    report = InitReport(written=path)
    values: dict[str, Any] = {}
    try:
        if path.exists():
            document: Any = json.loads(path.read_text())
            if not isinstance(document, dict):
                raise StackError(f"{path}: is not a JSON object; move it away and run this again")
            values = document
        for name in KEYS:
            if values.get(name):
                report.kept.append(name)
            else:
                values[name] = make_key().get_secret_value()
                report.made.append(name)
        if report.made or (path.exists() and path.stat().st_mode & 0o077):
            _write_private(path, json.dumps({"app": {}, **values}))
    except json.JSONDecodeError as error:
        raise StackError(f"{path}:{error.lineno}: is not JSON; move it away and run this again") from None
    except OSError as error:
        raise StackError(f"{path}: {error.strerror}") from None
    return report


def init_stack(
    stack: str,
    cloud: Cloud | None,
    engine: Callable[..., str] = pulumi,
    *,
    settings: EnvironmentSettings | None = None,
) -> InitReport:
    """Create the stack and, encrypted in its stack file, the missing keys; record the account and compare it.

    Args:
        stack: the engine's stack.
        cloud: the API to ask for the account; None skips it.
        settings: what is going to be built; None compares nothing with the account.
        engine: runs the engine; values are passed by stdin.

    Raises:
        StackError: the engine refused, or the stack belongs to another account.
        CloudError: the API does not answer.
    """
    report = InitReport()
    names = [entry.get("name", "") for entry in json.loads(engine(["stack", "ls", "--json"], stack=None) or "[]")]
    if not any(name.rsplit("/", 1)[-1] == stack for name in names):
        engine(["stack", "init", "--no-select"], stack=stack)
        report.made.append(f"stack {stack}")
    else:
        report.kept.append(f"stack {stack}")
    config = _config(stack, engine)
    present = _object_keys(config.get(f"{NAMESPACE}:secrets"))
    for name in KEYS:
        if name in present:
            report.kept.append(name)
            continue
        engine(
            ["config", "set", "--secret", "--path", f"{NAMESPACE}:secrets.{name}"],
            stack=stack,
            stdin=make_key().get_secret_value(),
        )
        report.made.append(name)
    _record_account(stack, cloud, config, report, engine)
    if cloud is not None and settings is not None:
        found = preflight(cloud, settings)
        report.made += found.made
        report.notes += found.notes
        report.problems += found.problems
    elif cloud is not None:
        report.notes.append(
            f"Pulumi.{stack}.yaml: has no valid settings yet (`ops settings check` says why): what would stop its "
            "`pulumi up` was not asked; run this again when it has"
        )
    report.backend = json.loads(engine(["whoami", "--verbose", "--json"], stack=None) or "{}").get("url")
    return report


def _record_account(
    stack: str, cloud: Cloud | None, config: dict[str, Any], report: InitReport, engine: Callable[..., str]
) -> None:
    recorded = (config.get(f"{NAMESPACE}:account") or {}).get("value")
    if cloud is None:
        report.account = recorded
        if not recorded:
            report.notes.append("the account is not recorded: set DIGITALOCEAN_TOKEN and run this again")
        return
    account = cloud.account()
    if recorded and recorded != account:
        raise StackError(
            f"stack {stack}: belongs to the account {recorded}, the token belongs to {account}; "
            "use the other token, or `pulumi config set ancla:account` if the stack really moved"
        )
    report.account = account
    if recorded:
        report.kept.append("account")
        return
    engine(["config", "set", f"{NAMESPACE}:account", account], stack=stack)
    report.made.append("account")


def _config(stack: str, engine: Callable[..., str]) -> dict[str, Any]:
    # without --show-secrets an object with a secret in it shows no keys at all; the values stay in this process
    return json.loads(engine(["config", "--json", "--show-secrets"], stack=stack) or "{}")


def _object_keys(entry: Any) -> set[str]:
    """Return the keys of an object in `pulumi config --json`."""
    if not isinstance(entry, dict):
        return set()
    value: Any = entry.get("objectValue")
    if value is None and isinstance(entry.get("value"), str):
        try:
            value = json.loads(entry["value"])
        except ValueError:
            return set()
    return set(value) if isinstance(value, dict) else set()


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, f"{text}\n".encode(), mode=0o600)
