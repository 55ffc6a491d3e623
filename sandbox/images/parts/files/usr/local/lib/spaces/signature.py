"""AWS Signature Version 4 for S3: sign a request for a gateway, or check one that the front answers itself.

One canonical form serves both ways. Source: AWS, "Signature Calculations for the Authorization Header".
"""

# ruff: noqa: INP001 - run as a program inside its container, beside its neighbours

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, quote, unquote, urlsplit

UNSIGNED = "UNSIGNED-PAYLOAD"
ALGORITHM = "AWS4-HMAC-SHA256"
STAMP = "%Y%m%dT%H%M%SZ"
SKEW = dt.timedelta(minutes=15)
CREDENTIAL_PARTS = 5
SHA256_HEX = 64


class SignatureRefused(Exception):  # noqa: N818 - an answer, not a fault
    """The request's signature does not hold; `code` is S3's error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _canonical(method: str, uri: str, headers: Mapping[str, str], signed: Sequence[str], payload: str) -> str:
    split = urlsplit(uri)
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(split.query, keep_blank_values=True)
    )
    return "\n".join(
        [
            method,
            quote(unquote(split.path), safe="/-_.~"),
            "&".join(f"{name}={value}" for name, value in pairs if name != "X-Amz-Signature"),
            *(f"{name}:{' '.join(headers.get(name, '').split())}" for name in signed),
            "",
            ";".join(signed),
            payload,
        ]
    )


def _signature(canonical: str, moment: str, region: str, secret_key: str) -> str:
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    text = "\n".join([ALGORITHM, moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret_key}".encode()
    for part in (moment[:8], region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, text.encode(), "sha256").hexdigest()


def sign(method: str, uri: str, headers: Mapping[str, str], region: str, pair: tuple[str, str]) -> dict[str, str]:
    """Headers that sign this request (body unsigned) with the (access, secret) pair.

    `headers` are `host` and the `x-amz-*` ones it carries, all of which are signed.
    """
    moment = dt.datetime.now(dt.UTC).strftime(STAMP)
    headers = {**headers, "x-amz-content-sha256": UNSIGNED, "x-amz-date": moment}
    signed = sorted(headers)
    signature = _signature(_canonical(method, uri, headers, signed, UNSIGNED), moment, region, pair[1])
    credential = f"{pair[0]}/{moment[:8]}/{region}/s3/aws4_request"
    authorization = f"{ALGORITHM} Credential={credential}, SignedHeaders={';'.join(signed)}, Signature={signature}"
    return {"Authorization": authorization, "X-Amz-Date": moment, "X-Amz-Content-Sha256": UNSIGNED}


def parse_credential(headers: Mapping[str, str], query: Mapping[str, str]) -> tuple[str, str] | None:
    """(access key, region) of a signed request, None when it is anonymous, empty strings when it cannot be read."""
    header = headers.get("authorization", "")
    if header:
        credential = _fields(header).get("Credential", "") if header.startswith(ALGORITHM) else ""
    elif {"X-Amz-Credential", "X-Amz-Signature", "AWSAccessKeyId"} & query.keys():
        credential = query.get("X-Amz-Credential", "")
    else:
        return None
    parts = credential.split("/")
    return (parts[0], parts[2]) if len(parts) == CREDENTIAL_PARTS else ("", "")


def _fields(header: str) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in header.split(" ", 1)[-1].split(","))
    return {name: value for name, _, value in pairs}


def _check_time(moment: str, valid: dt.timedelta) -> None:
    try:
        signed_at = dt.datetime.strptime(moment, STAMP).replace(tzinfo=dt.UTC)
    except ValueError:
        raise SignatureRefused("AccessDenied", "The request has no valid x-amz-date.") from None
    now = dt.datetime.now(dt.UTC)
    if signed_at > now + SKEW or now > signed_at + valid:
        raise SignatureRefused("RequestTimeTooSkewed", "The request's time is too far from the server's.")


def verify(method: str, uri: str, headers: Mapping[str, str], body: bytes, secret_key: str) -> None:
    """Check the header or query signature of a request, its age, and its body's hash. Header names are lower-case.

    Raises:
        SignatureRefused: it does not hold.
    """
    query = dict(parse_qsl(urlsplit(uri).query, keep_blank_values=True))
    _, region = parse_credential(headers, query) or ("", "")
    if "authorization" in headers:
        fields = _fields(headers["authorization"])
        signed, claimed = fields.get("SignedHeaders", ""), fields.get("Signature", "")
        moment, payload = headers.get("x-amz-date", ""), headers.get("x-amz-content-sha256", UNSIGNED)
        valid = SKEW
    else:
        signed, claimed = query.get("X-Amz-SignedHeaders", ""), query.get("X-Amz-Signature", "")
        moment, payload = query.get("X-Amz-Date", ""), UNSIGNED
        valid = dt.timedelta(seconds=int(query.get("X-Amz-Expires") or 0))
    _check_time(moment, valid)
    if "host" not in signed.split(";"):
        raise SignatureRefused("AccessDenied", "The host header is not signed.")
    if len(payload) == SHA256_HEX and payload != hashlib.sha256(body).hexdigest():
        raise SignatureRefused("XAmzContentSHA256Mismatch", "x-amz-content-sha256 does not match the body.")
    expected = _signature(_canonical(method, uri, headers, signed.split(";"), payload), moment, region, secret_key)
    if not hmac.compare_digest(expected, claimed):
        raise SignatureRefused("SignatureDoesNotMatch", "The request signature we calculated does not match yours.")
