"""`python3 -m host VERB`: one JSON document on stdin, one JSON line on stdout.

Exit codes: 0 done, 1 a command on the droplet failed, 2 the document does not fit, 3 the droplet cannot be reached,
4 `--check` found differences, 130 interrupted.
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

from host.documents import Converge, FirstContact, Grants, Ops, PlanRequest, read_document
from host.errors import HostError

DIFFERENT = 4


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


# The imports are inside: pyinfra and paramiko take a second, and `plan` runs at every preview.


def _first_contact(text: str) -> dict[str, Any]:
    from host.first_contact import first_contact  # noqa: PLC0415 -- see above

    return first_contact(read_document(FirstContact, text))


def _converge(text: str, *, check: bool) -> dict[str, Any]:
    document = read_document(Converge, text)
    from host.converge import converge  # noqa: PLC0415 -- see above

    return converge(document, check=check)


def _ops(text: str, *, check: bool) -> dict[str, Any]:
    document = read_document(Ops, text)
    from host.converge import install_ops  # noqa: PLC0415 -- see above

    return install_ops(document, check=check)


def _grants(text: str) -> dict[str, Any]:
    from host.grants import grant  # noqa: PLC0415 -- see above

    return grant(read_document(Grants, text))


def _plan(text: str) -> dict[str, Any]:
    from host.plan import plan_digests  # noqa: PLC0415 -- see above

    return plan_digests(read_document(PlanRequest, text))


COMMANDS: dict[str, tuple[str, Callable[..., dict[str, Any]], bool]] = {
    "first-contact": ("wait for a new droplet and install its final host key", _first_contact, False),
    "converge": ("converge the droplet to its settings", _converge, True),
    "ops": ("install ops, its documents and its timers", _ops, True),
    "grants": ("give the app's role its rights in its databases", _grants, False),
    "plan": ("print the digests of both plans; no droplet is contacted", _plan, False),
}


def main() -> NoReturn:
    """Read the document, run the command, print its answer."""
    parser = argparse.ArgumentParser(prog="python3 -m host", description="Configure a droplet over SSH.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (summary, _, can_check) in COMMANDS.items():
        verb = commands.add_parser(name, help=summary, description=f"{summary}; one JSON document on stdin.")
        if can_check:
            verb.add_argument(
                "--check",
                action="store_true",
                help=f"print what differs and change nothing; exit {DIFFERENT} if it does",
            )
    arguments = parser.parse_args()
    check: bool = getattr(arguments, "check", False)
    try:
        _, command, can_check = COMMANDS[arguments.command]
        answer = command(sys.stdin.read(), **({"check": check} if can_check else {}))
    except HostError as error:
        _say(f"error: {error}")
        for line in error.detail.splitlines()[-15:]:
            _say(f"  {line}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _say("interrupted; run it again, it goes on from where it was")
        sys.exit(130)
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.exit(DIFFERENT if check and answer["changed"] else 0)


if __name__ == "__main__":
    main()
