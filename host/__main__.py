"""`python3 -m host first-contact|converge|grants`: one JSON document on stdin, one JSON line on stdout.

Exit codes: 0 done, 1 a command on the droplet failed, 2 the document does not fit, 3 the droplet cannot be reached,
130 interrupted.
"""

# ruff: noqa: E402 -- gevent must patch the standard library before anything else takes a lock or a socket of it

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from host.connection import say
from host.converge import converge
from host.documents import Converge, FirstContact, Grants, read_document
from host.errors import HostError
from host.first_contact import first_contact
from host.grants import grant

COMMANDS: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "first-contact": (
        "wait for a new droplet and install its final host key",
        lambda text: first_contact(read_document(FirstContact, text)),
    ),
    "converge": (
        "converge the droplet to the document",
        lambda text: converge(read_document(Converge, text)),
    ),
    "grants": (
        "give the app's role its rights in its databases",
        lambda text: grant(read_document(Grants, text)),
    ),
}


def main() -> NoReturn:
    """Read the document, run the command, print its answer."""
    parser = argparse.ArgumentParser(prog="python3 -m host", description="Configure a droplet over SSH.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (summary, _) in COMMANDS.items():
        commands.add_parser(name, help=summary, description=f"{summary}; one JSON document on stdin.")
    command = parser.parse_args().command
    try:
        answer = COMMANDS[command][1](sys.stdin.read())
    except HostError as error:
        say(f"error: {error}")
        for line in error.detail.splitlines()[-15:]:
            say(f"  {line}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say("interrupted; run it again, it goes on from where it was")
        sys.exit(130)
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.exit(0)


if __name__ == "__main__":
    main()
