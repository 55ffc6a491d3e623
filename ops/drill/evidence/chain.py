"""The chain: each document of an environment names the one before by its digest, so that none can be taken out.

::

    drill-staging-000001-….json ◀─previous─ drill-staging-000002-….json ◀─ … ◀─ chain-staging.json (the head)

The head is a small signed file that says how far the chain goes: without it, the newest documents could be taken away
unseen. Who can put an older head back as well can still do that; the head's digest, kept elsewhere (a CI log, a mail),
settles it: `ops evidence verify --head`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from ops.core.signing import Signature, Signer
from ops.drill.evidence.document import (
    Attachment,
    Evidence,
    Facts,
    canonical,
    digest,
    signed_content,
    stem,
    wrong_signature,
)
from ops.drill.evidence.store import locked, write

PATTERN = "drill-*.json"


class Head(Facts):
    """How far the chain of an environment, or a series, goes: the newest document's number and digest."""

    chain_version: Literal[1] = 1
    environment: str
    sequence: int
    sha256: str
    signed: Signature | None = None

    def sealed(self, signer: Signer | None) -> Head:
        """Return a signed copy; unsigned without a key."""
        if signer is None:
            return self
        signature = signer.sign(signed_content(self.model_dump(mode="json")))
        return self.model_copy(update={"signed": Signature(key=signer.public, signature=signature)})


@dataclass(frozen=True, kw_only=True)
class Link:
    """A document as it lies in its file."""

    path: Path
    evidence: Evidence
    sha256: str


Render = Callable[[Sequence[Evidence], Sequence[Evidence]], str]
"""Makes the page of new documents; the second argument is what the chain held before."""


def append(
    folder: Path, new: Sequence[Evidence], *, log: str, render: Render, signer: Signer | None
) -> tuple[list[Link], Path]:
    """Put documents of one environment at the end of its chain, with their log and page; returns them and the page.

    Two drills that end at once wait for each other: the chain never forks.

    Raises:
        OpsError: the folder cannot be written.
    """
    environment = new[0].environment
    with locked(folder):
        earlier = links(folder, environment)
        sequence, previous = _tail(folder, environment, earlier)
        numbered = [item.model_copy(update={"sequence": sequence + n}) for n, item in enumerate(new, start=1)]
        base = f"drill-{environment}-{numbered[0].sequence:06d}-{numbered[0].started_at:%Y%m%dT%H%M%SZ}"
        page = write(folder / f"{base}.html", render(numbered, [link.evidence for link in earlier]).encode())
        kept = {
            "log": attached(write(folder / f"{base}.log", log.encode())),
            "page": attached(page),
        }
        made: list[Link] = []
        for item in numbered:
            sealed = item.model_copy(update={**kept, "previous": previous}).sealed(signer)
            path = write(folder / f"{stem(sealed)}.json", sealed.to_bytes())
            previous = digest(sealed.to_bytes())
            made.append(Link(path=path, evidence=sealed, sha256=previous))
        head = Head(environment=environment, sequence=made[-1].evidence.sequence, sha256=made[-1].sha256)
        write(head_path(folder, environment), canonical(head.sealed(signer).model_dump(mode="json")))
    return made, page


def links(folder: Path, environment: str) -> list[Link]:
    """Read an environment's chain, oldest first. What cannot be read is left to `verification` to name."""
    found: list[Link] = []
    for path in sorted(folder.glob(PATTERN)):
        try:
            raw = path.read_bytes()
            evidence = Evidence.model_validate_json(raw)
        except (OSError, ValidationError):
            continue
        if evidence.environment == environment:
            found.append(Link(path=path, evidence=evidence, sha256=digest(raw)))
    return sorted(found, key=lambda link: (link.evidence.sequence, link.path.name))


def head_path(folder: Path, environment: str) -> Path:
    """Return where an environment's head is."""
    return folder / f"chain-{environment}.json"


def read_head(path: Path) -> tuple[Head, dict[str, Any]] | None:
    """Read a head, as a model and as it is written; None where it is none."""
    try:
        document: Any = json.loads(path.read_bytes())
        return Head.model_validate(document), document
    except (OSError, ValueError):
        return None


def wrong_head(path: Path, name: str, keys: Sequence[str]) -> tuple[Head | None, str]:
    """Return the head of an environment's chain, or of a series, and what is wrong with it by itself."""
    read = read_head(path)
    if read is None:
        return None, "the head of the chain is missing or not one"
    head, document = read
    wrong = wrong_signature(head.signed, document, keys)
    if not wrong and (canonical(document) != path.read_bytes() or head.environment != name):
        wrong = "changed: not the bytes that a drill writes"
    return head, wrong


def _tail(folder: Path, environment: str, earlier: Sequence[Link]) -> tuple[int, str | None]:
    """Return (sequence, digest) of the newest link: a lost one leaves a gap, which is seen, and no second way on."""
    ends: list[tuple[int, str | None]] = [(0, None)]
    head = read_head(head_path(folder, environment))
    if head is not None:
        ends.append((head[0].sequence, head[0].sha256))
    if earlier:
        ends.append((earlier[-1].evidence.sequence, earlier[-1].sha256))
    return max(ends, key=lambda end: end[0])


def attached(path: Path) -> Attachment:
    """Name a file beside a document, by what it is."""
    return Attachment(file=path.name, sha256=digest(path.read_bytes()))


def is_changed(path: Path, attachment: Attachment) -> bool:
    """Say whether an attached file is here and not what it was; it may be kept elsewhere."""
    return path.exists() and digest(path.read_bytes()) != attachment.sha256
