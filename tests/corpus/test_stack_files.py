"""Odd stack files: each is taken, or refused with a line that says what, where and what to do; and the engine agrees.

A file of `stack_files/` has what it changes of `Pulumi.prod.yaml`, below comments with what must be said of it:
`valid`, `not built: …`, or parts of the refusals (`NOT …` for what they must not have).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from blueprint.pulumi_config import SettingsError, load_stack_file
from blueprint.settings.built import Verdict, not_built
from blueprint.stack_file import StackFileError, read_stack_file

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((Path(__file__).parent / "stack_files").glob("*.yaml"))
SEED = int(os.environ.get("ANCLA_SEED", "20261130"))
_BLOCK = re.compile(r"^  ancla:(\w+):.*?(?=^  ancla:|\Z)", re.MULTILINE | re.DOTALL)


def whole(path: Path, folder: Path) -> Path:
    """The stack file that prod's would be with what this file says."""
    said = path.read_text()
    changed = set(re.findall(r"^ancla:(\w+):", said, re.MULTILINE))
    base = _BLOCK.sub(lambda block: "" if block[1] in changed else block[0], (ROOT / "Pulumi.prod.yaml").read_text())
    lines = [line if line.startswith(("---", "#")) else f"  {line}" for line in said.splitlines()]
    if "---" in lines:
        lines[lines.index("---") + 1] = "config: {}"
    made = folder / "Pulumi.prod.yaml"
    made.write_text(base.rstrip("\n") + "\n" + "\n".join(lines) + "\n")
    return made


def refused(file: Path) -> list[str]:
    """What the file asks for and is refused for; prod itself has keys that are not in effect yet."""
    found = not_built(load_stack_file(file, environ={}))
    return [str(one) for one in found if one.verdict is Verdict.REFUSED]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_said_of_an_odd_stack_file(path: Path, tmp_path: Path):
    expected = re.findall(r"^# (.*)$", path.read_text(), re.MULTILINE)
    assert expected
    file = whole(path, tmp_path)
    if expected == ["valid"]:
        assert not refused(file)
        return
    if expected[0].startswith("not built: "):
        assert refused(file) == [expected[0].removeprefix("not built: ")]
        return

    with pytest.raises(SettingsError) as caught:
        load_stack_file(file, environ={})

    told = re.sub(r", line \d+:", ":", str(caught.value))
    for part in expected:
        if part.startswith("NOT "):
            assert part.removeprefix("NOT ") not in told
        else:
            assert re.sub(r", line \d+:", ":", part) in told
    assert "^" not in told, "a person reads no pattern"


# --- the engine ------------------------------------------------------------------------------------------------------

SCALARS: list[str] = json.loads((Path(__file__).parent / "stack_files" / "scalars.json").read_text())
_ALPHABET = st.sampled_from("0123456789+-_.:eExXoObBaAfFnNyYtTZ~=<>!&*|%@`'\"\\#,[]{}? \t\n/éß日\u0085\u2028\ufeff\x07")
_LINES = st.text(st.sampled_from("ab \t\n\r#:-'\"\\|>"), max_size=10).map(json.dumps)
SCALAR = st.one_of(
    st.sampled_from(SCALARS),
    st.text(_ALPHABET, max_size=12),
    st.text(max_size=8),
    _LINES,
    st.text(max_size=6).map(json.dumps),
)


def as_file(folder: Path, scalars: list[str]) -> Path:
    """A file with each of these by itself at the top, in a list and in a mapping."""
    path = folder / "Pulumi.t.yaml"
    lines = ["config:"]
    for number, scalar in enumerate(scalars):
        lines += [
            f"  ancla:t{number}: {scalar}",
            f"  ancla:l{number}:",
            f"    - {scalar}",
            f"  ancla:m{number}:",
            f"    k: {scalar}",
        ]
    path.write_bytes(("\n".join(lines) + "\n").encode("utf-8", "surrogatepass"))
    return path


