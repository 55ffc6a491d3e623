"""A resource provider over gRPC: the part that is the same for every provider."""

# ruff: noqa: ARG002, N802 - gRPC calls its methods by these names and with these arguments

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, NoReturn

import grpc
from google.protobuf import empty_pb2
from google.rpc import status_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from sandbox.plugins.errors import IncompleteError, ProviderError
from sandbox.plugins.values import Values, decode, encode

DEFAULTS: Final = "__defaults"


@dataclass(frozen=True)
class Checked:
    """Inputs with their defaults, and (property, reason) of what is wrong with them."""

    inputs: Values
    failures: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


@dataclass(frozen=True)
class Difference:
    """What an update would do: property paths, each added `+`, removed `-` or changed `~`, and whether it replaces."""

    changes: dict[str, tuple[str, bool]] = field(default_factory=dict[str, tuple[str, bool]])
    delete_first: bool = False


@dataclass(frozen=True)
class Found:
    """What a read found: the id, the state and the inputs that would make it."""

    id: str
    state: Values
    inputs: Values


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the engine asks about one resource. `old` are the inputs before; `timeout` in seconds, None is the usual."""

    urn: str
    id: str = ""
    state: Values = field(default_factory=dict[str, Any])
    old: Values = field(default_factory=dict[str, Any])
    inputs: Values = field(default_factory=dict[str, Any])
    ignored: tuple[str, ...] = ()
    timeout: float | None = None

    @property
    def token(self) -> str:
        """The type, out of urn:pulumi:<stack>::<project>::<parent types>$<type>::<name>."""
        return self.urn.split("::")[2].split("$")[-1]


class Provider:
    """What a provider does, in plain values. What fails raises `ProviderError` with a message for the person."""

    version: str
    accepts_secrets: bool = False

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def check_config(self, config: Values) -> list[tuple[str, str]]:
        """Name (property, reason) of what is wrong with the provider's own settings."""
        del config
        return []

    def configure(self, config: Values, variables: dict[str, str]) -> None:
        """Take the provider's own settings."""

    def check(self, asked: Asked, name: Callable[[int], str]) -> Checked:
        """Complete and judge inputs; `name(hexadecimal digits)` makes up the resource's physical name."""
        raise NotImplementedError

    def diff(self, asked: Asked) -> Difference:
        """Compare the state with what is asked for."""
        raise NotImplementedError

    def preview_create(self, asked: Asked) -> Values:
        """Say what a creation would leave, with UNKNOWN for what only it tells."""
        raise NotImplementedError

    def create(self, asked: Asked) -> tuple[str, Values]:
        """Create; returns the id and the state."""
        raise NotImplementedError

    def read(self, asked: Asked) -> Found | None:
        """Read what there is now; without a state it is an import."""
        raise NotImplementedError

    def preview_update(self, asked: Asked) -> Values:
        """Say what an update would leave."""
        raise NotImplementedError

    def update(self, asked: Asked) -> Values:
        """Update; returns the new state."""
        raise NotImplementedError

    def delete(self, asked: Asked) -> None:
        """Delete; what is gone already is no error where the official provider says so."""
        raise NotImplementedError

    def invoke(self, token: str, arguments: Values) -> Values:
        """Call a function."""
        del arguments
        raise ProviderError(f"{token}: the sandbox's plugin does not have this function; use the official plugin")

    def cancel(self) -> None:
        """End what runs: the engine gives up."""
        self.cancelled.set()


