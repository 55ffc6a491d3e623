"""Alert policies and uptime checks. They are kept and answered; nothing here measures or notifies."""

from __future__ import annotations

import re

from sandbox.api.context import ApiError, Body, Call, invalid, list_of, new_uuid, now, operation, pick
from sandbox.api.kinds import Kind
from sandbox.api.switches import switches_of
from sandbox.store import Record

_COMPARE = ("GreaterThan", "LessThan")
_WINDOWS = ("5m", "10m", "30m", "1h")
_TYPE = re.compile(r"v1/(insights/(droplet|lbaas)|dbaas/alerts|droplet/autoscale_alerts)/[a-z0-9_]+")


def _notifications(call: Call, name: str) -> Record:
    """Return the channels of `name` in the body; mail goes to nobody but members of the team."""
    given = call.body.get(name)
    if not isinstance(given, dict):
        raise invalid("alerts is required")
    emails, slack = list_of(str, given.get("email"), "email"), list_of(dict, given.get("slack"), "slack")
    if not emails and not slack:
        raise invalid("at least one email or slack channel is required")
    for channel in slack:
        if not str(channel.get("url", "")).startswith("https://") or not channel.get("channel"):
            raise invalid("slack notifications need a channel and an https url")
    members = {call.store.get_meta("account")["email"], *switches_of(call.store).addresses}
    for number, email in enumerate(emails):
        if email not in members:
            raise ApiError(400, f"invalid value for field '{name}.email[{number}]': invalid email '{email}'")
    return {"email": emails, "slack": slack}


# --- alert policies --------------------------------------------------------------------------------------------------


def _policy_fields(call: Call) -> Record:
    kind = call.text("type", pattern=_TYPE.pattern, message="invalid alert type")
    value = call.body.get("value")
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise invalid("value is required")
    if kind.endswith("_percent") and not 0 <= value <= 100:
        raise invalid("value must be between 0 and 100 for percentages")
    entities = call.texts("entities")
    for entity in entities:
        if "/droplet/" in kind and call.store.get("droplet", entity) is None:
            raise invalid(f"entity {entity} not found")
    return {
        "alerts": _notifications(call, "alerts"),
        "compare": call.one_of("compare", _COMPARE, "invalid compare"),
        "description": str(call.body.get("description") or ""),
        "enabled": call.body.get("enabled") is not False,
        "entities": entities,
        "tags": call.texts("tags"),
        "type": kind,
        "value": value,
        "window": call.one_of("window", _WINDOWS, "invalid window"),
    }


ALERT = Kind(
    name="alert",
    singular="policy",
    plural="policies",
    parameter="alert_uuid",
    id="uuid",
    missing="alert policy not found",
    label="description",
    lists=("monitoring_list_alertPolicy",),
    reads=("monitoring_get_alertPolicy",),
    removes=("monitoring_delete_alertPolicy",),
)


@operation("monitoring_create_alertPolicy")
def create_policy(call: Call) -> Body:
    """Keep an alert policy."""
    return ALERT.save(call, {**_policy_fields(call), "uuid": new_uuid()})


@operation("monitoring_update_alertPolicy")
def update_policy(call: Call) -> Body:
    """Replace an alert policy."""
    return ALERT.save(call, {**ALERT.find(call), **_policy_fields(call)})


# --- uptime ----------------------------------------------------------------------------------------------------------

_CHECK_TYPES = ("ping", "http", "https")
_CHECK_REGIONS = ("us_east", "us_west", "eu_west", "se_asia")
_ALERT_TYPES = ("latency", "down", "down_global", "ssl_expiry")
_COMPARISONS = ("greater_than", "less_than")
_PERIODS = ("2m", "3m", "5m", "10m", "15m", "30m", "1h")


def _check_fields(call: Call) -> Record:
    target = call.text("target", message="target is required")
    kind = call.one_of("type", _CHECK_TYPES, "invalid check type", default=target.partition("://")[0])
    if kind != "ping" and not target.startswith(f"{kind}://"):
        raise invalid(f"target must be a URL that starts with {kind}://")
    regions = call.texts("regions") or list(_CHECK_REGIONS)
    if not set(regions) <= set(_CHECK_REGIONS):
        raise invalid(f"regions must be among: {', '.join(_CHECK_REGIONS)}")
    return {
        "name": call.text("name", message="name is required"),
        "type": kind,
        "target": target,
        "regions": regions,
        "enabled": call.body.get("enabled") is not False,
    }


CHECK = Kind(
    name="check",
    shown=lambda _, check: pick(check, "id", "name", "type", "target", "regions", "enabled"),
    missing="check not found",
    label="name",
    lists=("uptime_list_checks",),
    reads=("uptime_get_check",),
    removes=("uptime_delete_check",),
    removing=lambda call, check: call.store.delete_children("check_alert", check["id"]),
)
CHECK_ALERT = Kind(
    name="check_alert",
    singular="alert",
    parent=CHECK,
    missing="alert not found",
    lists=("uptime_list_alerts",),
    reads=("uptime_get_alert",),
    removes=("uptime_delete_alert",),
)


@operation("uptime_create_check")
def create_check(call: Call) -> Body:
    """Keep an uptime check."""
    return CHECK.save(call, {"id": new_uuid(), **_check_fields(call), "since": now()})


@operation("uptime_update_check")
def update_check(call: Call) -> Body:
    """Replace an uptime check."""
    return CHECK.save(call, {**CHECK.find(call), **_check_fields(call)})


@operation("uptime_get_checkState")
def get_state(call: Call) -> Body:
    """Answer `CHECKING` for every region: nothing here measures."""
    check = CHECK.find(call)
    state = {"status": "CHECKING", "status_changed_at": check["since"], "thirty_day_uptime_percentage": 0.0}
    return {"state": {"regions": dict.fromkeys(check["regions"], state)}}


def _alert_fields(call: Call) -> Record:
    kind = call.one_of("type", _ALERT_TYPES, "invalid alert type")
    fields: Record = {
        "name": call.text("name", message="name is required"),
        "type": kind,
        "notifications": _notifications(call, "notifications"),
        "period": call.one_of("period", _PERIODS, "invalid period"),
    }
    if kind in ("latency", "ssl_expiry"):
        fields["comparison"] = call.one_of("comparison", _COMPARISONS, "invalid comparison")
        threshold = call.body.get("threshold")
        if not isinstance(threshold, int) or isinstance(threshold, bool):
            raise invalid("threshold is required")
        fields["threshold"] = threshold
    return fields


@operation("uptime_create_alert")
def create_alert(call: Call) -> Body:
    """Keep an alert of an uptime check."""
    return CHECK_ALERT.save(call, {"id": new_uuid(), **_alert_fields(call)})


@operation("uptime_update_alert")
def update_alert(call: Call) -> Body:
    """Replace an alert of an uptime check."""
    return CHECK_ALERT.save(call, {"id": CHECK_ALERT.find(call)["id"], **_alert_fields(call)})
