"""Commands of this machine: what they get, what they say, what stays hidden, and that they end with the engine."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from sandbox.plugins.command import Command
from sandbox.plugins.errors import ProviderError
from sandbox.plugins.globs import matching
from sandbox.plugins.provider import Asked
from sandbox.plugins.values import UNKNOWN, Secret

URN = "urn:pulumi:dev::test::command:local:Command::said"


def create(**inputs: Any) -> dict[str, Any]:
    return Command().create(Asked(urn=URN, inputs=inputs))[1]


def test_a_command_gets_its_folder_its_variables_and_its_stdin(tmp_path: Path) -> None:
    state = create(create="pwd; echo $A; cat", dir=str(tmp_path), environment={"A": "1"}, stdin="in\n")
    assert state["stdout"].splitlines() == [str(tmp_path), "1", "in"]


def test_the_last_line_end_is_taken_off_once() -> None:
    assert create(create="printf 'a\\n\\n'")["stdout"] == "a\n"


def test_the_state_has_the_inputs_as_they_were_given() -> None:
    state = create(create="true", stdin=Secret("canary"))
    assert state["create"] == "true"
    assert state["stdin"] == Secret("canary")


def test_what_a_command_says_is_no_secret_by_itself() -> None:
    """As with the official plugin: additionalSecretOutputs is the way to say that it is."""
    assert create(create="cat", stdin=Secret("canary"))["stdout"] == "canary"


def test_an_interpreter_of_ones_own() -> None:
    assert create(create="print(1 + 1)", interpreter=["python3", "-c"])["stdout"] == "2"


def test_an_update_gets_what_was_said_before() -> None:
    state = {"create": "echo 1", "stdout": "before", "stderr": "warned"}
    inputs = {"update": 'echo "$PULUMI_COMMAND_STDOUT $PULUMI_COMMAND_STDERR"'}
    assert Command().update(Asked(urn=URN, state=state, inputs=inputs))["stdout"] == "before warned"
    quiet = inputs | {"addPreviousOutputInEnv": False}
    assert Command().update(Asked(urn=URN, state=state, inputs=quiet))["stdout"] == " "


def test_without_update_create_runs_again() -> None:
    assert Command().update(Asked(urn=URN, state={}, inputs={"create": "echo again"}))["stdout"] == "again"


def test_delete_runs_delete(tmp_path: Path) -> None:
    Command().delete(Asked(urn=URN, state={"delete": f"touch {tmp_path}/gone"}))
    assert (tmp_path / "gone").exists()


def test_only_triggers_replace() -> None:
    old = {"create": "a", "triggers": [1]}
    assert Command().diff(Asked(urn=URN, old=old, inputs=old | {"triggers": [2]})).changes == {"triggers": ("~", True)}
    assert Command().diff(Asked(urn=URN, old=old, inputs=old | {"create": "b"})).changes == {"create": ("~", False)}
    assert Command().diff(Asked(urn=URN, old=old, inputs=old)).changes == {}


def test_a_secret_is_compared_by_its_value() -> None:
    old = {"create": "a", "stdin": "x"}
    assert Command().diff(Asked(urn=URN, old=old, inputs=old | {"stdin": Secret("x")})).changes == {}
    assert Command().diff(Asked(urn=URN, old=old, inputs=old | {"stdin": Secret("y")})).changes


def test_what_is_not_known_yet_is_a_change() -> None:
    asked = Asked(urn=URN, old={"triggers": [1]}, inputs={"triggers": [UNKNOWN]})
    assert Command().diff(asked).changes == {"triggers": ("~", True)}


def test_a_preview_waits_for_what_the_run_says() -> None:
    state = Command().preview_create(Asked(urn=URN, inputs={"create": "a", "assetPaths": ["*"]}))
    assert state == {"create": "a", "assetPaths": ["*"], "stdout": UNKNOWN, "stderr": UNKNOWN, "assets": UNKNOWN}


def test_a_failure_says_the_command_and_its_words_and_not_what_it_was_given() -> None:
    with pytest.raises(ProviderError) as caught:
        create(
            create="cat >/dev/null; echo out; echo err >&2; exit 7",
            stdin=Secret("canary-in"),
            environment={"A": Secret("canary-env")},
        )
    message = str(caught.value)
    assert message.startswith('exit status 7: running "cat >/dev/null;')
    assert {"out", "err"} <= set(message.splitlines())
    assert "canary" not in message


def test_a_leak_of_the_command_s_own_is_seen() -> None:
    """The control of the test above: what a command prints is in the error."""
    with pytest.raises(ProviderError, match="canary-in"):
        create(create="cat; exit 1", stdin=Secret("canary-in"))


def test_an_absent_interpreter_or_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="No such file or directory: no-such-program") as caught:
        create(create="x", interpreter=["no-such-program"])
    assert "\n" not in str(caught.value)
    with pytest.raises(ProviderError, match="No such file or directory"):
        create(create="x", dir=str(tmp_path / "none"))


def test_cancelling_ends_the_command_and_its_children(tmp_path: Path) -> None:
    provider, pid = Command(), tmp_path / "pid"
    failure: list[BaseException] = []

    def run() -> None:
        try:
            provider.create(Asked(urn=URN, inputs={"create": f"sleep 60 & echo $! > {pid}; wait"}))
        except ProviderError as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    end = time.monotonic() + 40
    while not (pid.exists() and pid.read_text().strip()):
        assert time.monotonic() < end
        time.sleep(0.01)
    child = int(pid.read_text())
    os.kill(child, 0)
    provider.cancel()
    thread.join(30)
    assert not thread.is_alive()
    assert "SIGKILL" in str(failure[0])
    while _runs(child):
        assert time.monotonic() < end
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # the latter: it went between the opening and the reading
        return False


def test_a_timeout_ends_the_command() -> None:
    with pytest.raises(ProviderError, match="SIGKILL"):
        Command().create(Asked(urn=URN, inputs={"create": "sleep 60"}, timeout=0.2))


@pytest.mark.parametrize("token", ["command:remote:Command", "command:remote:CopyToRemote"])
def test_commands_elsewhere_are_refused_by_name(token: str) -> None:
    urn = URN.replace("command:local:Command", token)
    with pytest.raises(ProviderError, match=token):
        Command().check(Asked(urn=urn, inputs={}), lambda _: "")


def test_what_is_wrong_is_named() -> None:
    inputs = {"logging": "loud", "stdin": Secret(["canary"]), "colour": "red", "create": "ok"}
    failures = Command().check(Asked(urn=URN, inputs=inputs), lambda _: "").failures
    told = dict(failures)
    assert "expected one of stdout" in told["logging"]
    assert told["colour"] == "is not a property of a command"
    # the engine prints the value of a property it is told about: a secret one is named in the words alone
    assert told[""].startswith("stdin: expected")
    assert "stdin" not in told
    assert "canary" not in str(failures)


def test_a_function_runs_a_command() -> None:
    assert Command().invoke("command:local:run", {"command": "echo $A", "environment": {"A": "1"}})["stdout"] == "1"


def test_assets_are_the_files_that_match(tmp_path: Path) -> None:
    for path in ("assets/logos/logo.svg", "src/index.js", "src/secret.js", "src/deep/more.js"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert matching(tmp_path, ["assets/**", "src/*.js", "!**secret.*"]) == ["assets/logos/logo.svg", "src/index.js"]
    state = create(create="true", dir=str(tmp_path), assetPaths=["src/*.js"], archivePaths=["assets/**"])
    assert set(state["assets"]) == {"src/index.js", "src/secret.js"}
    assert set(state["archive"]["assets"]) == {"assets/logos/logo.svg"}
