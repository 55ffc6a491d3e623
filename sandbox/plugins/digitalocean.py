"""`pulumi-resource-digitalocean`: the table of resources, served. All behaviour is in the API."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cache
from itertools import zip_longest
from typing import Any, Final

from pulumi.runtime.proto import provider_pb2_grpc

from sandbox.plugins import serving
from sandbox.plugins.errors import IncompleteError, ProviderError
from sandbox.plugins.fields import Field, coerce, differs, integer, number, ordered, string, unmatched
from sandbox.plugins.provider import DEFAULTS, Asked, Checked, Difference, Found, Provider, Servicer
from sandbox.plugins.resource import Change, Cloud, Function, Resource
from sandbox.plugins.resources import functions, resources
from sandbox.plugins.rest import Rest
from sandbox.plugins.values import UNKNOWN, Secret, Values, contains_unknown, reveal

VERSION: Final = "4.84.1"
_INTERNAL: Final = (DEFAULTS, "__meta", "id")

# The provider's own settings: (name, environment variables, default), as the official one reads them.
_SETTINGS: Final = (
    ("token", ("DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN"), ""),
    ("apiEndpoint", ("DIGITALOCEAN_API_URL",), "https://api.digitalocean.com"),
    ("spacesEndpoint", ("SPACES_ENDPOINT_URL",), "https://{{.Region}}.digitaloceanspaces.com"),
    ("spacesAccessId", ("SPACES_ACCESS_KEY_ID",), ""),
    ("spacesSecretKey", ("SPACES_SECRET_ACCESS_KEY",), ""),
    ("httpRetryMax", ("DIGITALOCEAN_HTTP_RETRY_MAX",), "4"),
    ("httpRetryWaitMin", ("DIGITALOCEAN_HTTP_RETRY_WAIT_MIN",), "1.0"),
    ("httpRetryWaitMax", ("DIGITALOCEAN_HTTP_RETRY_WAIT_MAX",), "30.0"),
)
_SETTING_FIELDS: Final[dict[str, Field]] = {
    **{name: string() for name, _, _ in _SETTINGS},
    "httpRetryMax": integer(),
    "httpRetryWaitMin": number(),
    "httpRetryWaitMax": number(),
}


class DigitalOcean(Provider):
    """The provider, over the table."""

    version = VERSION

    def __init__(self) -> None:
        super().__init__()
        self._resources = {row.token: row for row in resources()}
        self._functions = {row.token: row for row in functions()}
        self._cloud: Cloud | None = None

    def check_config(self, config: Values) -> list[tuple[str, str]]:
        """Judge types alone: a wrong token shows at the first call, as with the official provider."""
        wrong: list[tuple[str, str]] = []
        for name, value in config.items():
            try:
                if name in _SETTING_FIELDS:
                    coerce(reveal(value), _SETTING_FIELDS[name])
            except ValueError as error:
                wrong.append((name, str(error)))
        return wrong

    def configure(self, config: Values, variables: dict[str, str]) -> None:
        """Take the settings: arguments, then the environment, then the defaults."""
        given = {key.rpartition(":")[2]: value for key, value in variables.items()} | reveal(config)

        def setting(name: str) -> str:
            _, variables, default = next(row for row in _SETTINGS if row[0] == name)
            found = (os.environ[key] for key in variables if os.environ.get(key))
            return str(given.get(name) or next(found, default))

        rest = Rest(
            url=setting("apiEndpoint"),
            token=setting("token"),
            retries=int(setting("httpRetryMax")),
            wait_min=float(setting("httpRetryWaitMin")),
            wait_max=float(setting("httpRetryWaitMax")),
            cancelled=self.cancelled,
        )

        @cache
        def spaces(region: str) -> Any:
            # boto3 takes most of a second to import; many stacks have no bucket.
            from sandbox.plugins.spaces import Spaces  # noqa: PLC0415

            return Spaces(
                endpoint=setting("spacesEndpoint"),
                region=region,
                access_key=setting("spacesAccessId"),
                secret_key=setting("spacesSecretKey"),
            )

        locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._cloud = Cloud(rest, spaces, self.cancelled, locks=locks)

    def check(self, asked: Asked, name: Callable[[int], str]) -> Checked:
        """Complete inputs with defaults and a name, and judge them."""
        row, old = self._row(asked.token), asked.old
        wrong: list[tuple[str, str]] = []
        inputs, made_up = _checked(row.fields, asked.inputs, "", wrong)
        for key, part in row.fields.items():
            if not part.autoname or key in inputs:
                continue
            if key in old.get(DEFAULTS, ()) and old.get(key):
                inputs[key] = old[key]
            elif chosen := name(7):
                inputs[key] = chosen
            else:
                wrong.append((key, "a name is needed: automatic naming is off for this resource"))
            made_up.append(key)
        if row.check is not None and not wrong:
            wrong += row.check(inputs)
        inputs[DEFAULTS] = sorted(made_up)
        return Checked(inputs, wrong)

    def diff(self, asked: Asked) -> Difference:
        """Compare the state with the inputs, property by property."""
        row, state, ignored = self._row(asked.token), asked.state, asked.ignored
        plain = _plain(asked.inputs)
        more = row.replaced_by(state, plain) if row.replaced_by is not None else set[str]()
        changes: dict[str, tuple[str, bool]] = {}
        for key, part in row.fields.items():
            if part.output_only or key in ignored or not differs(state.get(key), plain.get(key), part, plain):
                continue
            replaces = part.replace or key in more
            for path, kind in _paths(key, state.get(key), plain.get(key), part, plain):
                if not any(path == skip or path.startswith((f"{skip}.", f"{skip}[")) for skip in ignored):
                    changes[path] = (kind, replaces)
        named = any(part.autoname and key not in asked.inputs.get(DEFAULTS, ()) for key, part in row.fields.items())
        # Two resources cannot have one name at once, so a name a person chose means that the old one goes first.
        return Difference(changes, delete_first=named and any(replaces for _, replaces in changes.values()))

    def preview_create(self, asked: Asked) -> Values:
        """Say what is known before."""
        row = self._row(asked.token)
        known = _stored(row, _plain(asked.inputs))
        unknown = {key: UNKNOWN for key, part in row.fields.items() if key not in known and part.filled_in}
        return _marked(row, known | unknown)

    def create(self, asked: Asked) -> tuple[str, Values]:
        """Create, then read what there is."""
        row, cloud = self._row(asked.token), self._at(asked.timeout)
        plain = _plain(asked.inputs)
        try:
            made = row.create(cloud, plain)
        except IncompleteError as error:
            raise IncompleteError(
                str(error), error.id, _state(row, error.id, _stored(row, plain) | error.known)
            ) from None
        known = _stored(row, plain) | made.known
        if row.created_is_read:
            return made.id, _state(row, made.id, known)
        try:
            now = row.read(cloud, made.id, known)
        except ProviderError as error:
            raise IncompleteError(str(error), made.id, _state(row, made.id, known)) from None
        if now is None:
            raise ProviderError(f"{asked.token} {made.id}: gone right after it was made")
        return made.id, _state(row, made.id, known | now | _settled(row, known))

    def read(self, asked: Asked) -> Found | None:
        """Read for a refresh, or for an import when nothing is known."""
        row, cloud = self._row(asked.token), self._at(None)
        id_, known = asked.id, _plain(asked.state)
        if not known:
            id_, known = row.find(cloud, id_)
        now = row.read(cloud, id_, known)
        if now is None:
            return None
        after = {key: value for key, value in (known | now).items() if value is not None}
        return Found(id_, _state(row, id_, after), _inputs_of(row, asked.inputs, after))

    def preview_update(self, asked: Asked) -> Values:
        """Say what an update would leave; what only the API fills in stays as it is."""
        row = self._row(asked.token)
        return _marked(row, _planned(row, _plain(asked.state), _plain(asked.inputs), stored=True))

    def update(self, asked: Asked) -> Values:
        """Make the calls for what differs, then read what there is."""
        row, cloud = self._row(asked.token), self._at(asked.timeout)
        before, plain = _plain(asked.state), _plain(asked.inputs)
        names = frozenset(
            key
            for key, part in row.fields.items()
            if not part.output_only and differs(before.get(key), plain.get(key), part, plain)
        )
        wanted = _planned(row, before, plain)
        if row.update is not None:
            row.update(cloud, Change(id=asked.id, old=before, new=wanted, names=names))
        known = _planned(row, before, plain, stored=True)
        now = row.read(cloud, asked.id, known)
        if now is None:
            raise ProviderError(f"{asked.token} {asked.id}: gone while it was updated; run `pulumi refresh`")
        return _state(row, asked.id, known | now | _settled(row, known))

    def delete(self, asked: Asked) -> None:
        """Delete."""
        self._row(asked.token).delete(self._at(asked.timeout), asked.id, _plain(asked.state))

    def invoke(self, token: str, arguments: Values) -> Values:
        """Call a function of the table."""
        row: Function | None = self._functions.get(token)
        if row is None:
            return super().invoke(token, arguments)
        wrong: list[tuple[str, str]] = []
        given, _ = _checked(row.fields, arguments, "", wrong)
        if wrong:
            raise ProviderError(f"{token}: " + "; ".join(f"{where}: {why}" for where, why in wrong))
        return row.call(self._at(None), given)

    def _row(self, token: str) -> Resource:
        row = self._resources.get(token)
        if row is None:
            raise ProviderError(f"{token}: the sandbox's plugin does not have this resource; use the official plugin")
        return row

    def _at(self, timeout: float | None) -> Cloud:
        if self._cloud is None:
            raise ProviderError("the provider was not configured")
        cloud = self._cloud
        return Cloud(cloud.rest, cloud.spaces, cloud.cancelled, timeout, cloud.locks)


def _plain(values: Values) -> Values:
    return {key: _without_marks(reveal(value)) for key, value in values.items() if key not in _INTERNAL}


def _without_marks(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_marks(item) for key, item in value.items() if key != DEFAULTS}
    return [_without_marks(item) for item in value] if isinstance(value, list) else value


def _checked(
    fields: Mapping[str, Field], given: Values, where: str, wrong: list[tuple[str, str]]
) -> tuple[Values, list[str]]:
    """Judge and complete one object's properties; returns them and the names of those that were not given."""
    done: Values = {}
    made_up: list[str] = []
    wrong += [
        (where + key, "is not a property that can be given here")
        for key, value in given.items()
        if key != DEFAULTS and (key not in fields or fields[key].output_only) and value is not None
    ]
    for key, part in fields.items():
        value = None if part.output_only else reveal(given.get(key))
        # A default that is empty is none among the inputs, only in the state.
        if value is None and part.default:
            value = part.default
            made_up.append(key)
        if value is None:
            if part.required:
                wrong.append((where + key, "is required"))
            continue
        done[key] = _checked_value(value, part, where + key, wrong)
    return done, made_up


