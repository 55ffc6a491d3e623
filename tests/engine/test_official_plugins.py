"""The stand-ins make the mutating calls of the official plugins and leave their outputs, where those are installed."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.engine.kit import HERE, MUTATING, ROOT, TOKEN, BareCloud, open_account

BUCKET = "every-resource-assets"
PLUGINS = ("pulumi-resource-digitalocean", "pulumi-resource-command")

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


def _official() -> list[str]:
    """Folders with the official plugins: $ANCLA_OFFICIAL_PLUGINS, or what the engine itself has installed."""
    named = os.environ.get("ANCLA_OFFICIAL_PLUGINS")
    if named:
        return [named] if all((Path(named) / plugin).is_file() for plugin in PLUGINS) else []
    installed = Path(os.environ.get("PULUMI_HOME", Path.home() / ".pulumi")) / "plugins"
    found = [sorted(installed.glob(f"{plugin.removeprefix('pulumi-')}-v*/{plugin}")) for plugin in PLUGINS]
    return [str(versions[-1].parent) for versions in found] if all(found) else []


OFFICIAL = _official()


def _certificate() -> str:
    """A certificate of our own, as the arguments of the resource."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "assets.example.org")])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("assets.example.org")]), critical=False)
    )
    text = built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return json.dumps({"name": "own", "type": "custom", "leaf_certificate": text, "private_key": private.decode()})


@dataclass
class Life:
    """What one set of plugins did in a life of the stack."""

    calls: dict[str, list[tuple[str, Any]]]
    outputs: dict[str, dict[str, Any]]
    space: dict[str, Any]


def live(home: Path, folders: list[str], certificate: str) -> Life:
    """Make, change, replace and destroy every resource with the plugins in these folders, on a cloud of its own."""
    project, cloud_home = home / "project", home / "cloud"
    shutil.copytree(HERE / "every_resource", project)
    cloud_home.mkdir()
    (home / "state").mkdir()
    cloud = subprocess.Popen(
        [sys.executable, str(HERE / "bare_cloud.py"), str(cloud_home), TOKEN],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert cloud.stdout is not None
        addresses = json.loads(cloud.stdout.readline())
        # Ours come last, for what those folders do not have. The official language host takes the first python3.
        path = [*folders, str(Path(sys.executable).parent), str(ROOT / "sandbox/plugins/bin"), os.environ["PATH"]]
        environment = {
            **{key: value for key, value in os.environ.items() if key.lower() not in ("https_proxy", "all_proxy")},
            "PATH": os.pathsep.join(path),
            "ANCLA_PYTHON": sys.executable,
            "PULUMI_HOME": str(home / "pulumi"),
            "PULUMI_BACKEND_URL": f"file://{home / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "a passphrase of the tests",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "DIGITALOCEAN_TOKEN": TOKEN,
            "DIGITALOCEAN_API_URL": addresses["api"],
            "SPACES_ENDPOINT_URL": "http://{{.Region}}.digitaloceanspaces.com",
            "SPACES_ACCESS_KEY_ID": "made-up",
            "SPACES_SECRET_ACCESS_KEY": "made-up",
            "HTTP_PROXY": addresses["spaces"],
            "http_proxy": addresses["spaces"],
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "CERTIFICATE": certificate,
        }

        def pulumi(*arguments: str, step: int = 1) -> str:
            done = subprocess.run(
                ["pulumi", *arguments, "--non-interactive"],
                cwd=project,
                env={**environment, "STEP": str(step)},
                text=True,
                capture_output=True,
                check=False,
            )
            assert done.returncode == 0, f"pulumi {arguments} step {step}\n{done.stdout}\n{done.stderr}"
            return done.stdout

        open_account(addresses["api"])
        pulumi("stack", "init", "life")
        states: list[Any] = []
        for step in (1, 2, 3):
            pulumi("up", "--yes", "--skip-preview", step=step)
            states.append(json.loads(pulumi("stack", "export", "--show-secrets", step=step)))
            space = _space(addresses["spaces"])
        pulumi("destroy", "--yes", "--skip-preview", step=3)
    finally:
        cloud.terminate()
        cloud.wait(60)
    names = _names(states)
    journal = [json.loads(line) for line in (cloud_home / "journal.jsonl").read_text().splitlines()]
    return Life(_calls(journal, names), _outputs(states[1], names), space)


def _space(proxy: str) -> dict[str, Any]:
    """What is set on the bucket and its object."""
    s3 = boto3.client(
        "s3",
        endpoint_url="http://nyc3.digitaloceanspaces.com",
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=Config(proxies={"http": proxy}),
    )
    answers = {
        "acl": s3.get_bucket_acl(Bucket=BUCKET)["Grants"],
        "cors": s3.get_bucket_cors(Bucket=BUCKET)["CORSRules"],
        "versioning": s3.get_bucket_versioning(Bucket=BUCKET).get("Status"),
        "lifecycle": s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"],
        "policy": json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"]),
        "object acl": s3.get_object_acl(Bucket=BUCKET, Key="a/page.txt")["Grants"],
    }
    page = s3.get_object(Bucket=BUCKET, Key="a/page.txt")
    headers = {key: page.get(key) for key in ("ContentType", "CacheControl", "Metadata", "ETag")}
    return {**answers, "page": {**headers, "body": page["Body"].read()}}


def _names(states: list[Any]) -> dict[str, str]:
    """What was generated, and the name of the resource it belongs to."""
    names: dict[str, str] = {}
    for state in states:
        for resource in state["deployment"]["resources"]:
            told = f"<{resource['urn'].split('::', 2)[-1]}"
            outputs = resource.get("outputs", {})
            generated = [("id", resource.get("id"))] + [
                (key, outputs.get(key))
                for key in ("name", "accessKey", "uuid", "ipv4Address", "ipv4AddressPrivate", "host", "privateHost")
            ]
            for key, value in generated:
                if isinstance(value, str) and len(value) > 4 and (key != "name" or re.search("-[0-9a-f]{7}$", value)):
                    # a tag's id is its name, which others may have too: the state's order is not the same each time
                    names[value] = min(f"{told} {key}>", names.get(value, "~"))
    return names


def _renamed(text: str, names: dict[str, str]) -> str:
    longest_first = sorted(names, key=len, reverse=True)
    pattern = "|".join(rf"(?<![\w-]){re.escape(name)}(?![\w-])" for name in longest_first)
    text = re.sub(pattern, lambda found: names[found.group()], text)
    return re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}", "<uuid>", text)


