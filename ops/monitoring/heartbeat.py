"""Ping an address after each complete run (a dead man's switch), so that silence raises an alarm elsewhere.

This still works when the droplet itself is gone and cannot notify anybody.
"""

from __future__ import annotations

import httpx
from pydantic import SecretStr
from tenacity import retry, retry_if_exception_type, retry_if_result, stop_after_attempt, wait_random_exponential

from ops.monitoring.state import warn

TRIES = 3
TIMEOUT_SECONDS = 10


def ping(address: SecretStr) -> bool:
    """Request the address; return True if it answers with success. It may contain a token, so no message names it."""
    try:
        answer = _get(address.get_secret_value())
    except (httpx.HTTPError, httpx.InvalidURL):
        warn("heartbeat: the address of secrets.heartbeat does not answer")
        return False
    if not answer.is_success:
        warn(f"heartbeat: the address of secrets.heartbeat answers {answer.status_code}")
    return answer.is_success


@retry(
    stop=stop_after_attempt(TRIES),
    wait=wait_random_exponential(max=5),
    retry=retry_if_exception_type(httpx.TransportError) | retry_if_result(lambda answer: answer.status_code >= 500),
    retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
)
def _get(address: str) -> httpx.Response:
    return httpx.get(address, timeout=TIMEOUT_SECONDS, follow_redirects=True)