def _checked_value(value: Any, part: Field, where: str, wrong: list[tuple[str, str]]) -> Any:
    try:
        value = coerce(value, part)
    except ValueError as error:
        wrong.append((where, str(error)))
        return value
    if value is UNKNOWN or value is None:
        return value
    if part.check is not None and not contains_unknown(value) and (why := part.check(value)) is not None:
        wrong.append((where, why))
    if part.kind == "object":
        inner, made_up = _checked(part.fields, value, f"{where}.", wrong)
        return {**inner, DEFAULTS: sorted(made_up)}
    if part.kind in ("list", "set"):
        return [_checked_value(item, part.item, f"{where}[{i}]", wrong) for i, item in enumerate(value)]
    return value


def _stored(row: Resource, inputs: Values) -> Values:
    """Say what the state keeps of the inputs."""
    kept: Values = {key: part.default for key, part in row.fields.items() if part.default is not None}
    for key, value in inputs.items():
        part = row.fields.get(key)
        if part is None:
            continue
        known = part.stored is not None and not contains_unknown(value) and value is not None
        kept[key] = part.stored(value) if known and part.stored is not None else value
    return kept


def _settled(row: Resource, planned: Values) -> Values:
    """Say which sets are taken for what was planned once it is done.

    So does the official provider with every set it knew before (its library's rule for applied plans); only the next
    refresh sees what the API has made of them.
    """
    return {
        key: planned[key]
        for key, part in row.fields.items()
        if part.kind == "set" and not part.partly_read and planned.get(key) is not None
    }


