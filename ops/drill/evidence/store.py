"""A folder of evidence: the one reader of its documents, atomic writes, and a lock for one drill at a time."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from ops.core import files
from ops.core.errors import OpsError
from ops.core.files import atomic_write, runtime_folder
from ops.core.signing import SIGNATURE_LIMIT, SIGNATURE_SUFFIX, Namespace, Signed, digest
from ops.drill.evidence.details import parse_document
from ops.drill.evidence.document import Document

FILE = re.compile(r"(?P<series>.+)-(?P<sequence>\d{6})-\d{8}T\d{6}Z(?:-.*)?\.json")
"""What the file of a document is called."""
LIMIT = 256 << 20
"""Bytes. A larger document is not ours."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """A document as it lies in its file, with the signature beside it."""

    path: Path
    document: Document
    stored: Signed

    @property
    def sha256(self) -> str:
        """The digest that the next document names."""
        return digest(self.stored.content)

    def is_trusted(self, keys: Sequence[str]) -> bool:
        """Return True if one of the keys (OpenSSH lines) has signed it; without keys every document is trusted."""
        return self.stored.is_trusted(keys, Namespace.EVIDENCE)


def documents(folder: Path, series: str | None = None) -> list[Link]:
    """Read the documents of a folder, which need not exist, in the order of their series.

    Files that are no documents are ignored; `ops evidence verify` names them.
    """
    found: list[Link] = []
    for path in folder.glob("*.json"):
        if FILE.fullmatch(path.name):
            try:
                link = read(path)
            except (OSError, ValidationError):
                continue
            if series in (None, link.document.series):
                found.append(link)
    return sorted(found, key=lambda link: (link.document.series, link.document.sequence, link.path.name))


def read(path: Path) -> Link:
    """Read a document and its signature.

    Raises:
        OSError: it cannot be read.
        ValidationError: it is no document of a drill.
    """
    stored = read_stored(path)
    return Link(path=path, document=parse_document(stored.content), stored=stored)


def read_stored(path: Path) -> Signed:
    """Read a file and the signature beside it.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(LIMIT)
    try:
        with path.with_name(path.name + SIGNATURE_SUFFIX).open("rb") as file:
            return Signed(content=content, signature=file.read(SIGNATURE_LIMIT + 1))
    except FileNotFoundError:
        return Signed(content=content)


def write_signed(path: Path, document: Signed) -> Path:
    """Write a document after its signature: where the document is, the signature is too."""
    if document.signature is not None:
        write(path.with_name(path.name + SIGNATURE_SUFFIX), document.signature)
    return write(path, document.content)


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Lock a folder of evidence for one drill: others that end at the same time wait.

    Raises:
        OpsError: it is not there, or a file of the block cannot be written.
    """
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    lock = runtime_folder() / f"evidence-{name}.lock"  # not in the folder: all that is in it is published
    try:
        with files.locked(lock):
            yield
    except OSError as error:
        raise OpsError(f"{folder}: the evidence cannot be written: {error.strerror}; give --evidence") from None


def write(path: Path, content: bytes) -> Path:
    """Write a file atomically."""
    atomic_write(path, content, mode=0o644)
    return path
