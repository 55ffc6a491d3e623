"""The committed stack files validate; a mistake in one is one clear line with path, finding and what is allowed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pyrage import x25519

from blueprint.cost import estimate
from blueprint.pulumi_config import SettingsError, load_stack_file
from blueprint.settings.backup import EXAMPLE_RECIPIENT
from blueprint.settings.built import Verdict, not_built
from blueprint.settings.database import ManagedPostgresql
from blueprint.settings.environment import EnvironmentSettings
from blueprint.settings.topology import DropletTopology
from blueprint.stack_file import OPAQUE

ROOT = Path(__file__).resolve().parents[2]
PROD = (ROOT / "Pulumi.prod.yaml").read_text()


def changed(tmp_path: Path, old: str, new: str) -> Path:
    assert old in PROD, old
    path = tmp_path / "Pulumi.prod.yaml"
    path.write_text(PROD.replace(old, new, 1))
    return path


def regrouped(tmp_path: Path, group: str, text: str | None) -> Path:
    """The stack file with another group of this name, on one line; without one if None."""
    kept = re.sub(rf"^  ancla:{group}:.*\n(    .*\n)*", "", PROD, flags=re.MULTILINE)
    path = tmp_path / "Pulumi.prod.yaml"
    path.write_text(kept + (f"  ancla:{group}: {text}\n" if text else ""))
    return path


def refused(path: Path) -> list[str]:
    return [found.path for found in not_built(load_stack_file(path, environ={})) if found.verdict is Verdict.REFUSED]


def refusal(path: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        load_stack_file(path, environ={})
    assert len(caught.value.problems) == 1, caught.value
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("stack", ["prod", "staging"])
def test_committed_stack_files_validate_without_engine_and_passphrase(stack: str):
    settings = load_stack_file(ROOT / f"Pulumi.{stack}.yaml", environ={})

    assert settings.environment == stack
    assert type(settings) is EnvironmentSettings


def test_plan_000_in_production():
    settings = load_stack_file(ROOT / "Pulumi.prod.yaml", environ={})

    assert (settings.edge.canonical, settings.edge.domain) == ("nextgentech.mx", "nextgentech.mx")
    assert isinstance(settings.topology, DropletTopology)
    assert (settings.topology.size, settings.topology.backups) == ("s-2vcpu-4gb", "weekly")
    assert isinstance(settings.database, ManagedPostgresql)
    assert (settings.database.version, settings.database.nodes) == ("15", 2)
    assert set(settings.database.pools) == {"app"}
    assert {(name, one.port, one.routes[0].path) for name, one in settings.services.items()} == {
        ("web", 3000, "/"),
        ("api", 3001, "/api"),
    }
    assert {name: bucket.access for name, bucket in settings.buckets.items()} == {
        "assets": "public",
        "uploads": "private",
    }
    assert "buckets.assets.cdn.host: assets.nextgentech.mx" in [str(found) for found in not_built(settings)]
    assert settings.backup.destinations


@pytest.mark.parametrize("written", ["17", '"17"'])
def test_a_version_is_text_or_a_number_because_pulumi_config_set_stores_numbers(tmp_path: Path, written: str):
    settings = load_stack_file(changed(tmp_path, 'version: "15"', f"version: {written}"), environ={})

    assert isinstance(settings.database, ManagedPostgresql)
    assert settings.database.version == "17"


@pytest.mark.parametrize(
    "database",
    [
        "{ kind: sqlite, service: web, path: db/leads.db }",
        "{ kind: postgresql, version: 17, volume: data, extensions: [vector], pools: { app: { size: 20 } } }",
        "{ kind: postgresql, physicalBackups: { bucket: backrest, full: weekly, incremental: hourly, keep: 3 } }",
    ],
)
def test_databases_on_the_droplet_parse_and_are_not_built_yet(tmp_path: Path, database: str):
    assert refused(regrouped(tmp_path, "database", database)) == ["database.kind"]


@pytest.mark.parametrize(
    "cache",
    [
        "{ kind: valkey, memory: 512M, policy: allkeys-lru, persistence: aof }",
        "{ kind: managed-valkey, size: db-s-1vcpu-2gb, nodes: 2, version: 8 }",
    ],
)
def test_a_cache_parses_and_is_not_built_yet(tmp_path: Path, cache: str):
    assert refused(regrouped(tmp_path, "cache", cache)) == ["cache.kind"]


def test_without_a_word_there_is_neither_database_nor_cache(tmp_path: Path):
    path = regrouped(tmp_path, "database", None)
    path.write_text(path.read_text().replace("uses: [database, ", "uses: ["))
    settings = load_stack_file(path, environ={})

    assert (settings.database.kind, settings.cache) == ("none", None)


@pytest.mark.parametrize(
    ("group", "text", "expected"),
    [
        ("database", "{ kind: sqlite, service: web, path: /srv/leads.db }", "ancla:database.path: "),
        ("database", "{ kind: sqlite, service: web, path: ../leads.db }", "is not a path within a folder"),
        ("database", "{ kind: sqlite, path: leads.db }", "ancla:database.service: is missing, and it is required"),
        ("cache", "{ kind: redis }", 'ancla:cache.kind: found "redis"; allowed: managed-valkey, valkey'),
        ("cache", "{ kind: valkey, memory: 256 }", "ancla:cache.memory: 256 is not a size: write a whole number"),
        ("cache", "{ kind: valkey, size: db-s-1vcpu-2gb }", "ancla:cache.size: unknown key; allowed: kind, memory"),
    ],
)
def test_a_mistake_in_a_kind_is_one_line_too(tmp_path: Path, group: str, text: str, expected: str):
    assert expected in refusal(regrouped(tmp_path, group, text))


def test_without_a_registry_every_image_is_from_elsewhere(tmp_path: Path):
    told = refusal(regrouped(tmp_path, "registry", None))
    assert "services.web.image: web:1.0.0 is of the environment's registry, and there is none" in told

    text = regrouped(tmp_path, "registry", None).read_text()
    elsewhere = re.sub(r"image: (web|api):1\.0\.0", rf"image: ghcr.io/team/\1:1.0.0@sha256:{'0' * 64}", text)
    (tmp_path / "Pulumi.prod.yaml").write_text(elsewhere)
    settings = load_stack_file(tmp_path / "Pulumi.prod.yaml", environ={})
    assert settings.registry is None
    assert not [line for line in estimate(settings).lines if "registry" in line.resource]


def test_stack_files_name_the_schema_for_editors():
    for stack in ("prod", "staging"):
        first = (ROOT / f"Pulumi.{stack}.yaml").read_text().splitlines()[0]
        assert first.startswith("# yaml-language-server: $schema=")
        assert (ROOT / first.partition("=")[2]).exists()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "size: s-2vcpu-4gb",
            "size: s-2vcpu-4g",
            ['ancla:topology.size: "s-2vcpu-4g" is not', "allowed:", "did you mean s-2vcpu-4gb?"],
        ),
        (
            "image: ubuntu-24-04-x64",
            "imagee: ubuntu-24-04-x64",
            ["ancla:topology.imagee: unknown key; did you mean image?", "growDisk"],
        ),
        ("ancla:budget: 120", "ancla:budgett: 120", ["ancla:budgett: unknown key; did you mean budget?"]),
        ("region: nyc3", "region: nyc1", ['ancla:region: found "nyc1"', "nyc3"]),
        (
            "names: [nextgentech.mx,",
            'names: ["nextgentech,mx",',
            ['ancla:edge.names[0]: "nextgentech,mx" is not a domain name'],
        ),
        ('"0.0.0.0/0"', '"0.0.0.0/33"', ["ancla:access.sshFrom[0]:", "is not a CIDR"]),
        ('"0.0.0.0/0"', '"10.0.0.1/8"', ["ancla:access.sshFrom[0]:", "host bits"]),
        (
            "kind: managed-postgresql",
            "kind: mysql",
            ['ancla:database.kind: found "mysql"', "managed-postgresql", "sqlite"],
        ),
        ("    kind: managed-postgresql\n", "", ["ancla:database.kind: is missing", "managed-postgresql"]),
        ("    nodes: 2", "    nodes: 9", ["ancla:database.nodes: found 9; it must be less than or equal to 3"]),
        ("    nodes: 2", "    nodes: two", ['ancla:database.nodes: found "two" (text); it must be a whole number']),
        ("size: db-s-1vcpu-2gb", "size: db-s-1vcpu-1gb", ["ancla:database: nodes: 2 needs a size of 2 GB or more"]),
        ("    size: s-2vcpu-4gb\n", "", ["ancla:topology.size: is missing, and it is required"]),
        ("    kind: droplet\n", "", ["ancla:topology.kind: is missing; allowed: app-platform, droplet, droplets"]),
        ("kind: droplet", "kind: droplett", ['found "droplett"; did you mean droplet?', "kubernetes"]),
        (
            "    backups: weekly",
            "    backups: hourly",
            ['ancla:topology.backups: found "hourly"', "none, weekly, daily"],
        ),
        ("swap: 2G", "swap: 2", ["ancla:topology.swap: 2 is not a size", "512M or 20G"]),
        ("    backups: weekly", "    volumes: { data: 512M }", ["ancla:topology.volumes.data:", "from 1G to 16T"]),
        ("    backups: weekly", "    volumes: { d: 5G }", ["ancla:topology.volumes.d:", "is not a short name"]),
        (
            "    backups: weekly",
            "    balancer: { nods: 2 }",
            ["topology.balancer.nods: unknown key; did you mean nodes?"],
        ),
        ("    backups: weekly", "    ipRange: 10.0.0.0/8", ["ancla:topology.ipRange:", "a prefix from 16 to 28"]),
        (
            ", www.nextgentech.mx]",
            ", www.example.org]",
            ["ancla:edge: names[1]: www.example.org is not in the zone nextgentech.mx"],
        ),
        (
            ", www.nextgentech.mx]",
            ", nextgentech.mx]",
            ["ancla:edge: names[1]: nextgentech.mx is there twice; remove one"],
        ),
        (
            ", www.nextgentech.mx]",
            "]\n    zone: example.org",
            ["ancla:edge: names[0]: nextgentech.mx is not in", "set edge.zone"],
        ),
        ("names: [nextgentech.mx, www.nextgentech.mx]", "names: []", ["ancla:edge.names", "at least 1 item"]),
        ("maxAge: 180d", "preload: true", ["ancla:edge.hsts: preload: browsers' list takes only subdomains"]),
        ("maxAge: 180d", "maxAge: 15552000", ["ancla:edge.hsts.maxAge: 15552000 is not a duration", "180d"]),
        ("email: ops@nextgentech.mx }", "email: ops }", ['ancla:edge.tls.email: "ops" is not an e-mail address']),
        ("issuer: letsencrypt", "issuer: letsencript", ["ancla:edge.tls.issuer:", "did you mean letsencrypt?"]),
        ("    dns:\n", "    dns:\n      ttl: 5s\n", ['ancla:edge.dns.ttl: "5s" is too short', "30s"]),
        ("    dns:\n", "    dns:\n      manage: false\n", ["ancla:edge.dns: records: nobody would make them"]),
        (
            "spf: { type: TXT,",
            "spf: { typ: A, type: TXT,",
            ["edge.dns.records.spf.typ: unknown key; did you mean type?"],
        ),
        ("    dns:\n", "    bodyLimit: 20\n    dns:\n", ["ancla:edge.bodyLimit: 20 is not a size"]),
        (
            "    dns:\n",
            "    ports: { web: { port: 80, why: x } }\n    dns:\n",
            ["ancla:edge.ports.web: port: 80 is open already"],
        ),
        (
            "    dns:\n",
            "    headers: { permissions: { camera: [me] } }\n    dns:\n",
            ['ancla:edge.headers.permissions.camera[0]: "me" is not an origin'],
        ),
        ("    backups: weekly", "    ipRange: 8.8.0.0/20", ["ancla:topology.ipRange:", "use 10.0.0.0/8"]),
        ("port: 3001", "port: 3000", ["ancla:services.api.port: 3000 is web's too"]),
        (
            "NODE_ENV: production",
            "PORT: 3000",
            ["ancla:services.web.environment.PORT: found 3000", "put it in quotes"],
        ),
        ("ancla:project: nextgentech", "ancla:project: Next", ['ancla:project: "Next" is not a short name']),
        (
            "ancla:backup:",
            "ancla:cache: hello\n  ancla:backup:",
            ['ancla:cache: found "hello" (text); it must be a mapping'],
        ),
        (
            "cdn: { host:",
            "cdn: { ttl: 90s, host:",
            ['ancla:buckets.assets.cdn.ttl: "90s" is no time', "allowed: 1m, 10m, 1h"],
        ),
        (
            "access: public\n      cdn",
            "access: private\n      cdn",
            ["ancla:buckets.assets: cdn: stands before what everybody may read", "write access: public"],
        ),
        (
            "versioning: true",
            "lifecycle: [{ expire: 36h }]",
            ['ancla:buckets.assets.lifecycle[0].expire: "36h" is no whole number of days'],
        ),
        (
            "versioning: true",
            "versionning: true",
            ["ancla:buckets.assets.versionning: unknown key; did you mean versi"],
        ),
        (
            "bucket: nextgentech-uploads",
            "bucket: nextgentech-assets",
            ["ancla:buckets.uploads: buckets.assets has the bucket nextgentech-assets already"],
        ),
        (
            "bucket: nextgentech-uploads",
            "bucket: nextgentech-backups",
            ["ancla:backup.destinations.spaces: buckets.uploads has the bucket nextgentech-backups already"],
        ),
        (
            "buckets: [assets, uploads]",
            "buckets: [assets, upload]",
            ["ancla:backup.buckets: the environment has no bucket upload; there are: assets, uploads"],
        ),
        (
            "nodes: 2",
            "trustedSources: [2001:db8::/64]",
            ["ancla:database.trustedSources[0]", "is IPv6, which DigitalOcean's databases do not take", "use IPv4"],
        ),
        (
            "mode: transaction,",
            "database: logs,",
            ["ancla:database: pools.app.database: there is no logs; allowed: app"],
        ),
        ("mode: transaction,", "modee: session,", ["ancla:database.pools.app.modee: unknown key; did you mean mode?"]),
        (
            "size: 10 } }",
            "size: 40 }, slow: { size: 8 } }",
            ["ancla:database: pools: their sizes are 48 together, and db-s-1vcpu-2gb has 47 connections"],
        ),
        ("databases: [app]", "databases: [app, app]", ["ancla:database: databases: app is there twice"]),
        (
            "databases: [app]",
            "storage: 25G",
            [
                "ancla:database: storage: 25G is no disk of db-s-1vcpu-2gb: write 30G (included) or more",
                "in steps of 10G",
            ],
        ),
        (
            "databases: [app]",
            "extensions: [vectors]",
            ['ancla:database.extensions[0]: "vectors" is not a known extension', "did you mean vector?"],
        ),
        ('version: "15"', 'version: "13"', ["ancla:database.version", "13", "14"]),
        (
            "tier: basic",
            "tier: basic, region: lon1",
            ['ancla:registry.region: "lon1" is not a known region of container registries; allowed: ams3, blr1'],
        ),
        (
            "spaces: {",
            "copy: { bucket: nextgentech-backups, endpoint: https://s3.example.org }\n      spaces: {",
            ["ancla:backup: destinations: two of them have the bucket nextgentech-backups"],
        ),
    ],
)
def test_a_mistake_is_one_line_with_path_finding_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, expected: list[str]
):
    line = refusal(changed(tmp_path, old, new))

    for part in expected:
        assert part in line


def test_a_mistyped_recipient_is_seen_wherever_the_slip_is(tmp_path: Path):
    """Otherwise the first backup finds it, at night."""
    recipient = str(x25519.Identity.generate().to_public())

    def told(text: str) -> Path:
        return changed(tmp_path, EXAMPLE_RECIPIENT, text)

    assert load_stack_file(told(recipient), environ={}).backup.recipients == (recipient,)
    for place in range(len("age1"), len(recipient), 9):
        other = "q" if recipient[place] != "q" else "p"
        line = refusal(told(recipient[:place] + other + recipient[place + 1 :]))
        assert line.startswith("ancla:backup.recipients[0]: ")
        assert "is no age recipient" in line


def test_several_mistakes_are_a_line_each(tmp_path: Path):
    path = changed(tmp_path, "region: nyc3", "region: mars")
    path.write_text(path.read_text().replace("size: s-2vcpu-4gb", "size: huge"))

    with pytest.raises(SettingsError) as caught:
        load_stack_file(path, environ={})

    assert [problem.partition(": ")[0] for problem in caught.value.problems] == ["ancla:region", "ancla:topology.size"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "No such file"),
        ("config: [", "line 1: is not YAML"),
        ("just text", "has no `config:` mapping"),
        ("config:\n  ancla:a: 1\n  ancla:a: 2\n", "line 3: is not YAML: the key 'ancla:a' is there twice"),
        ("config:\n  ancal:environment: prod\n", "unknown namespace 'ancal'"),
        ("config:\n  ancla:project: \x07\n", "characters that YAML does not allow"),
    ],
)
def test_a_file_that_is_no_stack_file_is_one_line(tmp_path: Path, text: str | None, expected: str):
    path = tmp_path / "Pulumi.prod.yaml"
    if text is not None:
        path.write_text(text)

    line = refusal(path)
    assert str(path) in line
    assert expected in line


def test_a_stack_file_is_of_the_environment_it_is_named_after(tmp_path: Path):
    path = tmp_path / "Pulumi.demo.yaml"
    path.write_text(PROD)

    assert 'ancla:environment: found "prod", and the stack is demo (Pulumi.demo.yaml)' in refusal(path)
    assert load_stack_file(path.rename(tmp_path / "a-copy.yaml"), environ={}).environment == "prod"


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_encrypted_values_are_accepted_as_they_are(tmp_path: Path):
    secrets = "ancla:secrets: { deployKey: { secure: v1:abc }, app: { JWT_PRIVATE_KEY: { secure: v1:def } } }"
    settings = load_stack_file(changed(tmp_path, "ancla:project", f"{secrets}\n  ancla:project"), environ={})

    assert settings.secrets.deploy_key is not None
    assert settings.secrets.deploy_key.get_secret_value() == OPAQUE
    assert settings.secrets.app["JWT_PRIVATE_KEY"].get_secret_value() == OPAQUE


def test_an_encrypted_value_elsewhere_is_refused(tmp_path: Path):
    """It would end in outputs and files in clear."""
    line = refusal(changed(tmp_path, "NODE_ENV: production", "NODE_ENV: { secure: v1:abc }"))

    assert "ancla:services: has an encrypted value" in line


def test_secrets_encrypted_as_a_whole_are_refused(tmp_path: Path):
    assert "encrypt each value" in refusal(
        changed(tmp_path, "ancla:project", "ancla:secrets: { secure: v1:abc }\n  ancla:project")
    )


@pytest.mark.parametrize(
    "secrets",
    [
        "{ deployKey: 123456 }",
        "{ hushhush: canary-value }",
        "{ app: canary-value }",
        "{ app: { no-name: canary-value } }",
        "[canary-value]",
    ],
)
def test_a_mistake_among_secrets_never_shows_a_value(tmp_path: Path, secrets: str):
    line = refusal(changed(tmp_path, "ancla:project", f"ancla:secrets: {secrets}\n  ancla:project"))

    assert line.startswith("ancla:secrets")
    assert "canary-value" not in line
    assert "123456" not in line


def test_the_environment_is_above_the_stack_file(tmp_path: Path):
    path = changed(
        tmp_path, "ancla:project", "ancla:secrets: { hostKey: one, app: { A: one, B: one } }\n  ancla:project"
    )
    environ = {"ANCLA_SECRETS": json.dumps({"hostKey": "two", "app": {"B": "two"}})}

    secrets = load_stack_file(path, environ=environ).secrets

    assert secrets.host_key is not None
    assert secrets.host_key.get_secret_value() == "two"
    assert {name: value.get_secret_value() for name, value in secrets.app.items()} == {"A": "one", "B": "two"}


@pytest.mark.parametrize("text", ["{", "canary-value", '"canary-value"', '["canary-value"]'])
def test_secrets_in_the_environment_that_are_no_object_are_one_line(text: str):
    with pytest.raises(SettingsError, match=r"^ANCLA_SECRETS") as caught:
        load_stack_file(ROOT / "Pulumi.prod.yaml", environ={"ANCLA_SECRETS": text})

    assert "canary-value" not in str(caught.value)


def test_variables_of_a_settings_own_name_are_not_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REGION", "fra1")
    monkeypatch.setenv("domain", "example.org")

    settings = load_stack_file(ROOT / "Pulumi.prod.yaml")

    assert (settings.region.value, settings.edge.canonical) == ("nyc3", "nextgentech.mx")


def filtered(tmp_path: Path, tables: str) -> Path:
    return changed(tmp_path, "    maxAge: 26h", f"    tables: {tables}\n    maxAge: 26h")


def test_filters_of_tables_are_of_a_database_that_is_backed_up(tmp_path: Path):
    settings = load_stack_file(filtered(tmp_path, "{ app: { exclude: [public.logs, 'audit.*'] } }"), environ={})
    assert settings.backup.tables["app"].exclude == ("public.logs", "audit.*")
    assert not load_stack_file(ROOT / "Pulumi.prod.yaml", environ={}).backup.tables
    told = refusal(filtered(tmp_path, "{ assets: { exclude: [public.logs] } }"))
    assert "backup.tables: assets is no PostgreSQL database that is backed up; there are: app" in told


@pytest.mark.parametrize("name", ["logs", "public.", ".logs"])
def test_a_table_is_named_with_its_schema(tmp_path: Path, name: str):
    assert "exclude" in refusal(filtered(tmp_path, f"{{ app: {{ exclude: ['{name}'] }} }}"))
