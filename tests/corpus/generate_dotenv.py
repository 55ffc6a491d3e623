"""Draws dotenv files: names, quotes, escapes, comments, line ends, and values in which a canary is hidden."""

from __future__ import annotations

from hypothesis import strategies as st

CANARY = "c4n4ry"
NAMES = st.one_of(
    st.sampled_from(
        ["A", "lower_case", "spring.datasource.url", "X-Y", "a[0]", "_x", "A__B", "1A", "ñ", "名", "export"]
    ),
    st.text("ABCdef_019.-", min_size=1, max_size=9),
)
PIECES = st.sampled_from(
    [*"=#'\"\\ $:;`", "\\n", "\\'", '\\"', "\\\\", "${X}", "${X:-y}", "B=", "\t", "ñ", "🙂", "\u00a0", "\x0b", "\u2028"]
)
INNER = st.lists(st.one_of(st.just(CANARY), PIECES), min_size=1, max_size=6).map("".join)
LINES = st.sampled_from(["\n", "\n", "\n", "\r\n", "\n\n"])


@st.composite
def _value(draw):
    inner = draw(INNER)
    lines = inner + draw(st.sampled_from(["", "\n" + CANARY, f"\nB{CANARY}={CANARY}\n", f"\n# {CANARY}"]))
    return draw(
        st.sampled_from(
            [
                CANARY,
                f"{CANARY} # {CANARY}",
                f"'{CANARY}'",
                f'"{CANARY}"',
                "",
                inner,
                f"'{lines}'",
                f'"{lines}"',
                f'"{lines}" # {CANARY}',
                f"'{inner}' {CANARY}",
            ]
        )
    )


@st.composite
def _line(draw):
    kind = draw(st.integers(0, 19))
    if kind == 0:
        return draw(st.sampled_from(["", "   ", f"# {CANARY}", f"  #{CANARY}=x", "\t"]))
    if kind == 1:
        return draw(st.sampled_from([CANARY, f"{CANARY}==", f"{CANARY} {CANARY}", "'quoted'=1", "A: 1", f"={CANARY}"]))
    before = draw(st.sampled_from(["", "", "", "export ", "  ", "export\t"]))
    around = draw(st.sampled_from(["=", "=", "=", " = ", "= ", " ="]))
    return before + draw(NAMES) + around + draw(_value())


@st.composite
def dotenv_files(draw):
    """Return the bytes of a file."""
    text = "".join(line + draw(LINES) for line in draw(st.lists(_line(), max_size=6)))
    return draw(st.sampled_from([b"", b"", b"", b"\xef\xbb\xbf"])) + text.encode()
