"""Raise an alert once, repeat it once a day, clear it once. A failure that repeats is reported as one alert.

Alerts are sent where nobody watches the output: on the droplet, and where `ANCLA_NOTIFY=1` is set (CI). On a
workstation nothing is sent: the person who typed the command sees its error.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ops.core.environment import environment
from ops.monitoring.metrics import write_metrics
from ops.monitoring.notify import redacted, send
from ops.monitoring.state import AlertState, WatchState, home_of, remembered
from ops.stack.outputs import LoadedStack

REMIND_AFTER = timedelta(hours=24)
RUNBOOKS = frozenset(
    {
        "backup-failed",
        "backup-in-doubt",
        "backup-missing",
        "drill-red",
        "evidence-broken",
        "store-unreachable",
        "verify-damaged",
    }
)
"""The pages of `docs/runbooks/` that an alert may name."""


@dataclass(kw_only=True)
class Watch:
    """The results of one run. `state` may be changed; notifications are sent when the run ends."""

    stack: LoadedStack
    state: WatchState
    now: datetime
    raised: list[str] = field(default_factory=list[str])

    def raise_alert(self, key: str, text: str, runbook: str) -> None:
        """Raise an alert. `key` names its subject, such as `backup/app`."""
        assert runbook in RUNBOOKS, runbook  # noqa: S101  # a name that is written in this code
        text = redacted(" ".join(text.split()), self.stack.secrets)
        known = self.state.alerts.get(key)
        self.state.alerts[key] = AlertState(
            text=text,
            runbook=runbook,
            since=known.since if known else self.now,
            seen_at=self.now,
            told_at=known.told_at if known else None,
        )
        self.state.over.pop(key, None)
        self.raised.append(key)

    def clear(self, *keys: str) -> None:
        """Clear the alerts."""
        for key in keys:
            gone = self.state.alerts.pop(key, None)
            if gone is not None and gone.told_at is not None:  # no recovery message for an alert that was never sent
                self.state.over[key] = gone

    def drop(self, prefix: str, kept: Iterable[str]) -> None:
        """Drop alerts whose subject the stack no longer has: no later run would clear them."""
        known = {prefix + name for name in kept}
        for key in [key for key in self.state.alerts if key.startswith(prefix) and key not in known]:
            del self.state.alerts[key]

    def notify(self) -> None:
        """Send new, repeated and recovered alerts, in at most two messages."""
        where = f"{self.stack.outputs.project} {self.stack.outputs.environment}"
        due = [self.state.alerts[key] for key in dict.fromkeys(self.raised)]
        due = [a for a in due if a.told_at is None or self.now - a.told_at >= REMIND_AFTER]
        if due and self._sent(f"[ancla {where}] {_title(due)}", "\n\n".join(map(_line, due))):
            for alert in due:
                alert.told_at = self.now
        over = list(self.state.over.values())
        lines = [f"Recovered; raised at {_time(alert.since)}: {alert.text}" for alert in over]
        if over and self._sent(f"[ancla {where}] recovered: {_title(over)}", "\n\n".join(lines)):
            self.state.over.clear()

    def _sent(self, title: str, body: str) -> bool:
        addresses = self.stack.secrets.notifications
        return not addresses or send(addresses, title=title, body=body) > 0


def unattended(stack: LoadedStack) -> bool:
    """Return True if nobody watches the output, so that alerts have to be sent."""
    return stack.on_machine or environment().notify


@contextmanager
def watching(
    stack: LoadedStack, *, metrics: Path | None = None, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Generator[Watch]:
    """Yield a watch; at the end send notifications, save the state and write the metrics. Its errors are warnings."""
    with remembered(home_of(stack)) as state:
        watch = Watch(stack=stack, state=state, now=clock())
        yield watch
        if unattended(stack):
            watch.notify()
        write_metrics(stack, state, metrics)


def _title(alerts: list[AlertState]) -> str:
    first = alerts[0].text
    short = first if len(first) <= 80 else first[:79] + "…"
    return short if len(alerts) == 1 else f"{short} (and {len(alerts) - 1} more)"


def _line(alert: AlertState) -> str:
    return f"{alert.text}\nSince {_time(alert.since)}. What to do: docs/runbooks/{alert.runbook}.md"


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
