"""Take a plan to a droplet, by pyinfra over one pinned connection: compare, or converge and count the changes.

Killed at any point it is simply run again: every step looks first, and what a service runs with is remembered.
"""

from __future__ import annotations

import contextlib
import logging
import re
import shlex
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import unified_diff
from pathlib import Path
from typing import Any

from pyinfra.api.command import FileUploadCommand, StringCommand
from pyinfra.api.config import Config
from pyinfra.api.connect import connect_all, disconnect_all
from pyinfra.api.deploy import add_deploy
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.facts import FactBase
from pyinfra.api.inventory import Inventory
from pyinfra.api.operation import operation
from pyinfra.api.operations import run_ops
from pyinfra.api.state import BaseStateCallback, State, StateStage
from pyinfra.context import ctx_host, ctx_state
from pyinfra.context import host as target
from typing_extensions import override

from host.bases import Base, base_named
from host.concerns.firewall import lets_in
from host.connection import Connection, connect, say
from host.documents import Converge, Document, Ops, private_key, revealed, secrets_of
from host.errors import ConvergeError, HostError
from host.look import Questions, Seen, parse_seen
from host.plan import Plan, build_ops_plan, build_plan
from host.steps import Step

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_RELEASE = Questions(scripts={"release": '. /etc/os-release && printf "%s\\n" "$ID" "$VERSION_ID" "$VERSION_CODENAME"'})


class Look(FactBase[Seen]):
    """The answers to questions, from one command."""

    @override
    def command(self, questions: Questions) -> str:
        """Return the shell script."""
        self._questions = questions
        return questions.script()

    @override
    def process(self, output: Iterable[str]) -> Seen:
        """Read what it printed."""
        return parse_seen(self._questions, output)


@dataclass
class Eyes:
    """Look at everything at once, and again only after something has changed."""

    questions: Questions
    _seen: Seen | None = field(default=None, init=False)

    def seen(self) -> Seen:
        """Return the state of the droplet."""
        if self._seen is None:
            self._seen = target.get_fact(Look, questions=self.questions)
        return self._seen

    def forget(self) -> None:
        """Look again before the next answer."""
        self._seen = None


@operation()
def _take(step: Step, eyes: Eyes) -> Generator[Any, Any, None]:
    """Take one step."""
    commands = step.change(eyes.seen()).commands
    if not commands:
        target.noop("nothing to do")
        return
    eyes.forget()
    for command in commands:
        if command.upload:
            source, path = command.upload
            yield FileUploadCommand(str(source), path, remote_temp_filename=target.get_temp_filename(path))
        if command.stdin is None:
            yield StringCommand(command.script)
        else:
            # sent as it is but for one newline at its end
            yield StringCommand(command.script, _stdin=command.stdin)


def converge(document: Converge, *, check: bool = False) -> dict[str, int]:
    """Converge the droplet to its settings.

    Returns:
        {"operations": their number, "changed": how many changed something}; with `check`, how many would.

    Raises:
        UnreachableError: no login.
        ConvergeError: an operation failed; the message names it, the detail is the droplet's output.
    """
    return _run(document, lambda base: build_plan(document.machine, base), check=check)


def install_ops(document: Ops, *, check: bool = False) -> dict[str, int]:
    """Converge ops on the droplet: its code, its documents and its timers. Returns and raises as `converge` does."""
    outputs, secrets = document.outputs.model_dump(mode="json"), revealed(document.secrets)
    return _run(document, lambda base: build_ops_plan(base, document.timers, outputs, secrets), check=check)


def _run(document: Converge | Ops, build: Callable[[Base], Plan], *, check: bool) -> dict[str, int]:
    started = time.monotonic()
    with connect(document, wait=120) as way_back, _pyinfra(document) as (state, log):
        where = way_back.where
        if isinstance(document, Converge):
            _refuse_to_lock_out(document.machine.firewall.ssh_sources, way_back)
        with _at_target(state):
            plan = build(_base(target.get_fact(Look, questions=_RELEASE)))
        if check:
            with _at_target(state):
                return _compare(plan, where)
        add_deploy(state, _deploy, plan)
        state.add_callback_handler(_progress(where))
        state.set_stage(StateStage.Execute)
        failed = ""
        try:
            run_ops(state)
        except PyinfraError:
            failed = f"{where}: {_failed(state)} failed; nothing after it was done"
        # Also after a failure: it may have come between a change of sshd and the proof that one can log in.
        touched = [step for step, key in zip(plan.steps, state.op_meta, strict=True) if _touched(state, key)]
        if touched:
            _prove_login(document, way_back, touched, failed)
        if failed:
            raise ConvergeError(failed, log.text())
        operations = [data.operation_meta for data in next(iter(state.ops.values())).values()]
        changed = sum(meta.did_change() for meta in operations)
    say(f"{where}: {len(operations)} operations, {changed} changed, {time.monotonic() - started:.1f} s")
    return {"operations": len(operations), "changed": changed}


def _deploy(plan: Plan) -> None:
    eyes = Eyes(plan.questions())
    for step in plan.steps:
        _take(name=step.name, step=step, eyes=eyes)


