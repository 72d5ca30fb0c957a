"""Which tokens are trained on, what is shared, what is held out and what a fingerprint covers."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from m2m.dataset import (
    Row,
    Sample,
    common_prefix,
    dataset_fingerprint,
    encode,
    load_dataset,
    split,
)
from m2m.dataset.row_source import open_source
from m2m.dataset.samples import shelved
from m2m.errors import InputError
from m2m.formats.records import rows_text
from m2m.formats.spooled import is_spooled
from m2m.opening import Text
from m2m.tokenizer import ChatTemplate, Formatter, Tokenizer
from tests.tiny import CHATML, pico_config, pico_dataset, pico_metadata


@pytest.fixture
def formatter() -> Formatter:
    values = {key: value.value for key, value in pico_metadata(pico_config()).items()}
    return Formatter(Tokenizer.from_metadata(values.get), ChatTemplate(CHATML))


def sample(ids: list[int], trained: int) -> Sample:
    """A sample whose last `trained` tokens are predicted."""
    mask = np.zeros(len(ids), dtype=np.bool_)
    mask[len(ids) - trained :] = True
    return Sample(np.array(ids, dtype=np.int32), mask, line=1)


def test_only_the_answer_is_predicted(tmp_path: Path, formatter: Formatter) -> None:
    rows = load_dataset(pico_dataset(tmp_path / "rows.jsonl", "reverse", 5))
    for row, made in zip(rows, encode(rows, formatter, 512), strict=True):
        assert row.messages is not None
        text = formatter.tokenizer.decode(made.ids[made.loss_mask])
        assert text == row.messages[1]["content"] + "<|im_end|>"
        assert made.ids.dtype == np.int32
        assert made.line == row.line


def test_long_rows_are_refused_with_their_lines(formatter: Formatter) -> None:
    rows = [
        Row(
            n,
            messages=({"role": "user", "content": "x" * n}, {"role": "assistant", "content": "y"}),
        )
        for n in (1, 50, 60)
    ]
    with pytest.raises(InputError) as caught:
        encode(rows, formatter, 40, "some.jsonl")
    message = caught.value.message
    assert "some.jsonl: 2 problems" in message
    assert "line 50" in message
    assert "line 60" in message
    assert "line 1:" not in message


def test_long_texts_are_cut(formatter: Formatter) -> None:
    cuts = encode([Row(1, text="abcdefghij" * 5)], formatter, 20)
    assert [len(cut) for cut in cuts] == [20, 20, 11]
    assert all(not cut.loss_mask[0] and cut.loss_mask[1:].all() for cut in cuts)
    ids = np.concatenate([cut.ids for cut in cuts])
    assert formatter.tokenizer.decode(ids) == "abcdefghij" * 5 + "<|im_end|>"


def test_rows_that_the_template_refuses_are_named(formatter: Formatter) -> None:
    picky = ChatTemplate(
        "{% if messages | length > 2 %}{{ raise_exception('too many') }}{% endif %}" + CHATML
    )
    turns = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})
    with pytest.raises(InputError, match=r"line 7: .*too many"):
        encode([Row(7, messages=turns * 2)], Formatter(formatter.tokenizer, picky), 512)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([], 0),
        ([sample([1, 2, 3, 4], 1)], 2),
        ([sample([1, 2, 3, 4], 1), sample([1, 2, 9, 4], 1)], 2),
        ([sample([1, 2, 3, 4, 5], 1), sample([1, 2, 3, 9], 1)], 2),
        ([sample([1, 2, 3], 2)], 0),
        ([sample([5, 2, 3], 1), sample([1, 2, 3], 1)], 0),
        ([sample([1, 2, 3, 4], 0), sample([1, 2, 3], 0)], 2),
    ],
)
def test_the_common_prefix_predicts_nothing(samples: list[Sample], expected: int) -> None:
    assert common_prefix(samples) == expected


def test_a_split_is_seeded_and_loses_nothing() -> None:
    samples = [sample([n, 1, 2], 1) for n in range(20)]
    kept, held = split(samples, seed=3, fraction=0.2)
    assert len(held) == 4
    assert sorted(int(each.ids[0]) for each in [*kept, *held]) == list(range(20))
    assert [s.ids[0] for s in split(samples, 3, 0.2)[1]] == [s.ids[0] for s in held]
    assert [s.ids[0] for s in split(samples, 4, 0.2)[1]] != [s.ids[0] for s in held]
    assert split(samples, 3, 0.0) == (samples, [])
    assert [len(part) for part in split(samples[:1], 3, 0.5)] == [1, 0]
    assert [len(part) for part in split(samples[:2], 3, 0.9)] == [1, 1]


def test_a_fingerprint_covers_bytes_template_and_length(
    tmp_path: Path, formatter: Formatter
) -> None:
    path = pico_dataset(tmp_path / "rows.jsonl", "copy", 3)
    plain = Formatter(formatter.tokenizer)
    prints = {
        dataset_fingerprint(rows_text(path), formatter, 512),
        dataset_fingerprint(rows_text(path), formatter, 511),
        dataset_fingerprint(rows_text(path), plain, 512),
    }
    assert dataset_fingerprint(rows_text(path), formatter, 512) in prints
    path.write_bytes(path.read_bytes() + b" ")
    prints.add(dataset_fingerprint(rows_text(path), formatter, 512))
    assert len(prints) == 4


def test_the_samples_of_a_conversation_are_held_out_together() -> None:
    made = [
        Sample(np.arange(4, dtype=np.int32), np.ones(4, np.bool_), line, turn)
        for line in range(10)
        for turn in range(3)
    ]
    kept, held = split(made, seed=0, fraction=0.3)
    assert len(held) == 9
    assert {each.line for each in kept}.isdisjoint(each.line for each in held)


def test_samples_in_a_file_are_those_in_memory() -> None:
    rng = np.random.default_rng(3)
    made = []
    for number in range(300):
        ids = rng.integers(0, 70_000 if number % 3 else 50, rng.integers(1, 40), dtype=np.int32)
        made.append(Sample(ids, rng.integers(0, 2, len(ids)).astype(bool), number, number % 2))
    kept = [(s.ids.tolist(), s.loss_mask.tolist(), s.line, s.turn, len(s), s.size) for s in made]
    samples = shelved(iter(made), held=1000)
    assert is_spooled(samples) and not is_spooled(shelved(iter(made)))
    again = pickle.loads(pickle.dumps(samples))
    for found in (samples, again):
        assert kept == [
            (s.ids.tolist(), s.loss_mask.tolist(), s.line, s.turn, len(s), s.size) for s in found
        ]


def test_only_xliff_with_segments_that_are_left_out_since_has_a_new_fingerprint(
    tmp_path: Path, formatter: Formatter
) -> None:
    path = tmp_path / "a.xlf"
    unit = '<trans-unit id="{0}"{1}><source>a{0}</source><target>b{0}</target></trans-unit>'
    prints = []
    for more in ("", ' translate="no"'):
        units = unit.format(1, "") + unit.format(2, more)
        text = f'<xliff version="1.2"><file><body>{units}</body></file></xliff>'
        path.write_text(text, encoding="utf-8")
        source = open_source([path])
        plain = Text(path, "", source.sha256, 0)
        same = dataset_fingerprint(source, formatter, 9) == dataset_fingerprint(plain, formatter, 9)
        prints.append(same)
    assert prints == [True, False]
