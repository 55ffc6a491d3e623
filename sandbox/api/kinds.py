"""One row for each kind of object: where it is found, how it is shown, and who counts it in.

Lists, reads and removals are served from the row; leftovers, projects, tags, VPC members and addresses are counted over
all rows. Creations and changes are functions of the family, as they are behaviour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from sandbox.api.context import Body, Call, Cloud, not_found, operation
from sandbox.parts.base import ServiceSpec
from sandbox.store import Record, Store

MISSING = "The resource you were accessing could not be found."


Filters = Mapping[str, Callable[[Record, str], bool]]
"""By a query's name: is True for the objects that its text asks for."""


def by(*names: str) -> Filters:
    """Return filters by fields that must equal a query's text."""
    return {name: lambda record, wanted, name=name: record[name] == wanted for name in names}


BY_TAG: Filters = {"tag_name": lambda record, tag: tag in record["tags"]}


KINDS: dict[str, Kind] = {}
"""By name; a row enters itself."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of object of the account."""

    name: str
    """In the store."""
    singular: str = ""
    plural: str = ""
    """In answers. Default: `name`, and with an s."""
    parameter: str = ""
    """Of the paths. Default: `<singular>_id`."""
    id: str = "id"
    """The field that names an object, in paths, URNs and the store."""
    parent: Kind | None = None
    shown: Callable[[Call, Record], Body] = lambda _, record: record
    lookup: Callable[[Call], Record | None] | None = None
    """Finds the object of a path in another way than by its id."""
    missing: str = MISSING
    filters: Mapping[str, Callable[[Record, str], bool]] = field(
        default_factory=dict[str, Callable[[Record, str], bool]]
    )

    urn: str | None = None
    """As in `do:<urn>:<id>`: projects hold it."""
    label: str | None = None
    """The field that names an object to people. What nobody removed is a leftover, but for defaults."""
    has_public_ip: bool = False
    in_vpc: bool = False
    tagged_as: str | None = None
    """`resource_type` of what wears tags."""
    wears: Callable[[Record], bool] = lambda _: True
    """Is True for those that count as wearing a tag."""
    deleting_is_hidden: bool = False

    job: str | None = None
    """The job behind it, such as `cluster:{id}` or `cdns`."""
    resumed: bool = False
    """The job runs when the sandbox starts."""
    follows_membership: bool = False
    """The job runs when droplets or tags change; answers wait for those that are online or active."""
    spec: Callable[[Store, Record], ServiceSpec] | None = None
    """Computes the part's view of an object that is one container without data."""
    certificates: Callable[[Record], Iterable[str]] = lambda _: ()
    """Names the certificates that an object uses, which nobody may delete meanwhile."""
    peers_field: str | None = None
    """Where firewall rules name objects of the kind, which have addresses of their own, as sources or destinations."""
    lists_droplets: bool = False
    """Has `droplet_ids`, which a droplet that goes is taken out of."""

    lists: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()
    """The operations that are served from this row."""
    removing: Callable[[Call, Record], None] = lambda _, __: None
    """Refuses a removal, or removes what goes along."""

    def __post_init__(self) -> None:
        KINDS[self.name] = self
        for handler, ids in ((self.list, self.lists), (self.read, self.reads), (self.remove, self.removes)):
            operation(*ids)(handler)

    @property
    def _word(self) -> str:
        return self.singular or self.name

    @property
    def _words(self) -> str:
        return self.plural or f"{self._word}s"

    def words(self, call: Call) -> tuple[str, str]:  # noqa: ARG002 - some kinds have two names
        """Return singular and plural in the answers of a call."""
        return self._word, self._words

    def link_to(self, call: Call, record: Record) -> str:
        """Return where an object is read."""
        return f"{call.cloud.base_url}/v2/{self._words}/{record[self.id]}"

    def urn_of(self, record: Record) -> str:
        """Return the URN of an object."""
        return f"do:{self.urn}:{record[self.id]}"

    def job_of(self, record: Record) -> str:
        """Return the key of the job behind an object."""
        return (self.job or "").format(id=record[self.id])

    def living(self, store: Store) -> list[Record]:
        """List the objects that are not being deleted, oldest first."""
        return [record for record in store.list(self.name) if not record.get("deleting")]

    def _parent(self, call: Call) -> str:
        return str(self.parent.find(call)[self.parent.id]) if self.parent else ""

    def find(self, call: Call) -> Record:
        """Return the object that the path names.

        Raises:
            ApiError: 404.
        """
        if self.lookup:
            record = self.lookup(call)
        else:
            record = call.store.get(
                self.name, call.params[self.parameter or f"{self.singular or self.name}_id"], parent=self._parent(call)
            )
        if record is None or (self.deleting_is_hidden and record["deleting"]):
            raise not_found(self.missing)
        return record

    def save(self, call: Call, record: Record) -> Body:
        """Keep a new or changed object, let its part follow, and return the answer that shows it."""
        call.store.put(self.name, record[self.id], record, parent=self._parent(call))
        if self.job:
            call.cloud.touch(self.job_of(record))
        return self.answer(call, record)

    def list(self, call: Call) -> Body:
        """Return a page of the objects, filtered as the query asks."""
        records = call.store.list(self.name, parent=self._parent(call))
        if self.deleting_is_hidden:
            records = [record for record in records if not record["deleting"]]
        for name, fits in self.filters.items():
            if wanted := call.query.get(name):
                records = [record for record in records if fits(record, wanted)]
        return call.page(self.words(call)[1], records, lambda record: self.shown(call, record))

    def read(self, call: Call) -> Body:
        """Return one object."""
        return self.answer(call, self.find(call))

    def answer(self, call: Call, record: Record) -> Body:
        """Return the answer that shows one object."""
        return {self.words(call)[0]: self.shown(call, record)}

    def remove(self, call: Call) -> None:
        """Remove one object, with what goes along; its part follows."""
        self.forget(call, self.find(call))

    def forget(self, call: Call, record: Record) -> None:
        """Remove an object that was found."""
        self.removing(call, record)
        call.store.delete(self.name, record[self.id], parent=self._parent(call))
        if self.urn:
            forget_urn(call.store, self.urn_of(record))
        if self.job:
            call.cloud.touch(self.job_of(record))


