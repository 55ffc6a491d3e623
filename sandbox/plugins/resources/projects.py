"""Projects, and what is in them."""

from __future__ import annotations

from sandbox.plugins.errors import ProviderError
from sandbox.plugins.fields import filled, one_of, ordered
from sandbox.plugins.resource import Change, Cloud, Made, Resource
from sandbox.plugins.resources.common import camelled, retried
from sandbox.plugins.rest import RestError
from sandbox.plugins.schema import how
from sandbox.plugins.values import Values


def _assign(cloud: Cloud, project: str, urns: list[str]) -> None:
    cloud.rest.post(f"/v2/projects/{project}/resources", {"resources": [urn for urn in ordered(urns) if urn]})


def _assign_to_default(cloud: Cloud, urns: list[str]) -> None:
    """Nothing can be in no project: what leaves one goes to the account's default one."""
    _assign(cloud, cloud.rest.get("/v2/projects/default")["project"]["id"], urns)


def _create(cloud: Cloud, new: Values) -> Made:
    body = {
        "name": new["name"],
        "description": new.get("description") or "",
        "purpose": new["purpose"],
        "environment": new.get("environment") or "",
    }
    project = cloud.rest.post("/v2/projects", body)["project"]
    id_ = project["id"]
    if new.get("resources"):
        try:
            _assign(cloud, id_, new["resources"])
        except RestError:
            cloud.rest.delete(f"/v2/projects/{id_}")
            raise
    if new.get("isDefault"):
        keys = ("name", "description", "purpose", "environment")
        cloud.rest.patch(f"/v2/projects/{id_}", {key: project[key] for key in keys} | {"is_default": True})
    return Made(id_)


def _read(cloud: Cloud, id_: str, _: Values) -> Values | None:
    project = cloud.rest.find(f"/v2/projects/{id_}", "project")
    if project is None:
        return None
    return {
        **camelled(project),
        "purpose": project["purpose"].removeprefix("Other: "),
        "resources": _urns_in(cloud, id_),
    }


def _urns_in(cloud: Cloud, project: str) -> list[str]:
    return [entry["urn"] for entry in cloud.rest.pages(f"/v2/projects/{project}/resources", "resources")]


def _update(cloud: Cloud, change: Change) -> None:
    new = change.new
    body = {
        "name": new["name"],
        "description": new.get("description") or "",
        "purpose": new["purpose"],
        "environment": new.get("environment") or "",
        "is_default": bool(new.get("isDefault")),
    }
    cloud.rest.patch(f"/v2/projects/{change.id}", body)
    if change.of("resources"):
        _move(cloud, change.id, change)


def _move(cloud: Cloud, project: str, change: Change) -> None:
    old, new = (side.get("resources") or [] for side in (change.old, change.new))
    gone, came = [urn for urn in old if urn not in new], [urn for urn in new if urn not in old]
    if gone:
        _assign_to_default(cloud, gone)
    if came:
        _assign(cloud, project, came)


def _delete(cloud: Cloud, id_: str, known: Values) -> None:
    if known.get("resources"):
        _assign_to_default(cloud, known["resources"])
    retried(
        cloud,
        180,
        f"project {id_}: empty",
        lambda: cloud.rest.delete(f"/v2/projects/{id_}"),
        again=lambda error: error.status == 412 and "cannot delete a project with resources" in error.said.lower(),
    )


def _length(value: str) -> str | None:
    return None if len(value) <= 255 else "must have at most 255 characters"


_ENVIRONMENT = one_of("development", "staging", "production")

PROJECT = Resource(
    name="Project",
    properties={
        "name": how(
            autoname=True, check=lambda value: None if 1 <= len(value) <= 175 else "must have 1 to 175 characters"
        ),
        "description": how(default="", check=_length),
        "purpose": how(default="Web Application", check=_length),
        "environment": how(
            check=lambda value: _ENVIRONMENT(value.lower()), same=lambda old, new, _: old.lower() == new.lower()
        ),
        "isDefault": how(default=False),
        "resources": how(unordered=True, computed=True),
    },
    create=_create,
    read=_read,
    update=_update,
    delete=_delete,
)


def _create_members(cloud: Cloud, new: Values) -> Made:
    project = new["project"]
    if cloud.rest.find(f"/v2/projects/{project}") is None:
        raise ProviderError(f"project {project}: not found, so nothing can be put in it")
    if new["resources"]:
        _assign(cloud, project, new["resources"])
    return Made(project)


def _read_members(cloud: Cloud, id_: str, known: Values) -> Values | None:
    """Say which of those that were put there are there still; what others put there is not told."""
    if cloud.rest.find(f"/v2/projects/{id_}") is None:
        return None
    there = set(_urns_in(cloud, id_))
    return {"project": id_, "resources": [urn for urn in known.get("resources") or [] if urn in there]}


def _delete_members(cloud: Cloud, _: str, known: Values) -> None:
    if cloud.rest.find(f"/v2/projects/{known['project']}") is not None and known.get("resources"):
        _assign_to_default(cloud, known["resources"])


def _no_import(_: Cloud, id_: str) -> tuple[str, Values]:
    raise ProviderError(f"project resources {id_}: cannot be imported")


PROJECT_RESOURCES = Resource(
    name="ProjectResources",
    properties={"project": how(replace=True, check=filled), "resources": how(unordered=True)},
    create=_create_members,
    read=_read_members,
    update=lambda cloud, change: _move(cloud, change.new["project"], change),
    delete=_delete_members,
    find=_no_import,
)

RESOURCES = (PROJECT, PROJECT_RESOURCES)
