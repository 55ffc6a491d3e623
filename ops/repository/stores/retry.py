"""Retry requests to a store: one request at a time, with full jitter, for a limited time.

It hooks into botocore, so it applies to every request of a client. botocore's own retries know no `Retry-After`,
count attempts and not time, and give up on a 429 without a body.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ConnectionError as NoConnectionError
from botocore.exceptions import HTTPClientError, IncompleteReadError, SSLError

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

BROKEN = (HTTPClientError, NoConnectionError, IncompleteReadError)
"""Network errors, which may be temporary."""

BUSY = {408, 429, 500, 502, 503, 504}
BUSY_CODES = {"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "TooManyRequests", "Throttling"}
_SINCE = "ancla_failing_since"


@dataclass(kw_only=True)
class Patience:
    """Seconds from the first failure of a request until giving up; `at_first` applies before the store ever answered.

    `pause` is the longest pause, except for a `Retry-After` that fits into the time.
    """

    at_first: float = 5
    later: float = 120
    pause: float = 10
    answered: bool = False

    def watch(self, client: S3Client) -> None:
        """Register for every request of this client."""
        handler = cast("Any", self._needs_retry)  # the stubs only allow handlers that return nothing
        client.meta.events.register("needs-retry.s3", handler, unique_id="ancla-patience")

    def next_pause(self, since: float, tries: int, asked: float = 0) -> float | None:
        """Return the seconds to wait before the next try; None to give up.

        Args:
            since: `time.monotonic()` of the first failure.
            tries: number of failures.
            asked: the value of `Retry-After`.
        """
        left = since + (self.later if self.answered else self.at_first) - time.monotonic()
        wanted = max(asked, random.uniform(0, min(self.pause, 0.1 * 2.0 ** min(tries, 16))))  # noqa: S311  # no secret
        return wanted if wanted < left else None

    def _needs_retry(
        self,
        *,
        response: tuple[Any, dict[str, Any]] | None,
        attempts: int,
        caught_exception: Exception | None,
        request_dict: dict[str, Any],
        **_: object,
    ) -> float | None:
        asked: float | None = None
        if response is not None:
            asked = _asked(response[1])
            self.answered = self.answered or asked is None
        elif isinstance(caught_exception, BROKEN) and not isinstance(caught_exception, SSLError):
            asked = 0
        if asked is None:
            return None
        since = request_dict["context"].setdefault(_SINCE, time.monotonic())
        return self.next_pause(since, attempts, asked)


def is_busy(parsed: Mapping[str, Any]) -> bool:
    """Return True if an answer says that the store is busy, so that the request may succeed later."""
    status = parsed.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status in BUSY or parsed.get("Error", {}).get("Code", "") in BUSY_CODES


def _asked(parsed: dict[str, Any]) -> float | None:
    """Return the `Retry-After` seconds of a busy store; None if it is not busy."""
    if not is_busy(parsed):
        return None
    header = parsed.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("retry-after", "")
    if header.isdigit():
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0
