"""Metrics for Prometheus as a text file, such as the node exporter's textfile collector reads."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest

from ops.core.environment import environment
from ops.core.files import atomic_write
from ops.monitoring.state import WatchState, home_of, warn
from ops.stack.outputs import LoadedStack

HELP = {
    "backup_last_success_timestamp_seconds": "When the last complete backup made here was finished.",
    "backup_duration_seconds": "How long it took.",
    "backup_stored_bytes": "Bytes of its objects as stored.",
    "backup_rows": "Rows, files or objects in it.",
    "backup_failures_total": "Runs here that made no complete backup of the set.",
    "backup_age_seconds": "Age of the newest complete backup in the store, when it was last looked for; +Inf: none.",
    "backup_age_budget_seconds": "How old it may be.",
    "drill_green": "1 when the last drill was green, else 0.",
    "drill_timestamp_seconds": "When the last drill ended.",
    "drill_rto_seconds": "How long its restore took.",
    "drill_rpo_seconds": "How old the data was that came back.",
    "verify_damaged_objects": "Objects that the last verify found damaged or missing.",
    "verify_timestamp_seconds": "When the last verify ended.",
    "verify_oldest_timestamp_seconds": "When the object that has waited longest was last verified.",
    "alert_since_timestamp_seconds": "When an alert that is raised now began.",
}


def write_metrics(stack: LoadedStack, state: WatchState, file: Path | None = None) -> None:
    """Write them to `file`, else to $ANCLA_METRICS, else to `metrics/ancla.prom` beside the state; never fail."""
    path = file or environment().metrics or home_of(stack) / "metrics" / "ancla.prom"
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
            path.parent.chmod(0o755)  # who collects them is not root
        atomic_write(path, build_metrics(stack, state), mode=0o644)
    except OSError as error:
        warn(f"{path}: the metrics cannot be written: {error.strerror}")


def build_metrics(stack: LoadedStack, state: WatchState) -> bytes:
    """Return the text. What is not known is left out, not zero."""
    disable_created_metrics()  # the page is made anew each time, and so would be the time that it was "created"
    page = _Page({"project": stack.outputs.project, "environment": stack.outputs.environment})
    for name, item in state.sets.items():
        page.put("backup_last_success_timestamp_seconds", item.last_success, name=name)
        page.put("backup_duration_seconds", item.seconds, name=name)
        page.put("backup_stored_bytes", item.stored_bytes, name=name)
        page.put("backup_rows", item.rows, name=name)
        page.put("backup_failures_total", item.failures, name=name)
    for copy in state.copies:
        # one that was looked for and is not there is older than any budget; left out, no rule would see it
        page.put("backup_age_seconds", math.inf if copy.age is None else copy.age, name=copy.name, store=copy.store)
        page.put("backup_age_budget_seconds", copy.budget, name=copy.name, store=copy.store)
    for name, drill in state.drills.items():
        page.put("drill_green", int(drill.green), name=name)
        page.put("drill_timestamp_seconds", drill.finished_at, name=name)
        page.put("drill_rto_seconds", drill.rto_seconds, name=name)
        page.put("drill_rpo_seconds", drill.rpo_seconds, name=name)
    for store, item in state.verified.items():
        page.put("verify_damaged_objects", item.damaged, store=store)
        page.put("verify_timestamp_seconds", item.finished_at, store=store)
        page.put("verify_oldest_timestamp_seconds", item.oldest, store=store)
    for key, alert in state.alerts.items():
        page.put("alert_since_timestamp_seconds", alert.since, alert=key, runbook=alert.runbook)
    return generate_latest(page.registry)


class _Page:
    """Metrics by name, each made when its first value comes; `common` labels are on all of them."""

    def __init__(self, common: dict[str, str]) -> None:
        self.registry = CollectorRegistry()
        self._common = common
        self._made: dict[str, Gauge | Counter] = {}

    def put(self, metric: str, value: float | datetime | None, /, **labels: str) -> None:
        """Set one value, where there is one."""
        if value is None:
            return
        number = value.timestamp() if isinstance(value, datetime) else float(value)
        made = self._made.get(metric) or self._make(metric, [*self._common, *labels])
        child = made.labels(**self._common, **labels)
        if isinstance(child, Counter):
            child.inc(number)
        else:
            child.set(number)

    def _make(self, name: str, labels: list[str]) -> Gauge | Counter:
        kind = Counter if name.endswith("_total") else Gauge
        made = self._made[name] = kind(f"ancla_{name}", HELP[name], labels, registry=self.registry)
        return made
