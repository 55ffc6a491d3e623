"""A stack file as the engine reads it: YAML 1.2 scalars, no key twice, encrypted values left opaque.

`yaml.safe_load` reads YAML 1.1, where `no` is a boolean and `3:00` a number, and keeps the last of two equal keys;
the engine does neither, so a file could pass here and fail there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

NAMESPACE = "ancla"
"""The name in `Pulumi.yaml`: what the keys of a stack file begin with."""

OPAQUE = "[encrypted]"
"""Stands for a value that only the engine, with its passphrase, can read."""

_OTHER_NAMESPACES = ("digitalocean", "command", "pulumi")
_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
_NULL = re.compile(r"~|null|Null|NULL|")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


class StackFileError(ValueError):
    """The file cannot be read as a stack file; the message says where and why, and shows no value."""


class _Loader(yaml.SafeLoader):
    """YAML with the scalars of the 1.2 core schema, and no key twice."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own class attribute

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is there twice", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(rf"^(?:{_BOOLEAN.pattern})$"), list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(rf"^(?:{_INTEGER.pattern})$"), list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(rf"^(?:{_FLOAT.pattern})$"), list("-+.0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(rf"^(?:{_NULL.pattern})$"), ["~", "n", "N", ""])


def read_stack_file(path: Path) -> dict[str, Any]:
    """Return the values under `ancla:` of a stack file, by key, with each encrypted one as `OPAQUE`.

    Raises:
        StackFileError: no such file, not YAML, no `config:` mapping, an unknown namespace, or a value encrypted
            outside `ancla:secrets`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise StackFileError(f"{path}: {reason}") from None
    try:
        document: Any = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader with fewer scalars
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise StackFileError(f"{path}{where}: is not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError:
        raise StackFileError(f"{path}: is not YAML: it has characters that YAML does not allow") from None
    config: Any = document.get("config") if isinstance(document, dict) else None
    if not isinstance(config, dict):
        raise StackFileError(f"{path}: has no `config:` mapping; a stack file begins with `config:`")
    return _ours(path, {str(key): value for key, value in config.items()})


def _ours(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in config.items():
        namespace, _, name = key.rpartition(":")
        if namespace in _OTHER_NAMESPACES:
            continue
        if namespace not in ("", NAMESPACE):
            known = ", ".join((NAMESPACE, *_OTHER_NAMESPACES))
            raise StackFileError(f"{path}: {key}: unknown namespace {namespace!r}; allowed: {known}")
        refuse_encrypted(name, encrypted=name != "secrets" and _has_encrypted(value))
        if name == "secrets" and _is_encrypted(value):
            raise StackFileError(
                f"{NAMESPACE}:secrets: is encrypted as a whole, which nothing can check; encrypt each value: "
                f"`pulumi config set --secret --path '{NAMESPACE}:secrets.deployKey'`"
            )
        values[name] = _opaque(value)
    return values


def refuse_encrypted(key: str, *, encrypted: bool) -> None:
    """Refuse an encrypted value outside `ancla:secrets`: everything else ends in outputs and files in clear.

    Raises:
        StackFileError: `encrypted` is true.
    """
    if encrypted:
        raise StackFileError(
            f"{NAMESPACE}:{key}: has an encrypted value; encrypted values go under {NAMESPACE}:secrets "
            "(an app's under secrets.app, named in services[].secrets)"
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
        return {str(key): _opaque(item) for key, item in value.items()}
    return [_opaque(item) for item in value] if isinstance(value, list) else value
