"""Is the evidence what was written, by a key that is believed, with nothing taken out?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ops.core.errors import KeyProblemError, OpsError
from ops.drill.evidence import series
from ops.drill.evidence.chain import PATTERN, Link, head_path, is_changed, wrong_head
from ops.drill.evidence.document import EVIDENCE_VERSION, Attachment, Evidence, canonical, digest, wrong_signature


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong, with which file."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


@dataclass(kw_only=True)
class Verification:
    """What was found. `heads` maps an environment to its newest sequence number and digest.

    `others` are the documents of drills of others' backups, of a series instead of the chain. `absent` are logs and
    pages that are not here; they can be kept elsewhere, a document says what they must be.
    """

    links: list[Link] = field(default_factory=list[Link])
    others: list[Path] = field(default_factory=list[Path])
    problems: list[Problem] = field(default_factory=list[Problem])
    heads: dict[str, tuple[int, str]] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)

    @property
    def documents(self) -> int:
        """How many were read, of whatever drills."""
        return len(self.links) + len(self.others)


def verify(place: Path, keys: Sequence[str], *, head: str | None = None) -> Verification:
    """Verify a folder of evidence, or one document.

    Args:
        place: a folder, or one document; of one, its neighbours and its place in the chain are not looked at.
        keys: public keys (OpenSSH lines) whose word counts.
        head: the digest that the newest document must have, kept elsewhere.

    Raises:
        OpsError: there is no evidence.
        KeyProblemError: no key is believed.
    """
    if not keys:
        raise KeyProblemError("no key is believed: name the runner's in backup.signers, or give --key")
    found = Verification()
    if place.is_dir():
        for path in sorted(place.glob(PATTERN)):
            _check_document(found, path, keys)
        _check_chains(found, place, keys)
        _check_series(found, place, keys)
        if not (found.links or found.others or found.problems):
            raise OpsError(f"{place}: no evidence there; give the folder that `ops drill --evidence` wrote into")
    elif place.is_file():
        _check_document(found, place, keys)
    else:
        raise OpsError(f"{place}: no such folder or document")
    if head is not None and head not in {sha256 for _, sha256 in found.heads.values()}:
        found.problems.append(Problem(file=str(place), what=f"no chain ends with {head[:16]}…"))
    return found


def _check_document(found: Verification, path: Path, keys: Sequence[str]) -> None:
    if series.is_of_series(path):
        link, problem = None, series.wrong_with(path, keys)
        found.others.append(path)
    else:
        link, problem = _read(path, keys)
    if problem:
        found.problems.append(Problem(file=path.name, what=problem))
    if link is not None:
        found.links.append(link)
        _check_attachments(found, link)


def _read(path: Path, keys: Sequence[str]) -> tuple[Link | None, str]:
    """Return the document, where it is one, and what is wrong with it."""
    try:
        raw = path.read_bytes()
        document: Any = json.loads(raw)
        if not isinstance(document, dict) or canonical(document) != raw:
            return None, "changed: not the bytes that a drill writes"
    except OSError as error:
        return None, f"cannot be read: {error.strerror}"
    except (ValueError, RecursionError) as error:
        return None, f"changed: not JSON: {error}"
    version = document.get("evidence_version")
    if isinstance(version, int) and version != EVIDENCE_VERSION:
        return None, f"evidence of version {version}; these tools read {EVIDENCE_VERSION}"
    try:
        evidence = Evidence.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        return None, f"changed: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    link = Link(path=path, evidence=evidence, sha256=digest(raw))
    return link, wrong_signature(evidence.signed, document, keys)


def _check_attachments(found: Verification, link: Link) -> None:
    def look(attachment: Attachment | None) -> None:
        if attachment is None:
            return
        path = link.path.parent / Path(attachment.file).name
        if not path.exists():
            if attachment.file not in found.absent:
                found.absent.append(attachment.file)
        elif is_changed(path, attachment):
            problem = Problem(file=path.name, what=f"not what {link.path.name} says it is: changed")
            if problem.file not in {known.file for known in found.problems}:
                found.problems.append(problem)

    look(link.evidence.log)
    look(link.evidence.page)


def _check_series(found: Verification, folder: Path, keys: Sequence[str]) -> None:
    for name in series.series_in(folder):
        documents, problems = series.verify(folder, name, keys)
        found.others += documents
        found.problems += [Problem(file=file.name, what=what) for file, what in problems]


def _check_chains(found: Verification, folder: Path, keys: Sequence[str]) -> None:
    environments = {link.evidence.environment for link in found.links}
    environments |= {path.stem.removeprefix("chain-") for path in folder.glob("chain-*.json")}
    for environment in sorted(environments):
        chain = [link for link in found.links if link.evidence.environment == environment]
        chain.sort(key=lambda link: (link.evidence.sequence, link.path.name))
        found.problems += _broken_links(chain)
        found.problems += _wrong_head(head_path(folder, environment), environment, chain, keys)
        if chain:
            found.heads[environment] = (chain[-1].evidence.sequence, chain[-1].sha256)


def _broken_links(chain: Sequence[Link]) -> Iterable[Problem]:
    sequence, previous = 0, None
    for link in chain:
        here = link.evidence
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


def _wrong_head(path: Path, environment: str, chain: Sequence[Link], keys: Sequence[str]) -> Iterable[Problem]:
    head, wrong = wrong_head(path, environment, keys)
    if head is None or wrong:
        yield Problem(file=path.name, what=wrong)
        return
    at = [link for link in chain if link.evidence.sequence == head.sequence]
    if not at:
        yield Problem(file=path.name, what=f"the chain goes to document {head.sequence}, which is missing")
    elif all(link.sha256 != head.sha256 for link in at):
        yield Problem(file=at[0].path.name, what="not the document that the head of the chain names")