def serve_none(kind: Kind, ident: str, plural: str) -> None:
    """Serve the list of what objects of a kind have at DigitalOcean and never have here."""

    @operation(ident)
    def empty(call: Call) -> Body:
        kind.find(call)
        return call.page(plural, [])


def forget_urn(store: Store, urn: str) -> None:
    """Take a deleted resource out of its project."""
    store.delete("assignment", urn)


def leftovers(store: Store) -> list[str]:
    """Name every object that someone made in the account and nobody removed."""
    return sorted(
        f"{kind.name} {record[kind.label]}"
        for kind in KINDS.values()
        if kind.label
        for record in store.list(kind.name)
        if not record.get("default") and not record.get("is_default")
    )


def public_ips(store: Store) -> frozenset[str]:
    """Return every public address that some object has."""
    return frozenset(
        record["public_ip"] for kind in KINDS.values() if kind.has_public_ip for record in store.list(kind.name)
    )


def members(store: Store, vpc: Record) -> list[tuple[Kind, Record]]:
    """List what is in a VPC; one that is being deleted is, until its servers are gone."""
    return [
        (kind, record) for kind in KINDS.values() if kind.in_vpc for record in store.list(kind.name, vpc_uuid=vpc["id"])
    ]


def touch_membership(cloud: Cloud, *, wait: bool = True) -> None:
    """Let, inside `change`, whatever names droplets or tags follow, because some have changed."""
    cloud.touch("firewalls", wait=wait)
    for kind in KINDS.values():
        if kind.follows_membership:
            for record in kind.living(cloud.store):
                # One that is still being made gets all of it when it is made.
                cloud.touch(kind.job_of(record), wait=wait and record["status"] in ("online", "active"))


def resume(cloud: Cloud) -> None:
    """Schedule, inside `change`, the jobs that may have been half-done when the sandbox ended."""
    for kind in KINDS.values():
        if kind.resumed:
            for record in cloud.store.list(kind.name):
                cloud.touch(kind.job_of(record))
