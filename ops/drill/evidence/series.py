"""Evidence of drills of others' backups, the provider's and pgBackRest's: each document names the one before.

::

    backrest-drill-main-000001-20261101T030000Z.json ◀─previous─ backrest-drill-main-000002-20261108T030000Z.json
                                                   … ◀─ series-backrest-drill-main.json (the head)

A changed character, a key that is not believed and a document taken out are seen; of the head see
`ops.drill.evidence.chain`.
They are numbered as they were written: one that began first may end last, and clocks are set. An older Ancla did not
number them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from ops.core.signing import Signature, Signer
from ops.drill.evidence.chain import Head, attached, is_changed, read_head, wrong_head
from ops.drill.evidence.document import Attachment, OtherDocument, canonical, digest, wrong_signature
from ops.drill.evidence.report import Language, render_other
from ops.drill.evidence.store import locked, write

KINDS = {"provider-restore-point": ("fork-drill", "environment"), "pgbackrest": ("backrest-drill", "stanza")}
"""What the files of a kind are called, and which of a document's fields names its series."""
_PREFIXES = "|".join(prefix for prefix, _ in KINDS.values())
_FILE = re.compile(rf"((?:{_PREFIXES})-.+?)(?:-(\d{{6}}))?-\d{{8}}T\d{{6}}Z\.json")


class _Link(BaseModel):
    """What a series asks of a document; the rest is what its signature is over."""

    model_config = ConfigDict(extra="allow")

    kind: str
    started_at: datetime
    sequence: int = 0
    previous: str | None
    page: Attachment | None = None
    signed: Signature | None


def keep(evidence: OtherDocument[Any], folder: Path, signer: Signer | None, language: Language = Language.EN) -> Path:
    """Write a document at the end of its series, signed where there is a key, with its page; returns its file.

    `language` is the page's; the document is in English always.

    Raises:
        OpsError: the folder cannot be written.
    """
    series = _series(evidence.model_dump(mode="json"))
    with locked(folder):
        earlier, head = files(folder, series), read_head(head_path(folder, series))
        number = max([len(earlier), *(_number(path) for path in earlier)])
        previous = digest(earlier[-1].read_bytes()) if earlier else None
        if head is not None:  # though its document is missing by now: that stays to be seen
            number, previous = head[0].sequence, head[0].sha256
        evidence = evidence.model_copy(update={"sequence": number + 1})
        name = _name(series, number + 1, evidence.started_at)
        page = folder / Path(name).with_suffix(".html")
        html = render_other(evidence, language=language, signer=signer.public if signer else None)
        write(page, html.encode())
        document = evidence.model_copy(update={"previous": previous, "page": attached(page)}).sealed(signer)
        file = write(folder / name, document.to_bytes())
        end = Head(environment=series, sequence=number + 1, sha256=digest(document.to_bytes())).sealed(signer)
        write(head_path(folder, series), canonical(end.model_dump(mode="json")))
    return file


def head_path(folder: Path, series: str) -> Path:
    """Return where a series' head is."""
    return folder / f"series-{series}.json"


def series_in(folder: Path) -> list[str]:
    """Name the series of a folder."""
    headed = {path.stem.removeprefix("series-") for path in folder.glob("series-*.json")}
    return sorted(headed | {match[1] for path in folder.glob("*.json") if (match := _FILE.fullmatch(path.name))})


def files(folder: Path, series: str) -> list[Path]:
    """Return the documents of a series, oldest first."""
    found = [path for path in folder.glob("*.json") if (match := _FILE.fullmatch(path.name)) and match[1] == series]
    return sorted(found, key=lambda path: (_number(path), path.name))


def verify(folder: Path, series: str, keys: Sequence[str]) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Return the documents of a series, oldest first, and what is wrong with which of them.

    Args:
        folder: where they are.
        series: as `series_in` names it.
        keys: public keys (OpenSSH lines) whose word counts.
    """
    found, problems, previous = files(folder, series), list[tuple[Path, str]](), None
    for file in found:
        link, wrong, sha256 = _read(file, keys)
        if link is not None and link.previous != previous:
            problems.append((file, "the one before it was changed or taken out"))
        if wrong:
            problems.append((file, wrong))
        if link is not None and link.page is not None:
            page = folder / Path(link.page.file).name
            if is_changed(page, link.page):
                problems.append((page, f"not what {file.name} says it is: changed"))
        previous = sha256
    path = head_path(folder, series)
    head, wrong = wrong_head(path, series, keys)
    if head is not None and not wrong and head.sha256 != previous:
        wrong = f"the series goes to document {head.sequence}, which is missing or changed"
    return found, [*problems, *([(path, wrong)] if wrong else [])]


def wrong_with(file: Path, keys: Sequence[str]) -> str:
    """Say what is wrong with one document, without its place in the series; nothing for a right one."""
    return _read(file, keys)[1]


def is_of_series(file: Path) -> bool:
    """Say whether a file is called as a document of a series is."""
    return _FILE.fullmatch(file.name) is not None


def _read(file: Path, keys: Sequence[str]) -> tuple[_Link | None, str, str]:
    """Return the document, where it is one, what is wrong with it, and its digest."""
    try:
        raw = file.read_bytes()
    except OSError as error:
        return None, f"cannot be read: {error.strerror}", ""
    try:
        document: Any = json.loads(raw)
        link = _Link.model_validate(document)
        name = _name(_series(document), link.sequence, link.started_at)
    except (ValueError, KeyError, RecursionError):
        return None, "changed: not a document of a drill", digest(raw)
    wrong = wrong_signature(link.signed, document, keys)
    if not wrong and canonical(document) != raw:
        wrong = "changed"
    if not wrong and name != file.name:
        wrong = f"renamed: it is {name}"
    return link, wrong, digest(raw)


def _series(document: Mapping[str, Any]) -> str:
    prefix, by = KINDS[document["kind"]]
    return f"{prefix}-{document[by]}"


def _name(series: str, sequence: int, started_at: datetime) -> str:
    """Return the name of a document's file."""
    number = f"-{sequence:06d}" if sequence else ""
    return f"{series}{number}-{started_at:%Y%m%dT%H%M%SZ}.json"


def _number(path: Path) -> int:
    """Return a document's place in its series, by its name; 0 where an older Ancla wrote it."""
    match = _FILE.fullmatch(path.name)
    return int(match[2] or 0) if match else 0
