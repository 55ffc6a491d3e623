"""Resources that run `host` commands on droplets.

Each runs one verb of `python3 -m host` on this computer, which logs in by SSH.

The verb reads one JSON document on stdin, a secret, so that nothing of it is in a command line, a diff or an error text
(a failing command prints itself). Each runs again when its document or a trigger changes, and finds nothing to do then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pulumi
from pulumi_command import local

from blueprint.machine import BackupTimerSettings
from components.component import AnclaComponent
from components.credentials import keyed_hash

Document = Mapping[str, pulumi.Input[Any]]


def build_command(verb: str) -> str:
    """Return the command text: no path of one computer is in it, for it is part of the state.

    The engine runs it outside of the program's own Python, so it looks for one that has Ancla: that of `ANCLA_PYTHON`,
    the virtual environment beside the program, the active one, or the first `python3` on PATH.
    """
    return (
        'cd "${ANCLA_ROOT:-.}" && for python in "${ANCLA_PYTHON:-}" .venv/bin/python venv/bin/python '
        '"${VIRTUAL_ENV:-.}/bin/python" python3; do '
        'if command -v "$python" >/dev/null && "$python" -c "import host" 2>/dev/null; '
        f'then exec "$python" -m host {verb}; fi; done; '
        "echo 'No Python with Ancla was found; set ANCLA_PYTHON to the one of the program' >&2; exit 1"
    )


class HostCommand(AnclaComponent):
    """One command of `host` for one droplet."""

    stdout: pulumi.Output[str]
    command: local.Command

    verb: ClassVar[str]

    def __init__(
        self,
        name: str,
        document: Document,
        triggers: Sequence[pulumi.Input[Any]],
        opts: pulumi.ResourceOptions | None,
    ) -> None:
        super().__init__(f"ancla:index:{type(self).__name__}", name, opts)
        self.command = local.Command(
            f"{name}-command",
            create=build_command(self.verb),
            stdin=pulumi.Output.secret(pulumi.Output.json_dumps(document)),
            triggers=list(triggers),
            # The last run's output is not handed to the next one: a variable that no verb reads.
            add_previous_output_in_env=False,
            opts=self._child(custom_timeouts=pulumi.CustomTimeouts(create="30m", update="30m")),
        )
        self.stdout = self.command.stdout
        self.register_outputs({})


@dataclass(frozen=True, kw_only=True)
class DropletLogin:
    """A droplet and how to log in to it."""

    droplet_id: pulumi.Input[str]
    address: pulumi.Input[str]
    port: int
    user: str
    deploy_key: pulumi.Input[str] = field(repr=False)
    host_key: pulumi.Input[str]

    def document(self) -> dict[str, pulumi.Input[Any]]:
        """Return the part of the document that every verb reads; `host_key` is the pinned public line."""
        return {
            "address": self.address,
            "port": self.port,
            "user": self.user,
            "deploy_key": self.deploy_key,
            "host_key": self.host_key,
        }

    def hashed(self, value: pulumi.Input[str]) -> pulumi.Output[str]:
        """Return the keyed hash of a secret input, itself not secret: it may show in a diff."""
        return pulumi.Output.unsecret(pulumi.Output.all(self.deploy_key, value).apply(lambda both: keyed_hash(*both)))


class FirstContact(HostCommand):
    """Waits for a new droplet, authenticates it by its bootstrap host key, and installs the final one."""

    verb = "first-contact"

    def __init__(
        self,
        name: str,
        login: DropletLogin,
        bootstrap_host_key: pulumi.Input[str],
        host_key_private: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        document = {
            **login.document(),
            "bootstrap_host_key": bootstrap_host_key,
            "host_key_private": host_key_private,
        }
        super().__init__(name, document, [login.droplet_id], opts)


@dataclass(frozen=True, kw_only=True)
class ConvergeArgs:
    """`machine` are the droplet's `MachineSettings` as JSON; `plan` is the digest of the plan that they give."""

    login: DropletLogin
    machine: pulumi.Input[Mapping[str, Any]]
    plan: pulumi.Input[str]


class Converge(HostCommand):
    """Converges a droplet with `host/`. Runs again when the droplet is replaced or its plan changes."""

    verb = "converge"

    def __init__(self, name: str, args: ConvergeArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        document = {**args.login.document(), "machine": args.machine}
        super().__init__(name, document, [args.login.droplet_id, args.plan], opts)


@dataclass(frozen=True, kw_only=True)
class OpsInstallArgs:
    """`outputs` and `secrets` are the droplet's copy of the outputs (`blueprint.outputs`), as JSON values."""

    login: DropletLogin
    plan: str
    timers: BackupTimerSettings | None
    outputs: Document
    secrets: Document = field(repr=False)


class OpsInstall(HostCommand):
    """Installs ops on a droplet. Runs again when the droplet is replaced, or ops, its documents or timers change."""

    verb = "ops"

    def __init__(self, name: str, args: OpsInstallArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        document = {
            **args.login.document(),
            "outputs": dict(args.outputs),
            "secrets": dict(args.secrets),
            "timers": args.timers.model_dump(mode="json") if args.timers else None,
        }
        hashed = args.login.hashed(pulumi.Output.json_dumps(dict(args.secrets)))
        super().__init__(name, document, [args.login.droplet_id, args.plan, hashed], opts)


@dataclass(frozen=True, kw_only=True)
class GrantsArgs:
    """The cluster as its administrator sees it, and the user who gets the schema and extensions of each database."""

    login: DropletLogin
    cluster_id: pulumi.Input[str]
    private_host: pulumi.Input[str]
    database_port: pulumi.Input[int]
    admin_user: pulumi.Input[str]
    admin_password: pulumi.Input[str] = field(repr=False)
    ca_certificate: pulumi.Input[str]
    databases: Sequence[str]
    extensions: Sequence[str]
    app_user: pulumi.Input[str]


class Grants(HostCommand):
    """Gives the app's user the `public` schema of its databases: from PostgreSQL 15 on, no role has it by default.

    Extensions are created on the way, which the administrator alone may do.

    The SQL runs on the droplet, which is a trusted source of the cluster; no other source is added for it.
    """

    verb = "grants"

    def __init__(self, name: str, args: GrantsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        document = {
            **args.login.document(),
            "database": {
                "private_host": args.private_host,
                "port": args.database_port,
                "admin_user": args.admin_user,
                "admin_password": args.admin_password,
                "ca_certificate": args.ca_certificate,
                "databases": list(args.databases),
                "extensions": list(args.extensions),
                "user": args.app_user,
            },
        }
        triggers = [args.cluster_id, args.login.hashed(args.admin_password)]
        super().__init__(name, document, triggers, opts)
