"""The five teams' stack files parse; what is refused of each is known by name, and so is what it costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from blueprint.cost import estimate
from blueprint.pulumi_config import load_stack_file
from blueprint.settings.built import Verdict, not_built

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"

REFUSED = {
    "000-nextgentech/Pulumi.platform.yaml": {"topology.kind"},
    "000-nextgentech/Pulumi.prod.yaml": {"access.sshFrom"},
    "000-nextgentech/Pulumi.staging.yaml": set[str](),
    "001-founder-diary/Pulumi.prod.yaml": {
        "topology.volumes",
        "database.kind",
        "cache.kind",
        "access.logins",
        "extras.pgadmin",
    },
    "001-founder-diary/phase-2/Pulumi.prod.yaml": {
        "topology.volumes",
        "database.kind",
        "cache.kind",
        "access.logins",
        *(f"extras.{name}" for name in ("pgadmin", "redis-commander", "postgrest", "directus", "s3")),
        *(f"extras.{name}" for name in ("prometheus", "grafana", "logs", "panel.at", "panel.login")),
    },
    "002-spirit-tours/Pulumi.dev.yaml": {"topology.balancer", "cache.kind"},
    "002-spirit-tours/Pulumi.enterprise.yaml": {
        "topology.kind",
        "topology.balancer",
        "database.replicas",
        "cache.kind",
        "services.web.instances",
        "services.api.instances",
    },
    "002-spirit-tours/Pulumi.prod.yaml": {
        "topology.kind",
        "topology.balancer",
        "edge.proxy",
        "cache.kind",
        "release.strategy",
        "access.logins",
        *(f"extras.{name}" for name in ("prometheus", "grafana", "logs")),
    },
    "003-ia-comercial/Pulumi.prod.yaml": {
        "topology.volumes",
        "database.kind",
        *(f"services.ia-comercial.{key}" for key in ("run", "routes[0].root", "folders")),
    },
    "004-finan-conta/Pulumi.prod.yaml": {
        "topology.volumes",
        "database.kind",
        "cache.kind",
        "access.logins",
        "backup.destinations.local.folder",
        *(f"extras.{name}" for name in ("glitchtip", "prometheus", "grafana", "panel.at", "panel.login")),
    },
}
"""By file: the keys that are not built yet. A key that is built goes from the table in `built.py`, and from here."""


@pytest.mark.parametrize("file", sorted(REFUSED))
def test_what_a_team_would_write_is_refused_for_these_keys_alone(file: str):
    settings = load_stack_file(EXAMPLES / file, environ={})

    assert {found.path for found in not_built(settings) if found.verdict is Verdict.REFUSED} == REFUSED[file]


def test_every_stack_file_of_a_team_is_looked_at():
    files = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.glob("[0-9]*/**/Pulumi.*.yaml")}

    assert files == set(REFUSED)


@pytest.mark.parametrize("file", sorted(REFUSED))
def test_all_of_it_has_a_price_and_is_within_its_budget(file: str):
    report = estimate(load_stack_file(EXAMPLES / file, environ={}))

    assert not report.unpriced
    assert report.budget is not None
    assert not report.over_budget


@pytest.mark.parametrize(
    ("file", "plan", "total"),
    [
        ("000-nextgentech/Pulumi.prod.yaml", "50-80, with one database node and no registry", 98.80),
        ("002-spirit-tours/Pulumi.dev.yaml", "80", 85.00),
        ("002-spirit-tours/Pulumi.prod.yaml", "208, with one machine and one node of each", 347.80),
        ("002-spirit-tours/Pulumi.enterprise.yaml", "475, with one node of each", 770.90),
    ],
)
def test_the_total_beside_the_plans(file: str, plan: str, total: float):
    """The plans count a machine and a node where their own text asks for two: ours is the price of what is asked."""
    assert estimate(load_stack_file(EXAMPLES / file, environ={})).total == pytest.approx(total), plan


@pytest.mark.parametrize("team", sorted({file.partition("/")[0] for file in REFUSED}))
def test_a_team_s_folder_is_a_project_of_its_own(team: str):
    text = (EXAMPLES / team / "Pulumi.yaml").read_text()

    assert text.startswith(f"name: {team.partition('-')[2]}\n")
    assert "main: ../.." in text
    assert (EXAMPLES / team / "README.md").is_file()
