"""Projects and what is in them. Whatever was never assigned is in the default project."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sandbox.api.context import ApiError, Body, Call, invalid, new_uuid, now, operation
from sandbox.api.kinds import KINDS, Kind
from sandbox.store import Record, Store

_PURPOSES = frozenset(
    {
        "Just trying out DigitalOcean",
        "Class project / Educational purposes",
        "Website or blog",
        "Web Application",
        "Service or API",
        "Mobile Application",
        "Machine learning / AI / Data processing",
        "IoT",
        "Operational / Developer tooling",
    }
)
_URN = re.compile(r"do:([a-z]+):(.+)")
_ENVIRONMENTS = ("Development", "Staging", "Production")


def ensure_default_project(store: Store) -> None:
    """Make the default project of a new account."""
    if not store.list("project"):
        project = _new("sandbox", "The default project of the sandbox's account", _ENVIRONMENTS[0])
        store.put("project", project["id"], {**project, "is_default": True})


def _new(name: str, description: str, environment: str | None) -> Record:
    return {
        "id": new_uuid(),
        "name": name,
        "description": description,
        "purpose": "Just trying out DigitalOcean",
        "environment": environment,
        "is_default": False,
        "created_at": now(),
        "updated_at": now(),
    }


def project_of(store: Store, urn: str) -> str:
    """Return the id of the project that holds a URN. A reserved IP is where its droplet is."""
    if urn.startswith("do:floatingip:"):
        record = store.get("reserved_ip", urn.removeprefix("do:floatingip:"))
        if record and record["droplet_id"]:
            urn = f"do:droplet:{record['droplet_id']}"
    found = store.get("assignment", urn)
    return found["project_id"] if found else store.list("project", is_default=True)[0]["id"]


@dataclass(frozen=True)
class _Resource:
    """Something that belongs to a project: its URN, where it is read, and since when it exists."""

    urn: str
    link: str
    made: str

    def body(self, assigned_at: str, status: str) -> Body:
        return {"urn": self.urn, "assigned_at": assigned_at, "links": {"self": self.link}, "status": status}


def _resources(call: Call) -> dict[str, _Resource]:
    """Return everything that belongs to projects, by URN."""
    cloud = call.cloud
    found = [
        _Resource(kind.urn_of(record), kind.link_to(call, record), record["created_at"])
        for kind in KINDS.values()
        if kind.urn
        for record in kind.living(cloud.store)
    ]
    # When S3 made a Space is not asked; since the account was opened is the same in every answer.
    opened: str = cloud.store.list("project")[0]["created_at"]
    found += [
        _Resource(f"do:space:{bucket}", f"https://{bucket}.{region}.digitaloceanspaces.com", opened)
        for region, bucket in call.ask("buckets", cloud.parts.spaces.buckets)
    ]
    return {resource.urn: resource for resource in found}


def _contents(call: Call, project: Record) -> list[Body]:
    cloud = call.cloud
    found: list[Body] = []
    for urn, resource in _resources(call).items():
        if project_of(cloud.store, urn) == project["id"]:
            assigned = cloud.store.get("assignment", urn)
            found.append(resource.body(assigned["assigned_at"] if assigned else resource.made, "ok"))
    return found


def project_body(call: Call, project: Record) -> Body:
    """Return the `project` object of the API."""
    account = call.store.get_meta("account")
    return {
        "id": project["id"],
        "owner_uuid": account["uuid"],
        "owner_id": account["number"],
        **{name: value for name, value in project.items() if name != "id" and value is not None},
    }


def _fields(call: Call, *, own: str = "", partial: bool) -> Record:
    fields: Record = {}
    body = call.body
    if "name" in body or not partial:
        name = call.text("name", message="name is required")
        if len(name) > 175:
            raise invalid("name is too long")
        if any(other["name"] == name and other["id"] != own for other in call.store.list("project")):
            raise ApiError(409, "name is already in use")
        fields["name"] = name
    if "description" in body or not partial:
        fields["description"] = str(body.get("description") or "")
        if len(fields["description"]) > 255:
            raise invalid("description is too long")
    if "purpose" in body or not partial:
        purpose = call.text("purpose", message="purpose is required")
        known = purpose in _PURPOSES or purpose.startswith("Other: ")
        fields["purpose"] = purpose if known else f"Other: {purpose}"
        if len(fields["purpose"]) > 255:
            raise invalid("purpose is too long")
    if body.get("environment"):
        environment = str(body["environment"]).capitalize()
        if environment not in _ENVIRONMENTS:
            raise invalid(f"environment must be one of: {', '.join(_ENVIRONMENTS)}")
        fields["environment"] = environment
    return fields


def _lookup(call: Call) -> Record | None:
    if "project_id" not in call.params:  # …/projects/default/…
        return call.store.list("project", is_default=True)[0]
    return call.store.get("project", call.params["project_id"])


def _must_be_empty(call: Call, project: Record) -> None:
    if project["is_default"]:
        raise ApiError(403, "cannot delete the default project")
    if _contents(call, project):
        raise ApiError(412, "cannot delete a project with resources. move or remove the resources first")
    for assignment in call.store.list("assignment", project_id=project["id"]):
        call.store.delete("assignment", assignment["urn"])  # of Spaces that were deleted by S3


PROJECT = Kind(
    name="project",
    shown=project_body,
    lookup=_lookup,
    missing="project not found",
    label="name",
    lists=("projects_list",),
    reads=("projects_get", "projects_get_default"),
    removes=("projects_delete",),
    removing=_must_be_empty,
)


@operation("projects_create")
def create_project(call: Call) -> Body:
    """Make a project. A purpose that is not one of the known ones is kept with `Other: ` before it."""
    fields = _fields(call, partial=False)
    return PROJECT.save(call, {**_new(fields["name"], fields["description"], None), **fields})


@operation("projects_update", "projects_patch", "projects_update_default", "projects_patch_default")
def update_project(call: Call) -> Body:
    """Change a project. There is always exactly one default."""
    project = PROJECT.find(call)
    project |= _fields(call, own=project["id"], partial="patch" in call.operation.id) | {"updated_at": now()}
    if call.body.get("is_default"):
        for other in call.store.list("project", is_default=True):
            call.store.put("project", other["id"], {**other, "is_default": False})
        project["is_default"] = True
    return PROJECT.save(call, project)


@operation("projects_list_resources", "projects_list_resources_default")
def list_resources(call: Call) -> Body:
    """List what is in a project. Reserved IPs are called `do:floatingip:`, as at DigitalOcean."""
    return call.page("resources", _contents(call, PROJECT.find(call)))


@operation("projects_assign_resources", "projects_assign_resources_default")
def assign_resources(call: Call) -> Body:
    """Move resources into a project. A reserved IP moves with its droplet only."""
    project = PROJECT.find(call)
    known = _resources(call)
    shown: list[Body] = []
    for given in call.texts("resources"):
        urn = given.replace("do:reservedip:", "do:floatingip:")
        match = _URN.fullmatch(urn)
        if match is None or match[1] not in {*(kind.urn for kind in KINDS.values()), "space"}:
            raise ApiError(400, f"invalid urn: {given}")
        if urn not in known:
            # The description gives each resource a status of its own: a destroyed one does not fail the whole call,
            # on which the provider leans when it empties a project whose droplets went first.
            shown.append(_Resource(urn, f"{call.cloud.base_url}/v2/", "").body(now(), "not_found"))
        elif project_of(call.store, urn) == project["id"]:
            shown.append(known[urn].body(now(), "already_assigned"))
        elif _has_droplet(call.store, urn):
            raise ApiError(412, "Cannot move a Reserved IP with an associated Droplet. Move the Droplet instead")
        else:
            assignment: Record = {"urn": urn, "project_id": project["id"], "assigned_at": now()}
            call.store.put("assignment", urn, assignment)
            shown.append(known[urn].body(assignment["assigned_at"], "assigned"))
    return {"resources": shown}


def _has_droplet(store: Store, urn: str) -> bool:
    record = store.get("reserved_ip", urn.removeprefix("do:floatingip:"))
    return record is not None and record["droplet_id"] is not None
