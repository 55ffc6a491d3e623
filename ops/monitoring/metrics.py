"""Write metrics for Prometheus as a text file, for example for the node exporter's textfile collector."""

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
    "backup_last_success_timestamp_seconds": "Time the last complete backup made here finished.",
    "backup_duration_seconds": "Duration of that backup.",
    "backup_stored_bytes": "Bytes of its objects in the store.",
    "backup_rows": "Rows, files or objects in it.",
    "backup_failures_total": "Runs here that made no complete backup of the set.",
    "backup_age_seconds": "Age of the newest complete backup in the store, at the last check; +Inf: none.",
    "backup_age_budget_seconds": "Maximum age of the newest backup.",
    "drill_green": "1 if the last drill was green, 0 otherwise.",
    "drill_timestamp_seconds": "Time the last drill ended.",
    "drill_rto_seconds": "Duration of that drill's restore.",
    "drill_rpo_seconds": "Age of the restored data.",
    "verify_damaged_objects": "Objects that the last verify found damaged or missing.",
    "verify_timestamp_seconds": "Time the last verify ended.",
    "verify_oldest_timestamp_seconds": "Time of the oldest last verification of any object.",
    "alert_since_timestamp_seconds": "Time a current alert was raised.",
}


def write_metrics(stack: LoadedStack, state: WatchState, file: Path | None = None) -> None:
    """Write them to `file` (default: $ANCLA_METRICS, or `metrics/ancla.prom` beside the state); never fail."""
    path = file or environment().metrics or home_of(stack) / "metrics" / "ancla.prom"
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
            path.parent.chmod(0o755)  # the collector does not run as root
        atomic_write(path, build_metrics(stack, state), mode=0o644)
    except OSError as error:
        warn(f"{path}: the metrics cannot be written: {error.strerror}")


def build_metrics(stack: LoadedStack, state: WatchState) -> bytes:
    """Build the text. Unknown values are left out, not zero."""
    disable_created_metrics()  # the page is rebuilt each time, so "created" would be wrong
    page = _Page({"project": stack.outputs.project, "environment": stack.outputs.environment})
    for name, item in state.sets.items():
        page.put("backup_last_success_timestamp_seconds", item.last_success, name=name)
        page.put("backup_duration_seconds", item.seconds, name=name)
        page.put("backup_stored_bytes", item.stored_bytes, name=name)
        page.put("backup_rows", item.rows, name=name)
        page.put("backup_failures_total", item.failures, name=name)
    for copy in state.copies:
        # a missing backup counts as older than any budget; left out, no alert rule would match
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
    """Metrics by name, created with their first value; all have the `common` labels."""

    def __init__(self, common: dict[str, str]) -> None:
        self.registry = CollectorRegistry()
        self._common = common
        self._made: dict[str, Gauge | Counter] = {}

    def put(self, metric: str, value: float | datetime | None, /, **labels: str) -> None:
        """Set one value unless it is None."""
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
