"""AWS Signature Version 4 for S3: sign a request for a gateway, or check one that the front answers itself.

The one canonical form serves both ways. Source: the AWS documentation "Signature Calculations for the Authorization Header".
"""

import datetime
import hashlib
import hmac
from urllib.parse import parse_qsl, quote, unquote, urlsplit

UNSIGNED = "UNSIGNED-PAYLOAD"
ALGORITHM = "AWS4-HMAC-SHA256"
SKEW = datetime.timedelta(minutes=15)


class SignatureRefused(Exception):
    """The request's signature does not hold; `code` is S3's error code."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def _signature(method, uri, headers, signed, payload, moment, region, secret_key):
    split = urlsplit(uri)
    pairs = [(quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in parse_qsl(split.query, keep_blank_values=True)]
    canonical = "\n".join(
        [
            method,
            quote(unquote(split.path), safe="/-_.~"),
            "&".join(f"{name}={value}" for name, value in sorted(pairs) if name != "X-Amz-Signature"),
            *(f"{name}:{' '.join(headers.get(name, '').split())}" for name in signed),
            "",
            ";".join(signed),
            payload,
        ]
    )
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    text = "\n".join([ALGORITHM, moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret_key}".encode()
    for part in (moment[:8], region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, text.encode(), "sha256").hexdigest()


def sign(method, uri, host, region, access_key, secret_key, amz_headers):
    """Headers that sign this request (body unsigned) for `region`, with the `x-amz-*` headers it will carry. `uri` is raw."""
    moment = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    headers = {**amz_headers, "host": host, "x-amz-content-sha256": UNSIGNED, "x-amz-date": moment}
    signature = _signature(method, uri, headers, sorted(headers), UNSIGNED, moment, region, secret_key)
    credential = f"{access_key}/{moment[:8]}/{region}/s3/aws4_request"
    authorization = f"{ALGORITHM} Credential={credential}, SignedHeaders={';'.join(sorted(headers))}, Signature={signature}"
    return {"Authorization": authorization, "X-Amz-Date": moment, "X-Amz-Content-Sha256": UNSIGNED}


def parse_credential(headers, query):
    """(access key, region) of a signed request, None when it is anonymous, empty strings when it cannot be read."""
    header = headers.get("authorization", "")
    if header.startswith(ALGORITHM):
        credential = _fields(header).get("Credential", "")
    elif header:
        credential = ""
    elif "X-Amz-Credential" in query or "X-Amz-Signature" in query or "AWSAccessKeyId" in query:
        credential = query.get("X-Amz-Credential", "")
    else:
        return None
    parts = credential.split("/")
    return (parts[0], parts[2]) if len(parts) == 5 else ("", "")


def _fields(header):
    return dict(part.strip().split("=", 1) for part in header.split(" ", 1)[-1].split(",") if "=" in part)


def _check_time(moment, seconds):
    try:
        signed_at = datetime.datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        raise SignatureRefused("AccessDenied", "The request has no valid x-amz-date.") from None
    now = datetime.datetime.now(datetime.timezone.utc)
    if signed_at > now + SKEW or now > signed_at + (datetime.timedelta(seconds=seconds) if seconds else SKEW):
        raise SignatureRefused("RequestTimeTooSkewed", "The difference between the request time and the server's time is too large.")


def verify(method, uri, headers, body, secret_key):
    """Check the header or query signature of a request, its age, and its body's hash. Header names are lower-case.

    Raises:
        SignatureRefused: it does not hold.
    """
    query = dict(parse_qsl(urlsplit(uri).query, keep_blank_values=True))
    _, region = parse_credential(headers, query)
    if "authorization" in headers:
        fields = _fields(headers["authorization"])
        signed, claimed = fields.get("SignedHeaders", ""), fields.get("Signature", "")
        moment, payload = headers.get("x-amz-date", ""), headers.get("x-amz-content-sha256", UNSIGNED)
        _check_time(moment, 0)
    else:
        signed, claimed = query.get("X-Amz-SignedHeaders", ""), query.get("X-Amz-Signature", "")
        moment, payload = query.get("X-Amz-Date", ""), UNSIGNED
        _check_time(moment, int(query.get("X-Amz-Expires") or 0))
    if "host" not in signed.split(";"):
        raise SignatureRefused("AccessDenied", "The host header is not signed.")
    if len(payload) == 64 and payload != hashlib.sha256(body).hexdigest():
        raise SignatureRefused("XAmzContentSHA256Mismatch", "The provided x-amz-content-sha256 header does not match the body.")
    expected = _signature(method, uri, headers, signed.split(";"), payload, moment, region, secret_key)
    if not hmac.compare_digest(expected, claimed):
        raise SignatureRefused(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
        )