def _unordered(value: Any) -> Any:
    """Sets come in the order of hashes: where they hold what is generated, no two runs have the same."""
    if isinstance(value, dict):
        return {key: _unordered(inner) for key, inner in value.items()}
    if isinstance(value, list):
        items = [_unordered(item) for item in value]
        return sorted(items, key=_text) if "<" in str(items) else items
    return value


def _calls(journal: list[dict[str, Any]], names: dict[str, str]) -> dict[str, list[tuple[str, Any]]]:
    """The mutating calls of each path, in order; those that make things, sorted: resources are made side by side."""
    calls: defaultdict[str, list[tuple[str, Any]]] = defaultdict(list)
    for call in journal:
        if call["method"] in MUTATING:
            # quoted ids and bare ones are told apart by JSON itself: <…> goes in as text
            body = re.sub(r"(?<=: )(<[^>]*>)(?=[,}\]])", r'"\1"', _renamed(json.dumps(call["body"]), names))
            body = re.sub(r"(?<=\[)(<[^>]*>)(?=[,\]])", r'"\1"', body)
            calls[f"{_renamed(call['path'], names)} -> {call['status']}"].append(
                (call["method"], _unordered(json.loads(body)))
            )
    return {path: found if _of_one(path) else sorted(found, key=_text) for path, found in calls.items()}


