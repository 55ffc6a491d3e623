"""Keep the answers: a JSON document and a page of the same name, written after each answer."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from ops.core.errors import OpsError
from ops.core.files import atomic_write

FAILURES = (OpsError, ClientError, BotoCoreError, httpx.HTTPError, OSError, subprocess.SubprocessError, KeyError)
"""What an account, a network or a machine may answer instead. None of it ends the hour."""
MARKS = {True: "as relied on", False: "OTHERWISE", None: "look"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer. `holds` says whether it is what the program relies on; None: a person has to look at it."""

    item: str
    question: str
    relied_on: str
    answer: str
    holds: bool | None
    at: str


@dataclass(kw_only=True)
class Notebook:
    """The answers so far, and the two files that have them. `say` prints a line."""

    folder: Path
    address: str
    say: Callable[[str], None]
    answers: list[Answer] = field(default_factory=list[Answer])
    left: list[str] = field(default_factory=list[str])
    begun: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def file(self) -> Path:
        """The document; the page is beside it."""
        return self.folder / f"{self.begun:%Y-%m-%dT%H%M%SZ}.json"

    def ask(self, item: str, question: str, relied_on: str, look: Callable[[], tuple[bool | None, object]]) -> object:
        """Look, and note what is found; return it, or None if there was no answer.

        Args:
            item: the point of the review that asks, such as C1.
            question: in words.
            relied_on: the answer that the program relies on.
            look: returns whether that holds, and the answer.
        """
        found: object = None
        try:
            holds, found = look()
            text = found if isinstance(found, str) else json.dumps(found, default=str)
        except FAILURES as error:
            holds, text = None, f"no answer: {' '.join(f'{type(error).__name__}: {error}'.split())[:300]}"
        at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        answer = Answer(item=item, question=question, relied_on=relied_on, answer=text, holds=holds, at=at)
        self.answers.append(answer)
        self.say(f"{MARKS[holds]}: {item} {question} {text}")
        self.write()
        return found

    def remove(self, what: str, remove: Callable[[], Any]) -> None:
        """Remove what was made for a question; note it as left if it cannot be removed."""
        try:
            remove()
        except FAILURES as error:
            self.left.append(f"{what}: {' '.join(str(error).split())[:200]}")
            self.say(f"LEFT, and may cost money: {self.left[-1]}")
            self.write()

    def write(self) -> None:
        """Write both files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        begun = f"{self.begun:%Y-%m-%dT%H:%M:%SZ}"
        document = {"api": self.address, "begun": begun, "answers": list(map(asdict, self.answers)), "left": self.left}
        atomic_write(self.file, (json.dumps(document, indent=2) + "\n").encode(), mode=0o644)
        lines = [f"# The first hour, {self.begun:%Y-%m-%d}", "", f"Asked of {self.address}, begun {begun}.", ""]
        lines += ["| | question | relied on | answer | |", "| --- | --- | --- | --- | --- |"]
        for each in self.answers:
            cells = (each.item, each.question, each.relied_on, each.answer, MARKS[each.holds])
            lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
        lines += ["", *(f"- **Left**: {each}" for each in self.left)]
        atomic_write(self.file.with_suffix(".md"), ("\n".join(lines).rstrip() + "\n").encode(), mode=0o644)