class Engine:
    """The engine's own reading of a stack file."""

    def __init__(self, folder: Path, stack: str = "t") -> None:
        self.folder, self.stack = folder, stack
        (folder / "state").mkdir()
        (folder / "Pulumi.yaml").write_text("name: ancla\nruntime: { name: python }\n")
        self.environment = {
            **os.environ,
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "x",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }
        self.run("stack", "init", stack)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["pulumi", *arguments, "--non-interactive"],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def read(self) -> dict[str, Any] | None:
        """What a program would be given, by key; None where the engine takes the file for no stack file."""
        done = self.run("config", "--json", "--stack", self.stack)
        if done.returncode:
            return None
        found = json.loads(done.stdout)
        return {key.removeprefix("ancla:"): item.get("objectValue", item["value"]) for key, item in found.items()}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(tmp_path_factory.mktemp("engine"))


@pytest.mark.engine
def test_the_engine_sets_a_key_of_a_service_by_its_name(tmp_path: Path):
    """What CI does with each build; the rest of the file stays as it was."""
    file = tmp_path / "Pulumi.staging.yaml"
    engine = Engine(tmp_path, "staging")
    file.write_text((ROOT / file.name).read_text())
    before = load_stack_file(file, environ={})
    for path, value in (("api.image", "api:1.3.0"), ("api.instances", "2"), ("web.user", "1000"), ("web.cpus", "0.5")):
        done = engine.run("config", "set", "--stack", "staging", "--path", f"ancla:services.{path}", value)
        assert done.returncode == 0, done.stderr

    after = load_stack_file(file, environ={})
    api, web = after.services["api"], after.services["web"]
    assert (api.image, api.instances.min, web.user, web.cpus) == ("api:1.3.0", 2, "1000", 0.5)
    assert after.model_copy(update={"services": before.services}) == before
    assert (
        api.model_copy(update={"image": "api:1.0.0", "instances": before.services["api"].instances})
        == (before.services["api"])
    )


def taken(folder: Path, scalar: str) -> bool:
    """Return True if we take a file with this scalar; what we refuse is refused without a traceback."""
    try:
        read_stack_file(as_file(folder, [scalar]))
    except StackFileError as error:
        return not error.problems
    return True


def agree(engine: Engine, scalars: list[str]) -> int:
    """Compare our reading of these with the engine's; return how many there were to compare."""
    wanted = [scalar for scalar in scalars if taken(engine.folder, scalar)]
    ours = read_stack_file(as_file(engine.folder, wanted)) if wanted else {}
    theirs = engine.read() if wanted else {}
    assert theirs is not None, f"the engine refuses one of {wanted}"
    for key, value in ours.items():
        # a value by itself is handed on as text
        expected = (json.dumps(value) if not isinstance(value, str) else value) if key[0] == "t" else value
        if key[0] == "t" and isinstance(value, dict | list):
            expected = value
        assert theirs[key] == expected, (key, scalars, wanted[int(key[1:])])
    return len(wanted)


@pytest.mark.engine
def test_engine_and_file_read_one_value_or_the_file_is_refused(engine: Engine):
    compared = agree(engine, SCALARS)

    assert compared > len(SCALARS) // 4, "nearly everything is refused: nothing was compared"


def try_scalars(engine: Engine, files: int) -> None:
    counts: list[int] = []

    @seed(SEED)
    @settings(
        max_examples=files,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # each try starts the engine: a failure is shown as it was drawn
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(SCALAR, min_size=20, max_size=30))
    def check(scalars: list[str]) -> None:
        counts.append(agree(engine, scalars))

    check()
    print(f"{sum(counts)} scalars in {len(counts)} files compared (ANCLA_SEED={SEED})")
    assert sum(counts) > 2 * files


@pytest.mark.engine
def test_of_any_scalar_engine_and_file_read_one_value_or_it_is_refused(engine: Engine):
    try_scalars(engine, 4)


@pytest.mark.engine
@pytest.mark.all
def test_of_thousands_of_scalars_engine_and_file_read_one_value_or_each_is_refused(engine: Engine):
    try_scalars(engine, 100)


@seed(SEED)
@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.text(_ALPHABET, max_size=60))
def test_no_text_ends_in_a_traceback(tmp_path: Path, text: str):
    path = tmp_path / "Pulumi.t.yaml"
    path.write_text(f"config:\n  ancla:a: {text}")
    for content in (f"config:\n  ancla:a: {text}", text):
        path.write_text(content)
        with contextlib.suppress(StackFileError):
            read_stack_file(path)