def _of_one(path: str) -> bool:
    """Whether the calls of this path are those of one thing, one after the other."""
    return path.partition(" -> ")[0].endswith((">", "/actions", "/config", "/firewall"))


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _outputs(state: Any, names: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The outputs of each resource that say something, with what is generated or of a moment taken out."""
    told: dict[str, dict[str, Any]] = {}
    for resource in state["deployment"]["resources"]:
        if not resource["type"].startswith(("digitalocean:index", "command:")):
            continue
        outputs = {
            key: _shape(value, names)
            for key, value in resource["outputs"].items()
            if key not in ("__meta", "ownerId") and not key.startswith("__pulumi")
        }
        told[resource["urn"].split("::", 2)[-1]] = {key: value for key, value in outputs.items() if not _nothing(value)}
    return told


def _nothing(value: Any) -> bool:
    return value in (None, "", [], {}, 0, False, "<secret None>", "<secret null>", '<secret "">')


def _shape(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        if "plaintext" in value:
            plain = json.loads(value["plaintext"])
            return "<secret>" if not _nothing(plain) else None
        return {key: shaped for key, inner in value.items() if not _nothing(shaped := _shape(inner, names))}
    if isinstance(value, list):
        return sorted((_shape(item, names) for item in value), key=str)
    if isinstance(value, str):
        value = re.sub(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?", "<time>", _renamed(value, names))
        value = re.sub(r"-\d{14}\d{4}[0-9a-f]{8}>?$", "-<moment>", value)
        return re.sub(r"\b(198\.51\.100|203\.0\.113|10\.\d+\.\d+)\.\d+", "<address>", value)
    return value


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Life, Life]:
    home = tmp_path_factory.mktemp("plugins")
    for name in ("ours", "official"):
        (home / name).mkdir()
    certificate = _certificate()
    return live(home / "ours", [], certificate), live(home / "official", OFFICIAL, certificate)


needs_official = pytest.mark.skipif(
    not OFFICIAL,
    reason="the official plugins are not installed: `pulumi plugin install`, or ANCLA_OFFICIAL_PLUGINS=folder",
)


@needs_official
def test_the_mutating_calls_are_the_same(lives: tuple[Life, Life]) -> None:
    ours, official = (life.calls for life in lives)
    different = {
        path: (ours.get(path), official.get(path))
        for path in {*ours, *official}
        if ours.get(path) != official.get(path)
    }
    assert not different, "\n".join(
        f"{path}\n  ours     {a}\n  official {b}" for path, (a, b) in sorted(different.items())
    )
    assert len(official) > 60


@needs_official
def test_the_outputs_are_the_same(lives: tuple[Life, Life]) -> None:
    ours, official = (life.outputs for life in lives)
    assert ours.keys() == official.keys()
    different = [
        f"{name}.{key}: ours {ours[name].get(key)!r}, official {official[name].get(key)!r}"
        for name in ours
        for key in {*ours[name], *official[name]}
        if ours[name].get(key) != official[name].get(key)
    ]
    assert not different, "\n".join(sorted(different))


@needs_official
def test_the_space_is_the_same(lives: tuple[Life, Life]) -> None:
    ours, official = (life.space for life in lives)
    assert ours == official


@pytest.mark.all
def test_the_stand_ins_live_a_whole_life(tmp_path: Path) -> None:
    """The same life without the official plugins, so that what they would be compared with is known to work."""
    life = live(tmp_path, [], _certificate())
    assert len(life.calls) > 60
    assert life.outputs["command:local:Command::said"]["stdout"] == "was told once\n1, is 2"
    assert life.outputs["command:local:Command::said"]["stdin"] == "<secret>"


@needs_official
@pytest.mark.parametrize("stack", ["staging", "prod"])
def test_the_program_itself_makes_the_same_calls(tmp_path: Path, stack: str) -> None:
    """The whole environment, from an empty stack to a refreshed one, by method, path and body."""
    made: list[dict[str, list[tuple[str, Any]]]] = []
    ours = (str(ROOT / "sandbox" / "plugins" / "bin"),)
    for number, plugins in enumerate((ours, tuple(OFFICIAL))):
        cloud = BareCloud(tmp_path / str(number), stack, plugins)
        try:
            cloud.up()
            cloud.pulumi("refresh", "--yes", "--expect-no-changes")
            cloud.pulumi("preview", "--expect-no-changes")
            state = json.loads(cloud.pulumi("stack", "export", "--show-secrets").stdout)
            made.append(_calls(cloud.journal(), _names([state])))
        finally:
            cloud.close()
    assert len(made[1]) > 10
    # The deploy key is another one in each cloud.
    ours_made, official_made = (
        json.loads(re.sub(r"ssh-ed25519 [A-Za-z0-9+/=]+", "<key>", json.dumps(calls))) for calls in made
    )
    assert ours_made == official_made
