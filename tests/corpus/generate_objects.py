"""Hypothesis strategies for the headers that an S3 object may have: bytes as they are on the wire."""

from __future__ import annotations

from urllib.parse import quote

from hypothesis import strategies as st

PLAIN = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30).map(str.encode)
UTF8 = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=12).map(str.encode)
LATIN = st.binary(max_size=12).map(lambda raw: bytes(byte for byte in raw if byte >= 0x20 and byte != 0x7F))
WORD = UTF8.map(lambda raw: b"=?UTF-8?Q?" + quote(raw, safe="").replace("%", "=").encode() + b"?=")
BLANKS = st.lists(st.sampled_from([b"a", b" ", b"  ", b"\t", b",", b";", b'"', b"\xc2\xa0", b"\xc2\x85"])).map(b"".join)
VALUES = st.one_of(PLAIN, UTF8, LATIN, WORD, BLANKS).map(lambda value: value.strip(b" \t")).filter(bool)
DATES = st.sampled_from([b"0", b"-1", b"never", b"Tue, 01 Jan 2030 00:00:00 GMT", b"2030-01-01T00:00:00Z"])
TYPES = st.sampled_from([b"text/plain", b"text/html; charset=UTF-8", b"APPLICATION/X-Odd", b"image/svg+xml", b"x"])
NAMES = st.text("abcXYZ019-_.", min_size=1, max_size=12).map(lambda name: f"x-amz-meta-m{name}".encode())
TAGS = st.dictionaries(st.text("ab 1ñ+=", min_size=1, max_size=8), st.text("ab 1ñ+=", max_size=8), max_size=4)


def _as_header(tags):
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in tags.items()).encode()


HEADERS = st.builds(
    lambda named, own: list({name.lower(): (name, value) for name, value in [*named.items(), *own]}.values()),
    st.fixed_dictionaries(
        {},
        optional={
            b"Content-Type": TYPES,
            b"Cache-Control": VALUES,
            b"Content-Disposition": VALUES,
            b"Content-Language": VALUES,
            b"Expires": st.one_of(DATES, VALUES),
            b"x-amz-website-redirect-location": st.sampled_from([b"/new", b"https://example.org/a?b=c%20d"]),
            b"x-amz-tagging": TAGS.filter(bool).map(_as_header),
        },
    ),
    st.lists(st.tuples(NAMES, VALUES), max_size=4),
)
"""Header lines of an object, names and values as bytes."""
