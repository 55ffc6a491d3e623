"""When somebody is notified, and where."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from blueprint.fields import EMAIL, Duration, Latency, Percent, Slug, UrlPath
from blueprint.model import Settings

Window = Literal["5m", "10m", "30m", "1h"]
Period = Literal["2m", "3m", "5m", "10m", "15m", "30m", "1h"]
WINDOWS: tuple[Window, ...] = ("5m", "10m", "30m", "1h")
"""For how long a droplet may be above a threshold (API reference, alert policies)."""
PERIODS: tuple[Period, ...] = ("2m", "3m", "5m", "10m", "15m", "30m", "1h")
"""For how long an address may be down or slow (API reference, uptime alerts)."""

_SLACK = re.compile(r"[#@]\S+")
_Span = TypeVar("_Span", bound=str)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Alarms come above these: percent of the droplet, and milliseconds of an answer."""

    cpu: int
    memory: int
    disk: int
    latency: int


PRESETS: Mapping[str, Limits] = {
    "sensitive": Limits(cpu=70, memory=80, disk=80, latency=500),
    "tolerant": Limits(cpu=85, memory=90, disk=85, latency=5000),
}
"""Of plans 003 and 004. Their rules on availability and errors need more than DigitalOcean's own monitoring."""


class Thresholds(Settings):
    """Alarms come when one of these was crossed for all of `hold`; each that is left out is the preset's."""

    cpu: Percent | None = Field(
        default=None, description="Percent of the droplet's CPU (default: the preset's); changed in place."
    )
    memory: Percent | None = Field(
        default=None, description="Percent of the droplet's memory (default: the preset's); changed in place."
    )
    disk: Percent | None = Field(
        default=None, description="Percent of the droplet's disk (default: the preset's); changed in place."
    )
    availability: Annotated[float, Field(gt=0, lt=100)] | None = Field(
        default=None,
        description="Percent of a month that the address must answer (default: the preset's); changed in place.",
    )
    error_share: Annotated[float, Field(gt=0, le=100)] | None = Field(
        default=None,
        description="Percent of the requests that may fail with 5xx (default: the preset's); changed in place.",
    )
    errors_a_minute: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Requests a minute that may fail with 5xx (default: the preset's); changed in place.",
    )


class UptimeSettings(Settings):
    """Checks of the public address from outside."""

    path: UrlPath = Field(
        default="/health", description="Path that must answer with success (default: /health); changed in place."
    )
    regions: tuple[Literal["us_east", "us_west", "eu_west", "se_asia"], ...] = Field(
        default=("us_east", "us_west"),
        description="Where it is checked from (default: us_east and us_west; []: no check); changed in place.",
    )
    latency: Latency | None = Field(
        default=None,
        description="Longest time of an answer, such as 500ms or 5s (default: the preset's); changed in place.",
    )
    every: Duration = Field(
        default=Duration("5m"),
        description=(
            "How long the address must be down or slow before an alarm comes, 2m, 3m, 5m, 10m, 15m, 30m or 1h "
            "(default: 5m); changed in place."
        ),
    )

    @property
    def period(self) -> Period:
        """Of the spans that DigitalOcean has, the longest that is not above `every`."""
        return longest_within(PERIODS, self.every)


class FailedLogins(Settings):
    """An alarm about guessed passwords and keys."""

    more: int = Field(ge=1, description="Failed logins above which an alarm comes; changed in place.")
    within: Duration = Field(
        default=Duration("5m"), description="Span in which they are counted (default: 5m); changed in place."
    )


class Channel(Settings):
    """Where alarms go. What is secret of the address is in `secrets.channels`, by the channel's name."""

    kind: Literal["email", "slack", "whatsapp", "telegram", "sms", "webhook"] = Field(
        description="How the alarm is sent; a change moves the alarms, in place."
    )
    to: str | None = Field(
        default=None,
        description=(
            "Address: of email one of a verified member of the team, of slack a channel such as #ops; others have it "
            "in secrets.channels; changed in place."
        ),
    )

    @model_validator(mode="after")
    def _address(self) -> Channel:
        if self.kind == "email" and not re.fullmatch(EMAIL, self.to or ""):
            raise ValueError("to: an email channel needs an e-mail address, such as ops@example.org")
        if self.kind == "slack" and not _SLACK.fullmatch(self.to or ""):
            raise ValueError(
                'to: a slack channel needs a channel, which begins with # and is in quotes, such as "#ops"'
            )
        return self


class AlertsSettings(Settings):
    """Alarms: DigitalOcean's own monitoring of the droplets, and checks of the public address from outside."""

    preset: Literal["sensitive", "tolerant"] = Field(
        default="sensitive",
        description=(
            "Thresholds that are not named: sensitive is CPU 70 %, memory 80 %, disk 80 % and 500 ms, tolerant is "
            "85 %, 90 %, 85 % and 5 s (default: sensitive); changed in place."
        ),
    )
    thresholds: Thresholds = Field(
        default=Thresholds(), description="Thresholds other than the preset's (default: none); changed in place."
    )
    hold: Duration = Field(
        default=Duration("5m"),
        description=(
            "How long a threshold must be crossed before an alarm comes, 5m, 10m, 30m or 1h (default: 5m); changed in "
            "place."
        ),
    )
    channels: dict[Slug, Channel] = Field(
        default_factory=dict,
        description="Where alarms go, by name (default: nowhere: checks without alarms); changed in place.",
    )
    uptime: UptimeSettings = Field(
        default=UptimeSettings(), description="Checks of the public address from outside; changed in place."
    )
    failed_logins: FailedLogins | None = Field(
        default=None, description="An alarm about failed logins (default: none); changed in place."
    )
    heartbeat: bool = Field(
        default=False,
        description=(
            "Whether each complete backup requests the address in secrets.heartbeat, a dead man's switch (default: "
            "false); changed in place."
        ),
    )

    @property
    def limits(self) -> Limits:
        """The limits that hold: those that are written, then the preset's."""
        preset, written, latency = PRESETS[self.preset], self.thresholds, self.uptime.latency
        return Limits(
            cpu=written.cpu or preset.cpu,
            memory=written.memory or preset.memory,
            disk=written.disk or preset.disk,
            latency=int(latency or preset.latency),
        )

    @property
    def window(self) -> Window:
        """Of the spans that DigitalOcean has, the longest that is not above `hold`."""
        return longest_within(WINDOWS, self.hold)

    @property
    def emails(self) -> tuple[str, ...]:
        """The addresses of the e-mail channels, without repetition."""
        return tuple(dict.fromkeys(self._addresses("email").values()))

    @property
    def slack(self) -> dict[str, str]:
        """The Slack channels, by the name of ours."""
        return self._addresses("slack")

    def _addresses(self, kind: str) -> dict[str, str]:
        return {name: channel.to for name, channel in self.channels.items() if channel.kind == kind and channel.to}


def longest_within(spans: Iterable[_Span], wanted: Duration) -> _Span:
    """Return the longest of the spans, which are in rising order, that is not above the wanted one, or the first."""
    known = list(spans)
    return [known[0], *(span for span in known if Duration(span) <= wanted)][-1]