def _compare(plan: Plan, where: str) -> dict[str, int]:
    """Print each difference, and change nothing."""
    seen = target.get_fact(Look, questions=plan.questions())
    changes = [(step, step.change(seen)) for step in plan.steps]
    differing = [(step, change) for step, change in changes if change.commands]
    edited = [file for step, _ in differing for file in step.edited(seen)]
    texts = target.get_fact(
        Look, questions=Questions(scripts={file.path: f"cat {shlex.quote(file.path)}" for file in edited})
    )
    for step, change in differing:
        for difference in change.differences:
            say(f"{where}: {step.name}: {difference}")
        for file in step.edited(seen):
            for line in unified_diff(
                texts.lines[file.path], file.content.splitlines(), file.path, f"{file.path} (wanted)", lineterm="", n=1
            ):
                say(f"  {line}")
    say(f"{where}: {len(changes)} operations, {len(differing)} would change something; nothing was changed")
    return {"operations": len(changes), "changed": len(differing)}


def _base(seen: Seen) -> Base:
    name, version, codename = (*seen.lines["release"], "", "", "")[:3]
    return base_named(name, version, codename)


@contextmanager
def _at_target(state: State) -> Generator[None]:
    """Let facts be read outside of an operation."""
    with ctx_state.use(state), ctx_host.use(next(iter(state.inventory))):
        yield


@contextmanager
def _pyinfra(document: Document) -> Generator[tuple[State, _Log]]:
    """Yield a connected pyinfra state: the key in memory, the host key pinned, no user configuration read."""
    log = _Log(document)
    logger = logging.getLogger("pyinfra")
    logger.propagate = False
    logger.addHandler(log)
    with tempfile.TemporaryDirectory(prefix="ancla-") as folder:
        known = Path(folder, "known_hosts")  # public keys only
        name = document.address if document.port == 22 else f"[{document.address}]:{document.port}"
        known.write_text(f"{name} {' '.join(document.host_key.split()[:2])}\n")
        data = {
            "ssh_port": document.port,
            "ssh_user": document.user,
            "ssh_allow_agent": False,
            "ssh_look_for_keys": False,
            "ssh_config_file": str(Path(folder, "no-config")),
            "ssh_known_hosts_file": str(known),
            "ssh_strict_host_key_checking": "yes",
            "ssh_paramiko_connect_kwargs": {"pkey": private_key(document.deploy_key, "deploy_key")},
        }
        inventory = Inventory(([(document.address, data)], {}))
        # No check for changes ahead: each operation looks at its turn, when what an earlier one makes is there.
        state = State(inventory, Config(SUDO=True, CONNECT_TIMEOUT=15), check_for_changes=False)
        state.set_stage(StateStage.Connect)
        try:
            try:
                connect_all(state)
            except PyinfraError:
                raise ConvergeError(f"{document.address}: pyinfra could not log in", log.text()) from None
            state.set_stage(StateStage.Prepare)
            yield state, log
        finally:
            disconnect_all(state)
            logger.removeHandler(log)


def _refuse_to_lock_out(sources: Sequence[str], way_back: Connection) -> None:
    source = way_back.check('printf %s "${SSH_CONNECTION%% *}"', "asking where we come from")
    if source and not lets_in(sources, source):
        raise ConvergeError(
            f"{way_back.where}: you connect from {source}, which is not in access.sshFrom ({', '.join(sources)}). "
            f"Continuing would lock you out; add {source} to access.sshFrom"
        )


def _prove_login(document: Document, way_back: Connection, touched: Sequence[Step], failed: str) -> None:
    """Log in again. If that fails, undo over the open connection every step that may have locked us out.

    Raises:
        ConvergeError: no login; the message names what was put back.
    """
    try:
        connect(document, wait=20).__exit__(None, None, None)
    except HostError as error:
        undone: list[str] = []
        for step in reversed(touched):
            if script := step.way_back():
                way_back.check(script, f"undoing {step.name}", sudo=True)
                undone.append(step.name)
        done = f"put back as before: {'; '.join(undone)}" if undone else "nothing was changed that guards a login"
        with contextlib.suppress(HostError):
            connect(document, wait=20).__exit__(None, None, None)
            done += "; a login works again"
        prefix = f"{failed}. " if failed else ""
        raise ConvergeError(f"{prefix}After the change no new login worked ({error}); {done}") from None


def _touched(state: State, key: str) -> bool:
    """Return True if the operation sent at least one command."""
    meta = next(iter(state.ops.values()))[key].operation_meta
    return meta.is_complete() and meta.executed


def _failed(state: State) -> str:
    for ops_of_host in state.ops.values():
        for key, data in ops_of_host.items():
            if data.operation_meta.is_complete() and not data.operation_meta.did_succeed():
                return ", ".join(sorted(state.get_op_meta(key).names))
    return "an operation"


def _progress(where: str) -> BaseStateCallback:
    """Return a callback that writes one line for each operation that changed something."""
    since = [time.monotonic()]

    class Progress(BaseStateCallback):
        @staticmethod
        @override
        def operation_end(state: State, op_hash: Any) -> None:
            started, since[0] = since[0], time.monotonic()
            for data in (found[op_hash] for found in state.ops.values() if op_hash in found):
                if data.operation_meta.is_complete() and data.operation_meta.did_change():
                    name = ", ".join(sorted(state.get_op_meta(op_hash).names))
                    say(f"{where}: {name}: changed ({since[0] - started:.1f} s)")

    return Progress()


class _Log(logging.Handler):
    """Return pyinfra's last error lines, without any secret of the document."""

    def __init__(self, document: Document) -> None:
        super().__init__(logging.WARNING)
        self._lines: deque[str] = deque(maxlen=15)
        self._secrets = sorted(set(secrets_of(document)), key=len, reverse=True)

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self._lines += _ESCAPES.sub("", record.getMessage()).strip().splitlines()

    def text(self) -> str:
        """Return the lines, secrets replaced."""
        text = "\n".join(self._lines)
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        return text
