"""A dead man's switch: an address that is asked for after each complete run, so that silence is an alarm elsewhere.

It is what is left when the machine itself is gone, and nobody there can notify.
"""

from __future__ import annotations

import httpx
from pydantic import SecretStr
from tenacity import retry, retry_if_exception_type, retry_if_result, stop_after_attempt, wait_random_exponential

from ops.monitoring.state import warn

TRIES = 3
TIMEOUT_SECONDS = 10


def ping(address: SecretStr) -> bool:
    """Ask for the address; say whether it answered well. It may hold a token, so no message holds it."""
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