def _planned(row: Resource, state: Values, inputs: Values, *, stored: bool = False) -> Values:
    """Say what the whole state would be with these inputs: what is no more given goes, what the API fills in stays."""
    kept = {
        key: value
        for key, value in state.items()
        if (part := row.fields.get(key)) is not None and (part.filled_in or key in inputs)
    }
    return kept | (_stored(row, inputs) if stored else inputs)


def _state(row: Resource, id_: str, values: Values) -> Values:
    told = {
        key: ordered(value, part) if part.kind == "set" else value
        for key, part in row.fields.items()
        if (value := values.get(key)) is not None
    }
    return _marked(row, {"id": id_, **told})


def _marked(row: Resource, values: Values) -> Values:
    return {
        key: Secret(value) if (part := row.fields.get(key)) is not None and part.secret else value
        for key, value in values.items()
    }


def _inputs_of(row: Resource, inputs: Values, state: Values) -> Values:
    """Say what inputs would make this state: those there were, with what drifted; all that is told, for an import."""
    if inputs:
        plain = _plain(inputs)
        drifted = {
            key: state[key]
            for key, value in plain.items()
            if (part := row.fields.get(key)) is not None and key in state and differs(state[key], value, part, plain)
        }
        return inputs | drifted
    told = {
        key: state[key]
        for key, part in row.fields.items()
        if not part.output_only and state.get(key) not in (None, "", [], {}) and state[key] != part.default
    }
    return told | {DEFAULTS: []}


