"""Which data is backed up, where to, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from blueprint.settings.backup import EXAMPLE_RECIPIENT, BackupSettings
from blueprint.settings.environment import EnvironmentSettings
from tests.components.conftest import load

PLACE = {"spaces": {"bucket": "some-backups"}}


def backup(**values: Any) -> BackupSettings:
    return BackupSettings.model_validate(values)


def names(**values: Any) -> list[str]:
    return [source.name for source in backup(**values).all_sources]


def test_the_apps_secrets_are_backed_up_without_being_asked_and_never_unencrypted():
    assert names(destinations=PLACE, recipients=[EXAMPLE_RECIPIENT]) == ["secrets"]
    assert names(destinations=PLACE) == []
    assert names(recipients=[EXAMPLE_RECIPIENT]) == []
    assert names(destinations=PLACE, recipients=[EXAMPLE_RECIPIENT], exclude=["secrets"]) == []


def test_a_source_named_secrets_takes_the_place_of_the_apps_own():
    made = backup(
        destinations=PLACE,
        recipients=[EXAMPLE_RECIPIENT],
        buckets=["assets"],
        sources={
            "secrets": {"kind": "secrets", "paths": ["/etc/app"]},
            "leads": {"kind": "sqlite", "path": "/srv/leads.db"},
            "avatars": {"kind": "bucket", "bucket": "assets", "prefix": "avatars/"},
        },
    ).all_sources

    assert [source.name for source in made] == ["assets", "secrets", "leads", "avatars"]
    assert made[1].model_dump() == {"kind": "secrets", "paths": ("/etc/app",), "name": "secrets"}
    assert made[3].model_dump() == {"kind": "bucket", "bucket": "assets", "prefix": "avatars/", "name": "avatars"}


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ({}, "either a bucket or a folder"),
        ({"bucket": "some-backups", "folder": "/srv/backups"}, "either a bucket or a folder"),
        ({"folder": "/srv/backups", "prefix": "x"}, "takes no endpoint, region, prefix or writeOnce"),
        ({"bucket": "Some_Backups"}, "a Space is made of this name"),
        ({"bucket": "some-backups", "endpoint": "s3.example.org"}, "begins with https"),
    ],
)
def test_a_destination_is_one_place(place: dict[str, str], why: str):
    with pytest.raises(ValidationError, match=why):
        backup(destinations={"here": place})


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"exclude": ["shop"]}, "backup.exclude: shop is not backed up by itself; there are: app, secrets"),
        ({"buckets": ["uploads"]}, "backup.buckets: the environment has no bucket uploads; there are: assets"),
        (
            {"sources": {"part": {"kind": "bucket", "bucket": "uploads"}}},
            "backup.sources.part.bucket: the environment has no bucket uploads",
        ),
        ({"sources": {"app": {"kind": "sqlite", "path": "/x"}}}, "two of what is backed up have the name app"),
    ],
)
def test_what_is_not_of_the_environment_is_refused_by_name(values: dict[str, Any], why: str):
    base = load("staging").model_dump(mode="json", by_alias=True, exclude_unset=True)
    with pytest.raises(ValidationError, match=why):
        EnvironmentSettings.model_validate({**base, "backup": values})


def test_a_schedule_may_have_a_time_zone_that_there_is():
    schedule = "*-*-* 03:00:00 America/Mexico_City"
    assert backup(schedule=schedule).schedule == schedule
    with pytest.raises(ValidationError, match="names the time zone America/Mexiko, which is none"):
        backup(schedule="*-*-* 03:00:00 America/Mexiko")


def test_durations_may_be_of_any_unit():
    made = backup(maxAge="90m", rto="1h", retention={"minimumAge": "2d"})

    assert (made.max_age, made.rto, made.retention.minimum_age) == (5400, 3600, 172800)
