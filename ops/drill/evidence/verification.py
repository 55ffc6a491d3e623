"""Check a folder of evidence: every signature, every link of every series, and the files that belong to a document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from ops.core.errors import KeyProblemError, OpsError
from ops.core.signing import Namespace, digest
from ops.drill.evidence.chain import heads, read_head
from ops.drill.evidence.details import parse_document
from ops.drill.evidence.document import Attachment
from ops.drill.evidence.store import FILE, Link, read_stored


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong with which file."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


@dataclass(kw_only=True)
class Verification:
    """What was found. `heads` maps a series to its newest sequence number and digest.

    `absent` are logs and pages that are not here; they can be kept elsewhere, a document names their digests.
    """

    links: list[Link] = field(default_factory=list[Link])
    problems: list[Problem] = field(default_factory=list[Problem])
    heads: dict[str, tuple[int, str]] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)

    @property
    def documents(self) -> int:
        """How many were read."""
        return len(self.links)


def verify(place: Path, keys: Sequence[str], *, head: str | None = None) -> Verification:
    """Verify a folder of evidence, or one document.

    Args:
        place: a folder, or one document; of one, its neighbours and its place in the chain are not checked.
        keys: public keys (OpenSSH lines) that are trusted.
        head: the digest that the newest document of a series must have, kept elsewhere.

    Raises:
        OpsError: there is no evidence.
        KeyProblemError: no key is trusted.
    """
    if not keys:
        raise KeyProblemError("no key is trusted: name the runner's in backup.signers, or give --key")
    found = Verification()
    if place.is_dir():
        for path in sorted(path for path in place.glob("*.json") if FILE.fullmatch(path.name)):
            _check_document(found, path, keys)
        _check_chains(found, place, keys)
        if not (found.links or found.problems):
            raise OpsError(f"{place}: no evidence there; `ops drill` leaves some")
    elif place.is_file():
        _check_document(found, place, keys)
    else:
        raise OpsError(f"{place}: no such folder or document")
    if head is not None and head not in {sha256 for _, sha256 in found.heads.values()}:
        found.problems.append(Problem(file=str(place), what=f"no chain ends with {head[:16]}…"))
    return found


def _check_document(found: Verification, path: Path, keys: Sequence[str]) -> None:
    try:
        stored = read_stored(path)
    except OSError as error:
        found.problems.append(Problem(file=path.name, what=f"cannot be read: {error.strerror}"))
        return
    wrong = stored.problem(keys, Namespace.EVIDENCE)
    try:
        link = Link(path=path, document=parse_document(stored.content), stored=stored)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field_name = ".".join(map(str, first["loc"]))
        another = f"written by another version of Ancla: {field_name}: {first['msg']}"
        found.problems.append(Problem(file=path.name, what=wrong or another))
        return
    match = FILE.fullmatch(path.name)
    if not wrong and (match is None or (match["series"], int(match["sequence"])) != _place(link)):
        wrong = f"renamed: it is document {link.document.sequence} of {link.document.series}"
    if wrong:
        found.problems.append(Problem(file=path.name, what=wrong))
    found.links.append(link)
    for attachment in (link.document.log, link.document.page):
        _check_attachment(found, link, attachment)


def _place(link: Link) -> tuple[str, int]:
    return link.document.series, link.document.sequence


def _check_attachment(found: Verification, link: Link, attachment: Attachment | None) -> None:
    if attachment is None:
        return
    path = link.path.parent / Path(attachment.file).name
    if not path.exists():
        if attachment.file not in found.absent:
            found.absent.append(attachment.file)
    elif digest(path.read_bytes()) != attachment.sha256 and path.name not in {known.file for known in found.problems}:
        found.problems.append(Problem(file=path.name, what=f"changed: not what {link.path.name} says it is"))


def _check_chains(found: Verification, folder: Path, keys: Sequence[str]) -> None:
    known = heads(folder)
    for series in sorted({link.document.series for link in found.links} | known.keys()):
        chain = [link for link in found.links if link.document.series == series]
        chain.sort(key=lambda link: (link.document.sequence, link.path.name))
        found.problems += _broken_links(chain)
        found.problems += _wrong_head(known.get(series), series, chain, keys)
        if chain:
            found.heads[series] = (chain[-1].document.sequence, chain[-1].sha256)


def _broken_links(chain: Sequence[Link]) -> Iterable[Problem]:
    sequence, previous = 0, None
    for link in chain:
        here = link.document
        if here.sequence == sequence:
            yield Problem(file=link.path.name, what=f"a second document {sequence}: the chain forks here")
            continue
        if here.sequence != sequence + 1:
            lost = f"document {sequence + 1}" if here.sequence == sequence + 2 else (
                f"documents {sequence + 1} to {here.sequence - 1}"
            )  # fmt: skip
            yield Problem(file=link.path.name, what=f"the chain is broken before it: {lost} missing")
        elif here.previous != previous:
            yield Problem(file=link.path.name, what="the chain is broken before it: it names another document")
        sequence, previous = here.sequence, link.sha256


def _wrong_head(path: Path | None, series: str, chain: Sequence[Link], keys: Sequence[str]) -> Iterable[Problem]:
    found = read_head(path) if path else None
    name = path.name if path else f"chain-{series}"
    if found is None:
        yield Problem(file=name, what="the head of the chain is missing or not one")
        return
    head, stored = found
    if wrong := stored.problem(keys, Namespace.EVIDENCE):
        yield Problem(file=name, what=wrong)
        return
    at = [link for link in chain if link.document.sequence == head.sequence]
    if not at:
        yield Problem(file=name, what=f"the chain goes to document {head.sequence}, which is missing")
    elif all(link.sha256 != head.sha256 for link in at):
        yield Problem(file=at[0].path.name, what="not the document that the head of the chain names")
