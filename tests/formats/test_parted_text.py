"""Text files whose lines have parts: m2m reads the parts, or prints lines that read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from m2m.commands.init_rows import Unclear, dataset_entry
from m2m.dataset.ask import pasted
from m2m.dataset.mapping import RowMapping
from m2m.dataset.rows import load_dataset
from m2m.errors import InputError
from m2m.formats.records import rows_text

S = ["Leo hali ya hewa ni nzuri", "Kesho itanyesha mvua", "Watu wengi wako mjini", "Asante sana"]
E = ["The weather is good today", "It will rain tomorrow", "Many people are in town", "Thank you"]
TONES = ["good", "bad", "good", "bad"]
BOTH = [*zip(S, E, strict=True)]


def file_of(folder: Path, lines: list[str], name: str = "a.txt") -> Path:
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


KNOWN: dict[str, tuple[list[str], tuple[str, str]]] = {
    "fastText": ([f"__label__{t} {s}" for s, t in zip(S, TONES, strict=True)], (S[0], "good")),
    "labels last": ([f"{s}  __label__{t} " for s, t in zip(S, TONES, strict=True)], (S[0], "good")),
    "two labels": ([f"__label__{t} __label__sw  {s}" for s, t in zip(S, TONES, strict=True)],
                   (S[0], "good, sw")),
    "Swali, Jibu": ([f"Swali: {s}?\nJibu : {e}\n" for s, e in BOTH], (f"{S[0]}?", E[0])),
    "numbered Swali": ([f"{n}. Swali: {s}?\n   Jibu: {e}" for n, (s, e) in enumerate(BOTH, 1)],
                       (f"{S[0]}?", E[0])),
    "Q, A": ([f"Q: {s}: a?\nA: {e}" for s, e in BOTH], (f"{S[0]}: a?", E[0])),
}  # fmt: skip


@pytest.mark.parametrize("kind", KNOWN)
def test_parts_with_names_are_read(tmp_path: Path, kind: str) -> None:
    lines, expected = KNOWN[kind]
    entry = dataset_entry((file_of(tmp_path, lines),))
    assert entry.rows[0].sides == expected
    assert len(entry.rows) == 4


def test_fast_text_is_known_by_its_lines(tmp_path: Path) -> None:
    path = file_of(tmp_path, KNOWN["fastText"][0], "tone.train")
    assert dataset_entry((path,)).rows[3].sides == (S[3], "bad")
    (tmp_path / "b.txt").write_text(path.read_text() * 5 + "Asante\n")
    with pytest.raises(InputError, match="line 21"):
        dataset_entry((tmp_path / "b.txt",))


CHAT = [f"12/01/2023, 10:1{n} - {('Asha', 'Juma')[n % 2]}: {s}" for n, s in enumerate(S)]
CHOICES: dict[str, tuple[list[str], list[tuple[str, str]]]] = {
    "|||": ([f"{s} ||| {e}" for s, e in BOTH], [(S[0], E[0]), (E[0], S[0])]),
    "||| with scores": ([f"{s} ||| {e} ||| 0.{n}5" for n, (s, e) in enumerate(BOTH, 1)],
                        [(S[0], E[0]), (E[0], S[0])]),
    **{
        f"parts with{sign}": (
            [before + s + sign + e + after for s, e in BOTH],
            [(S[0], E[0]), (E[0], S[0]), ("", before + S[0] + sign + E[0] + after)],
        )
        for before, sign, after in (
            ("1. ", " - ", ""), ("", " \u2013 ", ""), ("* ", " = ", ""), ("", ": ", ""),
            ("2) ", " (", ")."), ("", " | ", ""), ("", ";", ""))
    },
    "dialogue": ([f"{'AB'[n % 2]}: {s}" for n, s in enumerate(S)],
                 [(S[0], S[1]), (S[1], S[2]), ("", f"A: {S[0]}")]),
    "couplets": ([f"{s}\n{e}\n" for s, e in BOTH], [(S[0], E[0]), (E[0], S[0]), ("", S[0])]),
    "questions": ([line for s, e in BOTH for line in (f"{s}?", f"{e}.")],
                  [(f"{S[0]}?", f"{E[0]}."), (f"{E[0]}.", f"{S[0]}?"), ("", f"{S[0]}?")]),
    "WhatsApp": ([*CHAT[:2], "tena", "12/01/2023, 10:15 - Asha left", *CHAT[2:]],
                 [(S[0], f"{S[1]}\ntena"), (f"{S[1]}\ntena", S[2])]),
    "WhatsApp of iOS": ([f"\u200e[1/2/23, 9:0{n}:10\u202fPM] {who}: {s}" for n, (s, who) in
                         enumerate(zip(S, ["Asha", "Juma K"] * 2, strict=True))],
                        [(S[0], S[1]), (S[1], S[2])]),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHOICES)
def test_every_line_to_choose_from_reads_the_file(tmp_path: Path, kind: str) -> None:
    lines, expected = CHOICES[kind]
    path = file_of(tmp_path, lines)
    with pytest.raises(Unclear) as caught:
        dataset_entry((path,))
    ways = [way.mapping for way in caught.value.choice]
    assert [load_dataset(path, way)[0].sides for way in ways] == expected


PAGE = (Path(__file__).parent.parent.parent / "docs" / "data.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("| lines | fields |")[2].partition("\n\n")[0].splitlines()[2:]
SHOWN = ["fastText", "Swali, Jibu", "||| with scores", "parts with - ", "dialogue", "couplets"]


@pytest.mark.parametrize(("kind", "row"), [*zip(SHOWN, TABLE, strict=True)], ids=SHOWN)
def test_the_page_shows_the_fields_and_the_first_lines(tmp_path: Path, kind: str, row: str) -> None:
    path = file_of(tmp_path, KNOWN[kind][0] if kind in KNOWN else CHOICES[kind][0])
    try:
        mapping = dataset_entry((path,)).mapping
    except Unclear as asked:
        mapping = asked.choice[0].mapping
    *_, fields, lines = row.removesuffix(" |").split(" | ")
    written = [line.strip() for line in pasted(mapping, "dataset").splitlines()]
    assert [line.strip("`") for line in lines.split("<br>")] == written
    assert fields.removesuffix(" ...").split(", ") == [*rows_text(path).records[-1].fields]


def test_lines_that_nobody_said_are_counted(tmp_path: Path) -> None:
    left = ["11:00 - Juma: <Media omitted>", "11:01 - Juma: Nzuri", "11:02 - You left"]
    file = rows_text(file_of(tmp_path, [*CHAT, *(f"12/01/2023, {line}" for line in left)]))
    assert file.notes == ("2 lines are left out: nobody said them",)
    assert file.records[-1].fields["reply"] == f"{S[3]}\nNzuri"


@pytest.mark.parametrize(
    "lines",
    [
        S,
        ["Yesu akawaambia: njoni", "Wakaja wote", "Akasema - tena", "Amina (mwisho)"],
        ["Bei ni Sh. 50 - 60 - 70", "Siku 3 - 4 - 5", "Watu 10 - 20 - 30", "Miaka 1 - 2 - 3"],
        [f"{s} ({n})" for n, s in enumerate(S, 1990)],
        ["Habari?", "Nzuri.", "Wewe je?", "Salama?"],
    ],
)
def test_texts_stay_texts(tmp_path: Path, lines: list[str]) -> None:
    assert [row.text for row in load_dataset(file_of(tmp_path, lines))] == lines


def test_a_play_of_several_is_no_list_of_words(tmp_path: Path) -> None:
    lines = [f"{['Asha', 'Juma', 'Ali'][n % 3]}: {s} {n}" for n, s in enumerate(S * 3)]
    path = file_of(tmp_path, lines)
    with pytest.raises(InputError, match="Asha, Juma, Ali") as caught:
        load_dataset(path)
    assert 'text = "{text}"' in str(caught.value.hint)
    assert len(load_dataset(path, RowMapping(text="{text}"))) == 12


@pytest.mark.parametrize("app", ["Telegram", "Discord"])
def test_exported_chats_become_exchanges(tmp_path: Path, app: str) -> None:
    names, said = ["Asha", "Juma", "Asha", "Juma"], list[dict[str, Any]]()
    if app == "Telegram":
        texts: list[Any] = [S[0], ["Kesho ", {"type": "bold", "text": "itanyesha mvua"}], *S[2:]]
        said = [{"from": who, "text": text} for who, text in zip(names, texts, strict=True)]
        said.insert(2, {"actor": "Juma", "text": ""})
    else:
        said = [{"author": {"name": n}, "content": s} for n, s in zip(names, S, strict=True)]
        said.insert(2, {"author": {"name": "Juma"}, "content": ""})
    messages = [{"id": 1, "type": "message", "date": "2023-01-01T10:00:00", **one} for one in said]
    path = tmp_path / "result.json"
    path.write_text(json.dumps({"name": "x", "messages": messages}))
    with pytest.raises(Unclear) as caught:
        dataset_entry((path,))
    first, second = (way.mapping for way in caught.value.choice)
    assert first.where == (("turn", ("Juma",)),)
    assert [row.sides for row in load_dataset(path, first)] == [(S[0], S[1]), (S[2], S[3])]
    assert [row.sides for row in load_dataset(path, second)] == [(S[1], S[2])]
    path.write_text(json.dumps([{"messages": messages}, {"messages": messages[::-1]}]))
    assert len(load_dataset(path, first)) == 3  # nobody answers in another chat
