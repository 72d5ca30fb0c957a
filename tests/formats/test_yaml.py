from __future__ import annotations

from pathlib import Path

import pytest

from m2m.errors import InputError
from m2m.formats.yaml import parse_yaml, read_yaml

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
        ("a: !function utils.x", "1: found a tag such as '!function utils.x'"),
        ("a: &x 1", "1: found an anchor"),
        ("a: *x", "1: found an alias"),
        ("a: 1\n<<: 2", "2: '<<' has a meaning of its own"),
        ("a: 1\na: 2", "2: the key 'a' is there twice"),
        ("a: b # c\n  d", "2: found 'd', not indented to fit"),
        ("a: b\n  c: d", "a colon in 'b c: d'"),
        ("a: 'b", "1: the quote ' is not closed"),
        ("a: [b", "1: there is no closing ]"),
        ("a: [b c]]", "1: found ']' after the value"),
        ("a: b: c", "1: a colon in 'b: c'"),
        ("a: {{question}}", "1: a text in braces"),
        ("a: 2020-01-01", "1: '2020-01-01' would be a date"),
        ("a: 12:30", "would be a date or a number to base 60"),
        ('a: "\\q"', "the escape \\q is not one of YAML's"),
        ("a:\n\tb: 1", "2: a tab indents this line"),
        ("a: 1\n---\nb: 2", "2: more than one document"),
        ("a:\n  b: 1\n c: 2", "3: found 'c: 2', not indented to fit"),
        ("- a\nb: 1", "2: found 'b: 1', not indented"),
        ("a: " + "[" * 40, "nested more than 32 deep"),
        ("\n".join("  " * i + "a:" for i in range(40)), "nested more than 32 deep"),
        ("a: 1\nb", "2: found 'b', expected key: value"),
        ("a: |--\n  b", "1: found '|--': two signs"),
        ("a: [:b]", "1: found ':b' where a value is expected"),
        ("a: [b, #]\n", "there is no closing ]"),
        ("a: '\n---\n'", "2: more than one document"),
        ("a: |\n   \n  b", "found 'b', not indented to fit"),
        ("-: : b", "1: a colon in ': b'"),
    ],
)
def test_what_is_not_read_is_named_with_its_line(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "t.yaml")
    assert caught.value.message.startswith("t.yaml:")
    assert words in caught.value.message


ENDS = {
    "a: |\n  x": "x",
    "a: |\n  x\n": "x\n",
    "a: |+\n  x": "x",
    "a: |+\n  x\n\n": "x\n\n",
    "a: |-\n  x\n\n": "x",
    "a: >\n  x\n  y": "x y",
    "a: |\n\n": "",
    "a: |+\n\n": "\n",
    "a:\n  |\n x\n": "x\n",
    "a: b  \n  c": "b c",
    "a: [b\n\n c, # d\n e]": ["b\nc", "e"],
}


@pytest.mark.parametrize("text", ENDS)
def test_ends_of_lines_and_files(text: str) -> None:
    assert parse_yaml(text, "t.yaml") == {"a": ENDS[text]}


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: \xc3\xa9\r\nb:\r\n- 1\r\n")
    assert read_yaml(path) == {"a": "\u00e9", "b": [1]}
    path.write_bytes(b"\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        read_yaml(path)
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(InputError, match="at most"):
        read_yaml(path)
    with pytest.raises(InputError, match="cannot read"):
        read_yaml(tmp_path / "none.yaml")
