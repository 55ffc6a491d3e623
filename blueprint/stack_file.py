"""Read a stack file by the rules it is checked by: what two YAML readers would take for two values is refused.

The engine's reader (Go, yaml.v3), an editor's and Python's each have rules of their own for a value without quotes:
`0120` is 80 for one and 120 for another, `no` a boolean or a text, `2026-01-02` a date. Only what all of them read
alike is taken: text, `true` and `false`, `null`, and numbers in the one form that they are printed in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

NAMESPACE = "ancla"
"""The name in `Pulumi.yaml`: what the keys of a stack file begin with."""

OPAQUE = "[encrypted]"
"""Stands for a value that only the engine, with its passphrase, can read."""

_OTHER_NAMESPACES = ("digitalocean", "command", "pulumi")
_STACK_FILE = re.compile(r"Pulumi\.(.+)\.yaml")
_DEEPEST = 32  # levels; the settings have seven, and a reader that follows for ever ends in a traceback
_LARGEST = 2**53  # above it JSON's numbers are rounded on the way to the program

_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NULLS = ("", "~", "null", "Null", "NULL")
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_FRACTION = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]*[1-9]")
# Everything below is read as something else than the text that is written, by the engine or by a YAML 1.1 reader.
_NUMBER_LIKE = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"  # also 012, 1e3, 1_000
    r"|[-+]?0([xX][0-9a-fA-F]+|[oO][0-7]+|[bB][01]+)"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_SEXAGESIMAL = re.compile(r"[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?")
_DATE = re.compile(
    r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
    r"(([Tt]|[ \t]+)[0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}([.,][0-9]*)?([ \t]*(Z|[-+][0-9]{1,2}(:?[0-9]{2})?))?)?"
)
_WORD = re.compile(r"(yes|no|on|off)", re.IGNORECASE)
_SPECIAL = ("=", "<<")
# YAML 1.1 ends a line at the first three, YAML 1.2 does not; readers drop a byte order mark, or keep it.
_ODD_CHARACTERS = re.compile("[\u0085\u2028\u2029]|(?<!^)\ufeff")
_INDENTED = re.compile(r"[\n\r]|[ \t].*\n", re.DOTALL)
_NEVER = re.compile("[\x00\ud800-\udfff]")


class StackFileError(ValueError):
    """The file cannot be read as a stack file. `problems` has a line each, which says where and why.

    No line shows a value of `secrets`.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def read_stack_file(path: Path) -> dict[str, Any]:
    """Return the values under `ancla:` of a stack file, by key, with each encrypted one as `OPAQUE`.

    Raises:
        StackFileError: no such file, not YAML, no `config:` mapping, an unknown namespace, a value that another reader
            would take for another one, or a value encrypted outside `ancla:secrets`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise StackFileError(f"{path}: {reason}") from None
    if odd := _ODD_CHARACTERS.search(text):
        line = text.count("\n", 0, odd.start()) + 1
        raise StackFileError(
            f"{path}, line {line}: has the character U+{ord(odd[0]):04X}, at which some YAML readers end a line; "
            f'remove it, or write "\\u{ord(odd[0]):04X}" in double quotes'
        )
    reader = _Reader(path, text)
    try:
        config = reader.config()
    except StackFileError:
        raise
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise StackFileError(f"{path}{where}: is not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError:
        raise StackFileError(f"{path}: is not YAML: it has characters that YAML does not allow") from None
    except (ValueError, OverflowError):  # an escape such as "\UFFFFFFFF", of which PyYAML makes a character
        raise StackFileError(f"{path}: is not YAML: it has an escape that is no character") from None
    if reader.problems:
        raise StackFileError(*reader.problems)
    if config is None:
        raise StackFileError(f"{path}: has no `config:` mapping; a stack file begins with `config:`")
    return _ours(config)


def stack_of(path: Path) -> str | None:
    """Return the stack whose file this is by its name, `Pulumi.<stack>.yaml`; None of any other name."""
    match = _STACK_FILE.fullmatch(path.name)
    return match[1] if match else None


def _ours(config: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in config.items():
        refuse_encrypted(name, encrypted=name != "secrets" and _has_encrypted(value))
        if name == "secrets" and _is_encrypted(value):
            raise StackFileError(
                f"{NAMESPACE}:secrets: is encrypted as a whole, which nothing can check; encrypt each value: "
                f"`pulumi config set --secret --path '{NAMESPACE}:secrets.deployKey'`"
            )
        values[name] = _opaque(value)
    return values


def refuse_encrypted(key: str, *, encrypted: bool) -> None:
    """Refuse an encrypted value outside `ancla:secrets`: everything else ends unencrypted in outputs and files.

    Raises:
        StackFileError: `encrypted` is true.
    """
    if encrypted:
        raise StackFileError(
            f"{NAMESPACE}:{key}: has an encrypted value; encrypted values go under {NAMESPACE}:secrets "
            "(an app's under secrets.app, named in a service's `secrets`)"
        )


def _is_encrypted(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"secure"} and isinstance(value["secure"], str)


def _has_encrypted(value: Any) -> bool:
    if isinstance(value, dict):
        return _is_encrypted(value) or any(_has_encrypted(item) for item in value.values())
    return isinstance(value, list) and any(_has_encrypted(item) for item in value)


def _opaque(value: Any) -> Any:
    if _is_encrypted(value):
        return OPAQUE
    if isinstance(value, dict):
        return {key: _opaque(item) for key, item in value.items()}
    return [_opaque(item) for item in value] if isinstance(value, list) else value


class _Reader:
    """Makes values of YAML's events, and notes each place where another reader would make another value."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._events: Iterator[yaml.Event] = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        self.problems: list[str] = []

    def config(self) -> dict[str, Any] | None:
        """Return what is under `config:` in our namespace, by key without it; None if there is no such mapping."""
        event = self._next()
        while isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent):
            event = self._next()
        if not isinstance(event, yaml.MappingStartEvent):
            return None
        found: dict[str, Any] | None = None
        for key, value in self._pairs("", strict=False):
            if key == "config" and isinstance(value, yaml.MappingStartEvent):
                found = self._namespaces(value)
            else:
                self._skip(value)
        self._next()  # the document's end
        if isinstance(self._next(), yaml.DocumentStartEvent):
            self.problems.append(f"{self._path}: has two YAML documents (`---`); the engine reads the first alone")
        return found

    def _namespaces(self, start: yaml.MappingStartEvent) -> dict[str, Any]:
        self._plain_node(start, "config")
        values: dict[str, Any] = {}
        for key, value in self._pairs("", strict=True):
            namespace, _, name = key.rpartition(":")
            if namespace in _OTHER_NAMESPACES:
                self._skip(value)
                continue
            if namespace not in ("", NAMESPACE):
                known = ", ".join((NAMESPACE, *_OTHER_NAMESPACES))
                self.problems.append(f"{self._path}: {key}: unknown namespace {namespace!r}; allowed: {known}")
                self._skip(value)
                continue
            if name in values:
                self.problems.append(
                    f"{self._path}{_line(value)}: {NAMESPACE}:{name}: is there twice, as `{name}` and as "
                    f"`{NAMESPACE}:{name}`; remove one"
                )
            values[name] = self._value(value, f"{NAMESPACE}:{name}", 1)
            if values[name] is None and isinstance(value, yaml.ScalarEvent):
                self.problems.append(
                    f'{NAMESPACE}:{name}: has no value, which the engine hands on as ""; remove the key, or give it one'
                )
        return values

    def _value(self, event: yaml.Event, path: str, depth: int) -> Any:
        if depth > _DEEPEST:
            raise StackFileError(f"{path}: is nested too deep{_line(event)}")
        if not self._plain_node(event, path):
            return None
        if isinstance(event, yaml.MappingStartEvent):
            return {key: self._value(value, f"{path}.{key}", depth + 1) for key, value in self._pairs(path)}
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Any] = []
            while not isinstance(item := self._next(), yaml.SequenceEndEvent):
                items.append(self._value(item, f"{path}[{len(items)}]", depth + 1))
            return items
        assert isinstance(event, yaml.ScalarEvent)  # noqa: S101 - YAML has no fourth kind of node
        return self._scalar(event, path)

    def _scalar(self, event: yaml.ScalarEvent, path: str) -> Any:
        text = event.value
        if _NEVER.search(text):
            self.problems.append(
                f"{path}{_line(event)}: has a character that no text can hold (NUL, or half of a pair)"
            )
        if _INDENTED.match(text):
            self.problems.append(
                f"{path}{_line(event)}: has several lines and begins with a line break or a space, which the engine "
                "loses; begin it with its first word"
            )
        if not event.implicit[0]:
            return text
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if text in _NULLS:
            return None
        if _INTEGER.fullmatch(text) and len(text) < 20 and abs(int(text)) <= _LARGEST:
            return int(text)
        if _FRACTION.fullmatch(text) and repr(float(text)) == text:
            return float(text)
        if (what := _ambiguous(text)) is not None:
            self.problems.append(self._ambiguity(text, what, path, event))
        return text

    def _ambiguity(self, text: str, what: str, path: str, event: yaml.ScalarEvent) -> str:
        if path.startswith(f"{NAMESPACE}:secrets"):
            return f"{path}{_line(event)}: found {what} without quotes; put it in quotes"
        return f"{path}{_line(event)}: found {text}, {what}; put it in quotes if it is text: {json.dumps(text)}"

    def _plain_node(self, event: yaml.Event, path: str) -> bool:
        """Return True if the node stands for itself: no alias, no anchor, no tag."""
        if isinstance(event, yaml.AliasEvent):
            self.problems.append(f"{path}{_line(event)}: is an alias (*{event.anchor}); write the value itself")
            return False
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            self.problems.append(f"{path}{_line(event)}: has an anchor (&{event.anchor}); write the value itself")
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag is not None:
            self.problems.append(f"{path}{_line(event)}: has a tag ({event.tag}); remove it, and put text in quotes")
        return True

    def _pairs(self, path: str, *, strict: bool = True) -> Iterator[tuple[str, yaml.Event]]:
        """Yield each key with the event that its value begins with; the value must be read before the next pair."""
        seen: set[str] = set()
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._key(event, path) if strict or isinstance(event, yaml.ScalarEvent) else ""
            if not isinstance(event, yaml.ScalarEvent):
                self._skip(event)
            if key in seen:
                raise StackFileError(
                    f"{self._path}{_line(event)}: is not YAML: the key {key!r} is there twice; remove one"
                )
            seen.add(key)
            yield key, self._next()

    def _key(self, event: yaml.Event, path: str) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            self.problems.append(f"{path or self._path}{_line(event)}: has a key that is no text; write a word")
            return f"?{len(self.problems)}"
        self._plain_node(event, f"{path}.{event.value}" if path else event.value)
        plain = event.implicit[0]
        if plain and event.value == "<<":
            self.problems.append(f"{path or self._path}{_line(event)}: merges (<<); write the keys themselves")
        elif plain and (event.value in _BOOLEANS or event.value in _NULLS or _ambiguous(event.value)):
            self.problems.append(
                f"{path or self._path}{_line(event)}: the key {event.value or 'nothing'} is not read as text; "
                f"put it in quotes: {json.dumps(event.value)}"
            )
        return event.value

    def _skip(self, event: yaml.Event) -> None:
        """Read to the end of a node that is not ours to judge."""
        depth = 0
        while True:
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth == 0:
                return
            event = self._next()

    def _next(self) -> yaml.Event:
        return next(self._events)


def _ambiguous(text: str) -> str | None:
    """Return what some YAML reader takes a plain scalar for, where that is not the text as it stands."""
    if _DATE.fullmatch(text):
        return "which is read as a date"
    plain = text.replace("_", "")
    if _NUMBER_LIKE.fullmatch(plain) or _SEXAGESIMAL.fullmatch(plain):
        return "which is read as another number than the one written (write numbers in plain decimal)"
    if _WORD.fullmatch(text):
        return "which some readers take for true or false (write true or false)"
    return "which has a meaning of its own in YAML" if text in _SPECIAL else None


def _line(event: yaml.Event) -> str:
    return f", line {event.start_mark.line + 1}" if event.start_mark else ""
