"""The chain: each document of a series names the one before by its digest, so that none can be taken out unnoticed.

::

    drill-staging-000001-….json ◀─previous─ drill-staging-000002-….json
                                                            … ◀─ chain-drill-staging-000002.json (the head)

A series holds the drills of an environment's own backups, those of its provider's, or those of a pgBackRest stanza; all
are documents of one type, kept by `append`.
The head is a small signed file that says how far the series goes: without it, the newest documents could be removed
unnoticed. Who can put an older head back as well can still do that; the newest document's digest, kept elsewhere (a CI
log, a mail), settles it: `ops evidence verify --head`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from ops.core.signing import SIGNATURE_SUFFIX, Namespace, Signed, Signer, canonical, digest, seal
from ops.drill.evidence.document import Attachment, Document
from ops.drill.evidence.report import Language, render
from ops.drill.evidence.store import Link, documents, locked, read, read_stored, write, write_signed

_HEAD = re.compile(r"chain-(.+)-(\d{6})\.json")


class Head(BaseModel):
    """How far a series goes: the newest document's number and digest."""

    series: str
    sequence: int
    sha256: str


def append(
    folder: Path,
    new: Sequence[Document],
    *,
    signer: Signer | None,
    language: Language = Language.EN,
    log: str | None = None,
) -> tuple[list[Link], Path]:
    """Put documents of one series at its end, with their page and log; returns them and the page.

    Two drills that end at the same time wait for each other: the chain never forks. Each document is stored after its
    page, log and signature, and the head after it, so a run that is killed leaves nothing that does not verify.
    `language` is the page's; the documents are always in English.

    Raises:
        OpsError: the folder cannot be written.
    """
    series = new[0].chain
    public = signer.public if signer else None
    with locked(folder):
        earlier = documents(folder, series)
        sequence, previous = _tail(folder, series, earlier)
        numbered = [
            item.model_copy(update={"series": series, "sequence": sequence + n}) for n, item in enumerate(new, 1)
        ]
        base = _stem(numbered[0])
        shown = render(numbered, [link.document for link in earlier], language=language, signer=public)
        page = write(folder / f"{base}.html", shown.encode())
        kept = {"page": attached(page)}
        if log is not None:
            kept["log"] = attached(write(folder / f"{base}.log", log.encode()))
        made: list[Link] = []
        for item in numbered:
            document = item.model_copy(update={**kept, "previous": previous})
            signed = seal(document.to_bytes(), signer, Namespace.EVIDENCE)
            name = f"{_stem(item)}{item.detail.label(item)}.json"
            made.append(read(write_signed(folder / name, signed)))
            previous = made[-1].sha256
        _write_head(folder, Head(series=series, sequence=made[-1].document.sequence, sha256=made[-1].sha256), signer)
    return made, page


def heads(folder: Path) -> dict[str, Path]:
    """Return the file of each series' head: of two, which a killed run has left, the newer."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("chain-*.json")):
        if match := _HEAD.fullmatch(path.name):
            found[match[1]] = path
    return found


def read_head(path: Path) -> tuple[Head, Signed] | None:
    """Read a head and what is stored; None where it is none."""
    try:
        stored = read_stored(path)
        head = Head.model_validate_json(stored.content)
    except (OSError, ValidationError):
        return None
    return (head, stored) if path.name == head_name(head) else None


def head_name(head: Head) -> str:
    """Return the name of a head's file."""
    return f"chain-{head.series}-{head.sequence:06d}.json"


def attached(path: Path) -> Attachment:
    """Name a file beside a document, with its digest."""
    return Attachment(file=path.name, sha256=digest(path.read_bytes()))


def _write_head(folder: Path, head: Head, signer: Signer | None) -> None:
    older = [
        path
        for path in folder.glob(f"chain-{head.series}-*.json")
        if (m := _HEAD.fullmatch(path.name)) and m[1] == head.series
    ]
    content = canonical(head.model_dump(mode="json"))
    path = write_signed(folder / head_name(head), seal(content, signer, Namespace.EVIDENCE))
    for each in older:
        if each != path:
            each.unlink()
            each.with_name(each.name + SIGNATURE_SUFFIX).unlink(missing_ok=True)


def _stem(document: Document) -> str:
    """Return the name of a document's page and log; names sort by their place in the series."""
    return f"{document.series}-{document.sequence:06d}-{document.started_at:%Y%m%dT%H%M%SZ}"


def _tail(folder: Path, series: str, earlier: Sequence[Link]) -> tuple[int, str | None]:
    """Return number and digest of the newest document: a lost one leaves a gap, which is noticed, and no fork."""
    ends: list[tuple[int, str | None]] = [(0, None)]
    path = heads(folder).get(series)
    if path is not None and (read_it := read_head(path)) is not None:
        ends.append((read_it[0].sequence, read_it[0].sha256))
    if earlier:
        ends.append((earlier[-1].document.sequence, earlier[-1].sha256))
    return max(ends, key=lambda end: end[0])
