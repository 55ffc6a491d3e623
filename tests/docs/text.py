"""What the documentation says: its verbs, its commands and its links, as a reader would take them from the page."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ops.cli.app import app as ops_app
from ops.cli.lazy_commands import in_full
from policy.cli import app as policy_app
from sandbox.cli import app as sandbox_app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PROGRAMS = {"ops": ops_app, "sandbox": sandbox_app, "policy": policy_app}
_FENCE = re.compile(r"^( *)```[a-z]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
# `[` opens what may be left out, as in a usage line; everything after a shell operator is another command.
_OPERATOR = re.compile(r"&&|\|\||[|;<>)]|\s#|\s\[")
_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Mention:
    """A command as a page writes it."""

    page: str
    program: str
    words: tuple[str, ...]


def fenced_and_spans(text: str) -> Iterator[str]:
    """Yield every line of code blocks, and every code span."""
    for _, block in _FENCE.findall(text):
        yield from block.replace("\\\n", " ").splitlines()
    yield from _SPAN.findall(_FENCE.sub("", text))


def mentions(page: str, text: str) -> Iterator[Mention]:
    """Yield `python -m PROGRAM …`, `ops …` and `sudo ops …` of our own programs."""
    for code in fenced_and_spans(text):
        for piece in re.split(r"&&|\||;|\$\(", code):
            found = re.match(r"\W*(?:sudo )?(?:python3? -m )?(ops|sandbox|policy)\b(?![./-])(.*)", piece.strip())
            if found is None or (found[1] != "ops" and " -m " not in f" {piece}"):
                continue
            rest = _OPERATOR.split(found[2])[0].rstrip(":,. ").replace("…", "")
            yield Mention(page, found[1], tuple(shlex.split(rest)))


def unknown_in(mention: Mention) -> str | None:
    """Return what of the command does not exist, or None.

    Options of the deepest command named are checked by their names; values and arguments are not.
    """
    command = _command(mention.program)
    words = list(mention.words)
    # By what they have, not by their class: typer brings a click of its own.
    while (commands := getattr(command, "commands", None)) and words and not words[0].startswith("-"):
        name = words.pop(0)
        found = commands.get(name)
        if found is None and name.isupper():
            return None  # VERB stands for any
        if found is None:
            return f"{mention.program} has no command {name!r}"
        command = found
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    known |= {"--help", *command.context_settings.get("help_option_names", ())}
    return next((f"{command.name} has no option {word}" for word in words if _is_option(word, known)), None)


def _is_option(word: str, known: set[str]) -> bool:
    return word.startswith("-") and word.partition("=")[0] not in known


@cache
def _command(program: str) -> Any:
    return in_full(PROGRAMS[program])


def make_verbs_of(text: str) -> set[str]:
    """Return the verbs that a page tells to `make`."""
    return {verb for code in fenced_and_spans(text) for verb in re.findall(r"\bmake ([a-z][a-z-]*)\b", code)}


def targets_of(makefile: str) -> set[str]:
    """Return the targets that have a line of help."""
    return set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))


def broken_links(page: Path, text: str) -> list[str]:
    """Return the relative links of a page that lead nowhere."""
    broken: list[str] = []
    for match in _LINK.finditer(_FENCE.sub("", text)):
        link = match[1] or match[2]
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = page.parent / path if path else page
        text_of_target = target.read_text() if path.endswith(".md") and target.exists() else text
        if not target.exists() or (anchor and anchor not in _anchors(text_of_target)):
            broken.append(link)
    return broken


def _anchors(text: str) -> set[str]:
    titles = (re.sub(r"[^\w\- ]", "", title.lower()) for title in _HEADING.findall(_FENCE.sub("", text)))
    return {title.strip().replace(" ", "-") for title in titles}
