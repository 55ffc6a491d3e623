"""Alarms: the presets, the spans that DigitalOcean has, and the address of each kind of channel."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from blueprint.settings.alerts import PRESETS, AlertsSettings, Limits


def alerts(**values: Any) -> AlertsSettings:
    return AlertsSettings.model_validate(values)


@pytest.mark.parametrize(
    ("written", "limits"),
    [
        ({}, Limits(cpu=70, memory=80, disk=80, latency=500)),
        ({"preset": "tolerant"}, Limits(cpu=85, memory=90, disk=85, latency=5000)),
        (
            {"preset": "tolerant", "thresholds": {"disk": 60}, "uptime": {"latency": "2s"}},
            Limits(cpu=85, memory=90, disk=60, latency=2000),
        ),
    ],
)
def test_what_is_not_written_is_the_presets(written: dict[str, Any], limits: Limits):
    assert alerts(**written).limits == limits
    assert PRESETS["sensitive"] == alerts().limits


@pytest.mark.parametrize(
    ("span", "window", "period"),
    [("1s", "5m", "2m"), ("5m", "5m", "5m"), ("29m", "10m", "15m"), ("60m", "1h", "1h"), ("1d", "1h", "1h")],
)
def test_a_span_that_digitalocean_lacks_becomes_the_next_shorter_one(span: str, window: str, period: str):
    made = alerts(hold=span, uptime={"every": span})

    assert (made.window, made.uptime.period) == (window, period)


@pytest.mark.parametrize(
    ("channel", "why"),
    [
        ({"kind": "email"}, "needs an e-mail address"),
        ({"kind": "email", "to": "ops"}, "needs an e-mail address"),
        ({"kind": "slack", "to": "ops"}, "begins with #"),
        ({"kind": "pigeon"}, "'email', 'slack', 'whatsapp'"),
    ],
)
def test_a_channel_has_an_address_of_its_kind(channel: dict[str, str], why: str):
    with pytest.raises(ValidationError, match=why):
        alerts(channels={"team": channel})


def test_addresses_are_by_kind_and_one_is_told_once():
    made = alerts(
        channels={
            "ana": {"kind": "email", "to": "ops@example.org"},
            "ben": {"kind": "email", "to": "ops@example.org"},
            "team": {"kind": "slack", "to": "#ops"},
            "founder": {"kind": "whatsapp"},
        }
    )

    assert made.emails == ("ops@example.org",)
    assert made.slack == {"team": "#ops"}
