"""Recording mocks: run a program to its end without an engine, then look at everything it registered.

An assertion inside `apply` passes silently when the value never comes; so nothing is asserted while the program runs.
Options are recorded too (the SDK's own mocks keep inputs alone), and every run has an event loop and settings of its
own, in a thread of its own: nothing is shared between tests, and no loop of the importing thread is needed.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pulumi
from pulumi.runtime import mocks, rpc
from pulumi.runtime.settings import SETTINGS
from pulumi.runtime.stack import run_pulumi_func

from blueprint.keys import make_key

DEFAULT_OUTPUTS: dict[str, dict[str, Any]] = {
    "digitalocean:index/droplet:Droplet": {
        "ipv4Address": "198.51.100.10",
        "ipv4AddressPrivate": "10.10.0.2",
        "dropletUrn": "do:droplet:4711",
    },
    "digitalocean:index/reservedIp:ReservedIp": {
        "ipAddress": "203.0.113.5",
        "reservedIpUrn": "do:reservedip:203.0.113.5",
    },
    "digitalocean:index/databaseCluster:DatabaseCluster": {
        "host": "db.example.com",
        "privateHost": "private-db.example.com",
        "port": 25060,
        "user": "doadmin",
        "password": "admin-password",
        "clusterUrn": "do:dbaas:c1",
    },
    "digitalocean:index/databaseUser:DatabaseUser": {"password": "user-password", "role": "normal"},
    "digitalocean:index/databaseConnectionPool:DatabaseConnectionPool": {"port": 25061, "password": "pool-password"},
    "digitalocean:index/spacesKey:SpacesKey": {"accessKey": "DO00EXAMPLE", "secretKey": "spaces-secret"},
    "digitalocean:index/cdn:Cdn": {"endpoint": "bucket.nyc3.cdn.digitaloceanspaces.com"},
    "digitalocean:index/domain:Domain": {"domainUrn": "do:domain:example.org"},
    "command:local:Command": {"stdout": "{}", "stderr": ""},
}
IDS = {"digitalocean:index/droplet:Droplet": "4711"}


@dataclass(frozen=True)
class Registered:
    """One resource as it was registered; `options` is the request itself."""

    urn: str
    type: str
    name: str
    inputs: dict[str, Any]
    secrets: frozenset[str]
    options: Any

    @property
    def parent(self) -> str:
        return self.options.parent


@dataclass
class Recording:
    """What one run registered, in order."""

    resources: list[Registered] = field(default_factory=list)
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    read: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    invokes: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    result: Any = None

    def of_type(self, ending: str) -> list[Registered]:
        """Every resource whose type token ends in `:ending`."""
        return [resource for resource in self.resources if resource.type.endswith(f":{ending}")]

    def one(self, ending: str, name: str = "") -> Registered:
        """The only resource of the type (whose name contains `name`)."""
        found = [resource for resource in self.of_type(ending) if name in resource.name]
        assert len(found) == 1, f"{ending} {name}: {[resource.name for resource in found]}"
        return found[0]

    def urns_before(self, resource: Registered) -> set[str]:
        """URNs the resource waits for, through dependencies and parents, all the way."""
        known = {item.urn: item for item in self.resources}
        seen: set[str] = set()
        todo = [*resource.options.dependencies, resource.parent]
        while todo:
            urn = todo.pop()
            if urn in seen or urn not in known:
                continue
            seen.add(urn)
            todo += [*known[urn].options.dependencies, known[urn].parent]
        return seen


class _Mocks(mocks.Mocks):
    def __init__(self, recording: Recording, outputs: dict[str, dict[str, Any]], *, preview: bool) -> None:
        self.recording, self.outputs, self.preview = recording, outputs, preview

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        if self.preview:  # as the engine does: no id, and nothing that DigitalOcean would say
            return "", args.inputs
        made = dict(self.outputs.get(args.typ, {}))
        if "ssh-keygen" in str(args.inputs.get("create")):
            made["stdout"] = make_key().get_secret_value()
        if args.typ.endswith(":SpacesBucket"):
            made["bucketDomainName"] = f"{args.inputs['name']}.{args.inputs['region']}.digitaloceanspaces.com"
            made["bucketUrn"] = f"do:space:{args.inputs['name']}"
        return IDS.get(args.typ, f"{args.name}-id"), {**args.inputs, **made}

    def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:
        self.recording.invokes.append((args.token, args.args))
        return {"certificate": "-----BEGIN CERTIFICATE-----\n", "clusterId": args.args.get("clusterId"), "id": "ca"}


class _Monitor(mocks.MockMonitor):
    def __init__(self, recording: Recording, outputs: dict[str, dict[str, Any]], *, preview: bool) -> None:
        super().__init__(_Mocks(recording, outputs, preview=preview))
        self.recording = recording

    def ReadResource(self, request: Any) -> Any:  # noqa: N802 - the name of the remote procedure
        self.recording.read.append((request.type, request.id, rpc.deserialize_properties(request.properties)))
        return super().ReadResource(request)

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the name of the remote procedure
        if request.type != "pulumi:pulumi:Stack":
            raw = rpc.deserialize_properties(request.object, keep_unknowns=True)
            secrets = frozenset(key for key, value in raw.items() if rpc.is_rpc_secret(value))
            inputs = {key: rpc.unwrap_rpc_secret(value) for key, value in raw.items()}
            urn = self.make_urn(request.parent, request.type, request.name)
            self.recording.resources.append(Registered(urn, request.type, request.name, inputs, secrets, request))
        return super().RegisterResource(request)

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802 - the name of the remote procedure
        self.recording.outputs[request.urn] = rpc.deserialize_properties(request.outputs, keep_unknowns=True)
        return super().RegisterResourceOutputs(request)


def run_program(
    program: Callable[[], Any],
    *,
    preview: bool = False,
    outputs: dict[str, dict[str, Any]] | None = None,
    stack: str = "staging",
) -> Recording:
    """Run a program to its end. What it returns (a value, an Output, a dict of Outputs) is resolved into `result`."""
    recording = Recording()
    failures: list[BaseException] = []

    def body() -> None:
        monitor = _Monitor(recording, {**DEFAULT_OUTPUTS, **(outputs or {})}, preview=preview)
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(
            lambda *_: None
        )  # the first failure is raised; its echoes in other tasks say no more
        asyncio.set_event_loop(loop)
        try:
            # What an earlier run that failed has left behind belongs to a loop that is closed.
            SETTINGS.rpc_manager.clear()
            SETTINGS.outputs.clear()
            mocks.set_mocks(monitor.mocks, project="ancla", stack=stack, preview=preview, monitor=monitor)

            def run() -> None:
                pulumi.Output.from_input(program()).apply(lambda value: setattr(recording, "result", value))

            loop.run_until_complete(run_pulumi_func(run))
        except BaseException as error:  # noqa: BLE001 - carried to the test's own thread
            failures.append(error)
        finally:
            loop.close()

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    gc.collect()  # what a failed run has left must not be finalised in the middle of a later test
    if failures:
        raise failures[0]
    return recording


def names(resources: Iterable[Registered]) -> list[str]:
    return sorted(resource.name for resource in resources)
