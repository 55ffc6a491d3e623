"""The table: every resource and function the stand-in has, one module a family."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from sandbox.plugins.resource import Function, Resource

_FAMILIES = [import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]


def resources() -> tuple[Resource, ...]:
    """List every resource."""
    return tuple(row for family in _FAMILIES for row in getattr(family, "RESOURCES", ()))


def functions() -> tuple[Function, ...]:
    """List every function."""
    return tuple(row for family in _FAMILIES for row in getattr(family, "FUNCTIONS", ()))
