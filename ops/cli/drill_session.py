"""Hold the drills of one run, of any kind: keep their evidence, print it, and exit by it."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops.cli.drill_output import caught, print_drills
from ops.core import console
from ops.core.errors import OpsError, VerdictError
from ops.core.signing import Signer
from ops.drill import runner
from ops.drill.context import Drill
from ops.drill.evidence import chain
from ops.drill.evidence.catalogue import Language
from ops.drill.evidence.document import Document
from ops.monitoring.audit import note


@dataclass(kw_only=True)
class Session:
    """The drills of one run, in one series. One that cannot be held does not stop the others: `failures` has why.

    `evidence` is the folder; None prints the documents alone: the caller keeps them.
    """

    evidence: Path | None
    signer: Signer | None
    language: Language
    as_json: bool
    allow_partial: bool = False
    made: list[Document] = field(default_factory=list[Document])
    log: list[str] = field(default_factory=list[str])
    failures: list[str] = field(default_factory=list[str])
    left: Sequence[str] = ()
    """The backup set being drilled, then those still to be drilled."""

    def note(self, text: str) -> None:
        """Report a step, and add it to the log."""
        console.step(text)
        self.log.append(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z {text}")

    def hold(self, drill: Drill) -> Document:
        """Hold one drill.

        Raises:
            OpsError: see `ops.drill.runner.run`.
        """
        return self.add(runner.run(drill, self.note, meter=console.progress))

    def add(self, result: Document) -> Document:
        """Add the document of a drill."""
        for check in result.checks:
            self.log.append(f"  {check.status} {check.name}: {'; '.join([check.answer, *check.problems])}")
        self.made.append(result)
        return result

    @contextmanager
    def kept(self) -> Generator[None]:
        """Keep what the block has made, and print it if the block ended; after an interrupt too, red stays red.

        Raises:
            OpsError: the evidence folder cannot be written.
        """
        try:
            yield
        finally:
            if self.made:
                self._keep()

    def _keep(self) -> None:
        if self.left:
            rest = f"; not drilled: {', '.join(self.left[1:])}" if self.left[1:] else ""
            self.note(f"interrupted at {self.left[0]}{rest}")
        drills = [made.backup for made in self.made if made.damage is None]
        note(backups=drills)
        if self.evidence is None:
            _print_json([made.model_dump(mode="json") for made in self.made])
            return
        log = "".join(f"{line}\n" for line in self.log)
        links, page = chain.append(self.evidence, self.made, signer=self.signer, language=self.language, log=log)
        note(evidence=page.name)
        if self.left:
            console.step(f"evidence so far: {page}")
        elif self.as_json:
            _print_json([json.loads(link.stored.content) for link in links])
        else:
            print_drills(self.made, page, signed=self.signer is not None)

    def judge(self) -> None:
        """Raise an error if a drill failed.

        Raises:
            VerdictError: a drill is red or in part, or a negative control was not detected.
            OpsError: a drill could not be run.
        """
        drills = [each for each in self.made if each.damage is None]
        controls = [each for each in self.made if each.damage is not None]
        if unseen := [each for each in controls if not caught(each)]:
            what = ", ".join(f"{each.damage} of {each.backup}" for each in unseen)
            raise VerdictError(f"damage was NOT detected, so drills prove nothing: {what}")
        if red := [f"drill of {each.subject} is red: {each.summary()}" for each in drills if each.verdict == "red"]:
            raise VerdictError(" — ".join([*red, *self.failures]))
        if self.failures:
            raise OpsError("; ".join(self.failures))
        in_part = [
            f"drill of {each.subject} restored in part, without {', '.join(item.what for item in each.skipped)}"
            for each in drills
            if each.verdict == "in part"
        ]
        if in_part and not self.allow_partial:
            raise VerdictError(" — ".join(in_part))
        if controls and not drills:
            only = controls[0]
            raise VerdictError(f"negative control {only.damage} of {only.backup}: {only.summary()}")


def _print_json(documents: list[Any]) -> None:
    console.print_json(documents[0] if len(documents) == 1 else documents)
