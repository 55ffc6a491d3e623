"""What a machine gets: packages, keys, ops' own sources."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr

from host.concerns.docker import local_compose
from host.concerns.ops import build_archive
from host.documents import private_key, public_key
from host.errors import ConvergeError, DocumentError

PERSON = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEDj0m0v1V5gqf3v2pJmB0q1m4bQ2yqk0cQW1Zk3p0aB ana@laptop extra words"


def imports(path: Path) -> set[str]:
    """The top-level names a file imports when it runs."""

    def walk(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
        for child in ast.iter_child_nodes(node):
            yield from walk(child)

    return {name.partition(".")[0] for name in walk(ast.parse(path.read_text()))}


def make_key() -> paramiko.Ed25519Key:
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    return private_key(SecretStr(pem), "deploy_key")


def test_compose_comes_from_the_desk_where_there_is_no_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("ANCLA_COMPOSE", str(tmp_path / "absent"))
    with pytest.raises(ConvergeError, match="set ANCLA_COMPOSE"):
        local_compose()
    (tmp_path / "absent").touch()
    assert local_compose() == tmp_path / "absent"


@pytest.mark.parametrize("text", ["", "ssh-ed25519", "ssh-ed25519 %%%", "ssh-unknown AAAA", "garbage"])
def test_a_broken_public_key_is_refused_by_its_field(text: str):
    with pytest.raises(DocumentError, match="host_key is not"):
        public_key(text, "host_key")


def test_a_broken_private_key_is_refused_and_not_quoted():
    with pytest.raises(DocumentError) as found:
        private_key(SecretStr("CANARY"), "deploy_key")
    assert "CANARY" not in str(found.value)


def test_archive_holds_two_rooms_and_is_the_same_for_the_same_files():
    archive = build_archive()
    assert archive == build_archive()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = tar.getnames()
    assert {name.split("/")[0] for name in names} == {"blueprint", "ops"}
    assert "ops/release/apply.py" in names
    assert not [name for name in names if "__pycache__" in name]


def test_a_changed_source_changes_the_archive(tmp_path: Path):
    for room in ("blueprint", "ops"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("")
    before = build_archive(tmp_path)
    (tmp_path / "ops" / "__init__.py").write_text("x = 1\n")
    assert build_archive(tmp_path) != before


def test_the_lock_holds_everything_ops_imports_and_at_the_programs_versions():
    lock = Path("host/ops-requirements.txt").read_text()
    pinned = dict(re.findall(r"^([a-z0-9_.-]+)==(\S+)", lock, re.MULTILINE))
    program = dict(re.findall(r"^([a-z0-9_.-]+)==(\S+)", Path("requirements.txt").read_text(), re.MULTILINE))
    assert {name: program.get(name) for name in pinned if name in program} == {
        name: version for name, version in pinned.items() if name in program
    }
    assert lock.count("--hash=sha256:") >= len(pinned)
    packages = {
        "yaml": "pyyaml",
        "dotenv": "python-dotenv",
        "botocore": "botocore",
        "pydantic_core": "pydantic-core",
        "pydantic_settings": "pydantic-settings",
        "prometheus_client": "prometheus-client",
    }
    imported = {name for room in ("blueprint", "ops") for path in Path(room).rglob("*.py") for name in imports(path)}
    outside = imported - set(sys.stdlib_module_names) - {"blueprint", "ops", "pulumi"}
    assert {packages.get(name, name) for name in outside} <= set(pinned)


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("", "stdin: document: "),
        ("{}", "stdin: address: Field required"),
        ('{"address": "a", "user": "deploy", "deploy_key": "CANARY", "host_key": 1}', "stdin: host_key: "),
    ],
)
def test_a_document_that_does_not_fit_is_one_line_and_exit_2(document: str, complaint: str):
    done = subprocess.run(
        [sys.executable, "-m", "host", "converge"], input=document, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {complaint}")
    assert len(done.stderr.splitlines()) == 1
    assert "CANARY" not in done.stderr
