"""What a stack file may ask for and does not get yet: which keys are named, with which verdict."""

from __future__ import annotations

from typing import Any

import pytest

from blueprint.settings.built import Verdict, not_built
from blueprint.settings.environment import EnvironmentSettings
from tests.components.conftest import load

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIQpao5IqbpTDWPv/lAm4LiSdWqZ1uy7G2HTOlsJf2g1"
REFUSED, NO_EFFECT = Verdict.REFUSED, Verdict.NO_EFFECT


def found(**groups: Any) -> list[tuple[str, Verdict]]:
    """What is found in these groups of an otherwise complete environment."""
    base = load("staging").model_dump(mode="json", by_alias=True, exclude_unset=True)
    settings = EnvironmentSettings.model_validate({**base, **groups})
    return [(str(one), one.verdict) for one in not_built(settings) if one.path.partition(".")[0] in groups]


@pytest.mark.parametrize(
    ("group", "value", "expected"),
    [
        ("access", {"sshFrom": ["0.0.0.0/0"]}, []),
        ("access", {"sshFrom": []}, [("access.sshFrom: []", REFUSED)]),
        ("access", {"logins": ["team"]}, [("access.logins: team", REFUSED)]),
        (
            "alerts",
            {"preset": "tolerant"},
            [("alerts.preset: its rules on availability and errors", NO_EFFECT)],
        ),
        ("alerts", {"hold": "60m", "uptime": {"every": "2m"}}, []),
        ("alerts", {"hold": "7m"}, [("alerts.hold: other than 5m, 10m, 30m, 1h", NO_EFFECT)]),
        (
            "alerts",
            {"thresholds": {"cpu": 50, "availability": 99.9, "errorShare": 1}},
            [
                ("alerts.thresholds.availability: 99.9", NO_EFFECT),
                ("alerts.thresholds.errorShare: 1.0", NO_EFFECT),
            ],
        ),
        (
            "alerts",
            {"channels": {"mail": {"kind": "email", "to": "a@example.org"}, "founder": {"kind": "whatsapp"}}},
            [("alerts.channels.founder.kind: whatsapp", NO_EFFECT)],
        ),
        (
            "alerts",
            {"failedLogins": {"more": 10, "within": "5m"}},
            [("alerts.failedLogins: {more: 10, within: 5m}", NO_EFFECT)],
        ),
        (
            "backup",
            {
                "destinations": {
                    "spaces": {"bucket": "some-backups", "keepLast": 3, "writeOnce": {"days": 35}},
                    "local": {"folder": "/srv/ancla/backups"},
                },
                "vault": {"bucket": "a-vault"},
            },
            [
                ("backup.destinations.spaces.writeOnce: {days: 35}", NO_EFFECT),
                ("backup.destinations.local.folder: /srv/ancla/backups", REFUSED),
                ("backup.vault: {bucket: a-vault}", NO_EFFECT),
            ],
        ),
        ("extras", {"redis-commander": {"memory": "64M"}}, [("extras.redis-commander: {memory: 64M}", REFUSED)]),
        ("extras", {"panel": {}}, [("extras.panel: {}", NO_EFFECT)]),
        (
            "extras",
            {"panel": {"at": "panel.example.org"}},
            [("extras.panel: {at: panel.example.org}", NO_EFFECT), ("extras.panel.at: panel.example.org", REFUSED)],
        ),
        ("growth", {"users": 1000, "database": "10G"}, [("growth: {users: 1000, database: 10G}", NO_EFFECT)]),
        ("recovery", {"within": "15m"}, [("recovery: {within: 15m}", NO_EFFECT)]),
        ("backup", {"signers": {"drill": [KEY], "ledger": [KEY]}}, []),
        ("backup", {"signers": {"drill": [KEY]}}, [("backup.signers: by role: each is for both", NO_EFFECT)]),
    ],
)
def test_what_is_not_built_is_named_with_its_verdict(group: str, value: Any, expected: list[tuple[str, Verdict]]):
    assert found(**{group: value}) == expected
