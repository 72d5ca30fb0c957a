"""YAML is read as lm-evaluation-harness reads it, with limits and without code."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from m2m.errors import InputError
from m2m.formats.yaml import Tagged, parse_yaml

TASK = r"""---
# a task
task: sw_arc
tag:
  - swahili
  - "two words"
dataset_kwargs:
  data_files: {test: test.jsonl, 'validation': dev.jsonl}
doc_to_text: "Swali: {{question}}\nJibu:"
doc_to_choice: ["A", 'B''s',
  C d]   # three
output_type: multiple_choice
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
description: |
  One.

    Two.
note: >-
  folded
  text

  more
metadata:
  version: 1.0
num_fewshot: 0
empty:
long: "one
  two\
  \ three

  four"
"under":
  "seven
  eight"
plain: five
  six
"""


def test_a_task_file() -> None:
    assert parse_yaml(TASK, "t.yaml") == {
        "task": "sw_arc",
        "tag": ["swahili", "two words"],
        "dataset_kwargs": {"data_files": {"test": "test.jsonl", "validation": "dev.jsonl"}},
        "doc_to_text": "Swali: {{question}}\nJibu:",
        "doc_to_choice": ["A", "B's", "C d"],
        "output_type": "multiple_choice",
        "metric_list": [
            {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
            {"metric": "acc_norm"},
        ],
        "description": "One.\n\n  Two.\n",
        "note": "folded text\nmore",
        "metadata": {"version": 1.0},
        "num_fewshot": 0,
        "empty": None,
        "long": "one two three\nfour",
        "plain": "five six",
        "under": "seven eight",
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &x [b]\nc: *x", "2: an alias (*name) is not read"),
        ("a: 1\n<<: {b: 2}", "2: the key !!merge << is not a text"),
        (
            "a: !x {[b]: 1}\n2020-01-01: b",
            "2: the key !!timestamp 2020-01-01 is not a text: put it",
        ),
        ("a: {{question}}", "1: the key {'question': None} is not a text"),
        ("a: b # c\n  d", "2: expected <block end>, but found"),
        ("a: ! b", "1: a tag without a name"),
        ("a: 'b\n", "2: found unexpected end of stream"),
        ("a: b: c", "1: mapping values are not allowed here"),
        ("a:\n\tb: 1", "2: found character '\\t' that cannot start any token"),
        ("a: 1\n---\nb: 2", "2: but found another document"),
        ("a:\n  b: 1\n c: 2", "3: expected <block end>"),
        ("a: 1\n\nb: \x07", "3: the character '\\x07' is not allowed in YAML"),
        ('a:\n- "\\U00110000"', "2: chr() arg not in range"),
        ('a:\n- "\\Uffffffff"', "2: "),
        ('a:\n- "\\ud83d"', "2: an escape gives half a surrogate pair"),
        ("%YAML " + "1" * 5000 + ".1\n--- a", "1: Exceeds the limit"),
        ("a: 1\nb: " + "9" * 41, "2: a number of 41 characters: put it in quotes"),
        ("a: 0x" + "f" * 5000, "1: a number of 5002 characters"),
        ("a: 1" + ":1" * 5000 + ".5", "1: a number of 10003 characters"),
        ("a: !!int ''", "1: '' is not a value of !!int"),
        ("a: !!bool maybe", "1: 'maybe' is not a value of !!bool"),
        ("a: -0b_", "1: '-0b_' is not a value of !!int"),
        ("a: " + "[" * 40, "1: nested more than 32 deep"),
        ("a:\n- " + "- " * 100_000, "2: nested more than 32 deep"),
        ("\n".join("  " * i + "a:" for i in range(40)), "33: nested more than 32 deep"),
        ("a: !x " + "{b: " * 100_000, "nested more than 32 deep"),
        ("- a\n" * 20_000, "10000: the file has more than 10000 keys and values"),
    ],
)
def test_refusals_name_the_line(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "t.yaml")
    assert caught.value.message.startswith("t.yaml:")
    assert words in caught.value.message


@pytest.mark.parametrize("text", ["a: 1\nb:\n  c: 2\n  c: 3", "{b: 1, b: 2}", "1: b\nno: c\n~: d"])
def test_keys_are_pyyamls(text: str) -> None:
    """Of a key that appears twice the last one counts, as in the harness."""
    assert parse_yaml(text, "t.yaml") == yaml.safe_load(text)


def test_tags_stay_marks() -> None:
    text = """
        used: !function utils.f
        day: 2020-01-01
        code: !!python/object/apply:os.system ["echo no"]
        pairs: [!mine {a: [b]}, !!set {c}, !!binary aGk=, =]
        number: !!str 1
        anchor: &here b
    """
    found = parse_yaml(text, "t.yaml")
    assert found["used"] == Tagged("!function", "utils.f", "t.yaml:2", "t.yaml")
    assert (found["number"], found["anchor"]) == ("1", "b")
    assert str(found["day"]) == "!!timestamp 2020-01-01"
    assert str(found["code"]) == "!!python/object/apply:os.system"
    assert [str(value) for value in found["pairs"]] == [
        "!mine",
        "!!set",
        "!!binary aGk=",
        "!!value =",
    ]


@pytest.mark.slow  # Python is slow while it counts memory
def test_the_largest_file_takes_little_memory() -> None:
    """A list of 10,000 values, and a text of 256 KiB; 1 MiB through PyYAML alone takes 170 MiB."""
    for text in ("- a\n" * (1 << 16), "a: " + "b " * (1 << 17), "a: '" + "\n" * (1 << 18) + "'"):
        tracemalloc.start()
        with contextlib.suppress(InputError):
            parse_yaml(text, "t.yaml")
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
        tracemalloc.stop()


# lm_eval/tasks/_yaml_loader.py: libyaml's loader, if PyYAML was built with it.
HARNESS = getattr(yaml, "CSafeLoader", yaml.FullLoader)
SCALARS = [
    *["~", "null", "True", "off", "Yes", "no", "NO", "y", "n", "12", "-3", "+4", "0x1F", "0b101"],
    *["017", "0o17", "1_000", "09", "1:30", "-1:30:15.5", "1.5", "-.5", ".5", "1e3", "1.0e+3"],
    *["1e-3", ".inf", "-.INF", "3.x", "1,2", "a#b", "a:b", "-x", "'it''s'", "[]", "{}", "a://b"],
    *['"\\u00e9\\x41\\t"', "[1,[2,{a: b}],]", "{a: x,b: 1}", "C:\\x", "{a:1}", "x y  # z"],
    *["[a b, c:d]", "{a: [b, 'c, d'], \"e\": {f: g}}", "!!str 1", "!!null x", "&here b"],
]
BLOCKS = [
    *("a: |\n  x", "a: |\n  x\n", "a: |+\n  x\n\n", "a: |-\n  x\n\n", "a: >\n  x\n  y", "a: |\n\n"),
    *(
        "a: |+\n\n",
        "a:\n  |\n x\n",
        "a: b  \n  c",
        "a: [b\n\n c, # d\n e]",
        "a: b # c\n# d\n\ne: f\n",
        "",
    ),
    *("a: >\n  p\n  q\n\n  r\n    s\n  t\n", "d: >-\n\n  m\n  n\n", "a: |2\n   x\n  y\nb: |-\n  z"),
    "- a\n- - b\n  - c\n-\n  d: e\n- f: g\n  h:\n  - i\n  - j\n",
    '---\n"quoted key": 1\n? long\n: 2\nwith space: 3\n...\n',
]


@pytest.mark.parametrize("text", [*(f"a: {text}" for text in SCALARS), *BLOCKS])
def test_values_are_the_harness_s(text: str) -> None:
    assert parse_yaml(text, "t") == yaml.load(text, HARNESS)


PIECES = [
    *("a: ", "  a: ", "- ", ", ", ": ", " #", "|\n", ">-", "|+", "|2", "> \n", "\n ", "\n\n"),
    *("---", "!!", "!!int "),
    *"ab\n'\"[]{}#1.~!&*+?%<=\t\\",
]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_nothing_is_misread(text: str) -> None:
    """Random texts are refused, or read as libyaml reads them."""
    try:
        found = parse_yaml(text, "t")
    except InputError:
        return
    try:
        expected = yaml.load(text, HARNESS)
    except yaml.YAMLError:
        return  # libyaml is stricter in places, and knows no tag of ours
    if not isinstance(found, Tagged):
        assert found == expected
