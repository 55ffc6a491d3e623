"""The table: every resource and function the stand-in has, one module a family."""

from __future__ import annotations

from sandbox.plugins.resource import Function, Resource
from sandbox.plugins.resources import (
    account,
    clusters,
    compute,
    databases,
    domains,
    edge,
    monitoring,
    networking,
    objects,
    postgresql_config,
    projects,
    registry,
    spaces,
    volumes,
)


def resources() -> tuple[Resource, ...]:
    """List every resource."""
    return (
        *account.RESOURCES,
        *clusters.RESOURCES,
        *compute.RESOURCES,
        *databases.RESOURCES,
        *domains.RESOURCES,
        *edge.RESOURCES,
        *monitoring.RESOURCES,
        *networking.RESOURCES,
        *objects.RESOURCES,
        *postgresql_config.RESOURCES,
        *projects.RESOURCES,
        *registry.RESOURCES,
        *spaces.RESOURCES,
        *volumes.RESOURCES,
    )


def functions() -> tuple[Function, ...]:
    """List every function."""
    return (*account.FUNCTIONS, *clusters.FUNCTIONS)