def _paths(path: str, old: Any, new: Any, part: Field, inputs: Values) -> list[tuple[str, str]]:
    """Say where in a property the difference is, as far down as it can be told."""
    if not old and new:
        return [(path, "+")]
    if old and (new is None or new in ("", [], {})):
        return [(path, "-")]
    if contains_unknown(new) and not isinstance(new, list | dict):
        return [(path, "~")]
    if part.kind == "set" and isinstance(old, list) and isinstance(new, list):
        went, came = unmatched(old, new, part, inputs)
        changed = [(f"{path}[{i}]", "~" if i in came else "-") for i in went]
        return changed + [(f"{path}[{i}]", "+") for i in came if i not in went]
    inner = [
        place
        for where, before, after, like in _inside(path, old, new, part)
        if differs(before, after, like, inputs)
        for place in _paths(where, before, after, like, inputs)
    ]
    return inner or [(path, "~")]


def _inside(path: str, old: Any, new: Any, part: Field) -> list[tuple[str, Any, Any, Field]]:
    """Say what is one level down, before and after, with its path."""
    if part.kind == "object" and isinstance(old, dict) and isinstance(new, dict):
        given = {key: inner for key, inner in part.fields.items() if not inner.output_only}
        return [(f"{path}.{key}", old.get(key), new.get(key), inner) for key, inner in given.items()]
    if part.kind == "list" and isinstance(old, list) and isinstance(new, list):
        pairs = zip_longest(old, new)
        return [(f"{path}[{i}]", before, after, part.item) for i, (before, after) in enumerate(pairs)]
    return []


def main() -> None:
    """Serve until the engine is done."""
    provider = DigitalOcean()
    serving.serve(
        lambda server: provider_pb2_grpc.add_ResourceProviderServicer_to_server(Servicer(provider), server),
        provider.cancel,
    )


if __name__ == "__main__":
    main()
