"""What our YAML reader reads, it reads as PyYAML does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.peer
yaml = pytest.importorskip("yaml", reason="scripts/install-peers makes the venv")

from m2m.errors import InputError  # noqa: E402
from m2m.formats.yaml import parse_yaml  # noqa: E402
from tests.formats.test_yaml import ENDS, TASK  # noqa: E402

SCALARS = [
    *["~", "null", "True", "off", "Yes", "12", "-3", "+4", "0x1F", "0b101", "017", "1_000", "09"],
    *["1.5", "-.5", ".5", "1e3", "1.0e+3", ".inf", "-.INF", "3.x", "1,2", "a#b", "a:b", "-x"],
    *["'it''s'", '"\\u00e9\\x41\\t"', "[]", "{}", "[1, [2, {a: b}],]", "{a: x,b: 1}", "http://x.y"],
    *["{a: [b, 'c, d'], \"e\": {f: g}}", "[a b, c:d]", "x y  # z", "C:\\x"],
]
TEXTS = [
    TASK,
    *(f"a: {scalar}" for scalar in SCALARS),
    "a: |\n  x\n   y\n\n  z\n\n\nb: >\n  p\n  q\n\n  r\n    s\n  t\n",
    "c: |+\n  k\n\nd: >-\n\n  m\n  n\n",
    "a: |2\n   x\n  y\nb: |-\n  z",
    "- a\n- - b\n  - c\n-\n  d: e\n- f: g\n  h:\n  - i\n  - j\n",
    "\"quoted key\": 1\n'other': 2\nwith space: 3\na-b: 4\n-x: 5\n",
    "a: [x,\n  y, # comment\n  'z']\nb: {c: 1,\n d: 2}\n",
    "a: b # c\n# d\n\ne: f\n",
    "just text",
    *ENDS,
    "",
]


@pytest.mark.parametrize("text", TEXTS)
def test_values_are_pyyamls(text: str) -> None:
    assert parse_yaml(text, "t") == yaml.safe_load(text)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=12),
    st.sampled_from(["a: b", "# c", "- d", "x\ny", "\n", " e ", "{{ f }}\nG:", "yes", "1.0", "'"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text("abc_ -:#'", min_size=1, max_size=6), inner, max_size=4),
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(values, st.sampled_from([None, False, True]), st.sampled_from([None, "'", '"', "|", ">"]))
def test_what_pyyaml_writes_is_read_back(value: Any, flow: bool | None, style: str | None) -> None:
    options = {"default_flow_style": flow, "default_style": style, "allow_unicode": True}
    text = yaml.safe_dump(value, width=10**6, **options)
    try:
        found = parse_yaml(text, "t")
    except InputError:  # refused, never misread; the tame ones are in TEXTS
        return
    assert found == yaml.safe_load(text)


# Letters alone seldom make a line that is one; pieces of lines do.
PIECES = [
    "a: ",
    "  a: ",
    "- ",
    ", ",
    ": ",
    " #",
    "|\n",
    ">-",
    "|+",
    "|2",
    "> \n",
    "\n ",
    "\n\n",
    "---",
]


@settings(max_examples=3000, deadline=None)
@given(
    st.text("ab:- #'\"[]{},|>\n!&*1.~", max_size=24)
    | st.lists(st.sampled_from([*PIECES, *"ab\n'\"[]{}#1.~!&*+"]), max_size=12).map("".join)
)
def test_nothing_is_misread(text: str) -> None:
    try:
        found = parse_yaml(text, "t")
    except InputError:
        return
    assert found == yaml.safe_load(text)