class Servicer(provider_pb2_grpc.ResourceProviderServicer):
    """Puts a `Provider` on the wire."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def Handshake(self, request: Any, context: Any) -> Any:
        """Agree on what both sides can do."""
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=self._provider.accepts_secrets)

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        """Say the version."""
        return plugin_pb2.PluginInfo(version=self._provider.version)

    def GetSchema(self, request: Any, context: Any) -> Any:
        """Say that there is no schema here: the SDKs carry theirs."""
        return provider_pb2.GetSchemaResponse(schema="{}")

    def Attach(self, request: Any, context: Any) -> Any:
        """Nothing to attach to."""
        return empty_pb2.Empty()

    def CheckConfig(self, request: Any, context: Any) -> Any:
        """Judge the provider's own settings."""
        failures = self._provider.check_config(decode(request.news))
        return provider_pb2.CheckResponse(inputs=request.news, failures=_failures(failures))

    def DiffConfig(self, request: Any, context: Any) -> Any:
        """Settings of a provider never need new resources."""
        return provider_pb2.DiffResponse()

    def Configure(self, request: Any, context: Any) -> Any:
        """Take the provider's own settings."""
        with _told(context):
            self._provider.configure(decode(request.args), dict(request.variables))
        return provider_pb2.ConfigureResponse(
            acceptSecrets=self._provider.accepts_secrets, supportsPreview=True, supports_autonaming_configuration=True
        )

    def Check(self, request: Any, context: Any) -> Any:
        """Complete and judge the inputs of a resource."""

        def name(digits: int) -> str:
            rule = request.autonaming
            if request.HasField("autonaming") and rule.mode == provider_pb2.CheckRequest.AutonamingOptions.DISABLE:
                return ""
            if request.HasField("autonaming") and rule.proposed_name:
                return rule.proposed_name
            # The engine's seed makes the name of a preview that of the run after it; a name is no secret.
            seed = Random(request.randomSeed or None)  # noqa: S311
            return f"{request.urn.split('::')[-1]}-" + "".join(seed.choices("0123456789abcdef", k=digits))

        asked = Asked(urn=request.urn, old=decode(request.olds), inputs=decode(request.news))
        with _told(context):
            done = self._provider.check(asked, name)
        return provider_pb2.CheckResponse(inputs=encode(done.inputs), failures=_failures(done.failures))

    def Diff(self, request: Any, context: Any) -> Any:
        """Compare."""
        asked = Asked(
            urn=request.urn,
            id=request.id,
            state=decode(request.olds),
            old=decode(request.old_inputs),
            inputs=decode(request.news),
            ignored=tuple(request.ignoreChanges),
        )
        with _told(context):
            found = self._provider.diff(asked)
        kinds = {
            ("+", False): provider_pb2.PropertyDiff.ADD,
            ("+", True): provider_pb2.PropertyDiff.ADD_REPLACE,
            ("-", False): provider_pb2.PropertyDiff.DELETE,
            ("-", True): provider_pb2.PropertyDiff.DELETE_REPLACE,
            ("~", False): provider_pb2.PropertyDiff.UPDATE,
            ("~", True): provider_pb2.PropertyDiff.UPDATE_REPLACE,
        }
        response = provider_pb2.DiffResponse
        return response(
            changes=response.DIFF_SOME if found.changes else response.DIFF_NONE,
            diffs=sorted({_root(path) for path in found.changes}),
            replaces=sorted({_root(path) for path, (_, replaces) in found.changes.items() if replaces}),
            detailedDiff={
                path: provider_pb2.PropertyDiff(kind=kinds[change]) for path, change in found.changes.items()
            },
            hasDetailedDiff=True,
            deleteBeforeReplace=found.delete_first,
        )

    def Create(self, request: Any, context: Any) -> Any:
        """Create, or say what a creation would leave."""
        asked = Asked(urn=request.urn, inputs=decode(request.properties), timeout=request.timeout or None)
        with _told(context):
            if request.preview:
                return provider_pb2.CreateResponse(properties=encode(self._provider.preview_create(asked)))
            id_, state = self._provider.create(asked)
        return provider_pb2.CreateResponse(id=id_, properties=encode(state))

    def Read(self, request: Any, context: Any) -> Any:
        """Read; an empty answer says that it is gone."""
        state, inputs = decode(request.properties), decode(request.inputs)
        with _told(context):
            found = self._provider.read(Asked(urn=request.urn, id=request.id, state=state, inputs=inputs))
        if found is None:
            return provider_pb2.ReadResponse()
        return provider_pb2.ReadResponse(id=found.id, properties=encode(found.state), inputs=encode(found.inputs))

    def Update(self, request: Any, context: Any) -> Any:
        """Update, or say what an update would leave."""
        asked = Asked(
            urn=request.urn,
            id=request.id,
            state=decode(request.olds),
            old=decode(request.old_inputs),
            inputs=decode(request.news),
            timeout=request.timeout or None,
        )
        with _told(context):
            after = self._provider.preview_update(asked) if request.preview else self._provider.update(asked)
        return provider_pb2.UpdateResponse(properties=encode(after))

    def Delete(self, request: Any, context: Any) -> Any:
        """Delete."""
        state, timeout = decode(request.properties), request.timeout or None
        with _told(context):
            self._provider.delete(Asked(urn=request.urn, id=request.id, state=state, timeout=timeout))
        return empty_pb2.Empty()

    def Invoke(self, request: Any, context: Any) -> Any:
        """Call a function."""
        with _told(context):
            answer = self._provider.invoke(request.tok, decode(request.args))
        # `return` is a word of Python, so it cannot be a keyword argument, and the stub cannot name it.
        return provider_pb2.InvokeResponse(**{"return": encode(answer)})  # type: ignore[arg-type]

    def Cancel(self, request: Any, context: Any) -> Any:
        """End what runs."""
        self._provider.cancel()
        return empty_pb2.Empty()


def _failures(failures: list[tuple[str, str]]) -> list[Any]:
    return [provider_pb2.CheckFailure(property=where, reason=why) for where, why in failures]


def _root(path: str) -> str:
    return path.split(".", maxsplit=1)[0].split("[", maxsplit=1)[0]


@contextlib.contextmanager
def _told(context: grpc.ServicerContext) -> Generator[None]:
    """Turn errors into one line for the person; what was made before an error is told to the engine as well."""
    try:
        yield
    except IncompleteError as error:
        detail = provider_pb2.ErrorResourceInitFailed(
            id=error.id, properties=encode(error.known), reasons=[str(error)], inputs=encode({})
        )
        _abort_with(context, str(error), detail)
    except ProviderError as error:
        context.abort(grpc.StatusCode.UNKNOWN, str(error))


def _abort_with(context: grpc.ServicerContext, message: str, detail: Any) -> NoReturn:
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=message)
    status.details.add().Pack(detail)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(grpc.StatusCode.UNKNOWN, message)
