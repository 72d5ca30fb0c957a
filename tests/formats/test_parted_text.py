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
    "Q1, A1": ([f"Q{n}: {s}?\nA{n}: {e}" for n, (s, e) in enumerate(BOTH, 1)],
               (f"{S[0]}?", E[0])),
    "more lines": ([f"Swali: {s}?\nJibu: {e}\n- ndiyo\n" for s, e in BOTH],
                   (f"{S[0]}?", f"{E[0]}\n- ndiyo")),
    "heads alone": ([f"Swali:\n{s}?\nJibu:\n{e}" for s, e in BOTH], (f"{S[0]}?", E[0])),
    "fastText with tabs": ([f"__label__{t}\t{s}" for s, t in zip(S, TONES, strict=True)],
                           (S[0], "good")),
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
            ("2) ", " (", ")."), ("", " | ", ""), ("", ";", ""), ("", " -> ", ""))
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


DATES = [
    "12.01.23, 10:1{} - ", "12/01/2023 \u00e0 10:1{} - ", "12/1/23 10.1{} - ",
    "[2023-01-12, 10:1{}:22] ", "1/2/23, 10:1{} asubuhi - ", "1/2/23, 10:1{} a.\u00a0m. - ",
    "\u200f1/2/23\u060c 10:1{} \u0645 - ",
]  # fmt: skip


@pytest.mark.parametrize("date", DATES)
def test_chats_have_dates_of_many_countries(tmp_path: Path, date: str) -> None:
    names = ["\u202a+255\u00a0713\u202c", "Juma"] * 2
    lines = [f"{date.format(n)}{who}: {s}" for n, (s, who) in enumerate(zip(S, names, strict=True))]
    rows = rows_text(file_of(tmp_path, lines)).records
    assert [row.fields["turn"] for row in rows] == ["Juma", "+255 713", "Juma"]


def test_words_of_the_app_are_of_nobody_and_captions_are_of_the_sender(tmp_path: Path) -> None:
    lines = [
        "[1/2/23, 9:01:00] Us: \u200eMessages and calls are end-to-end encrypted.",
        f"[1/2/23, 9:02:00] Asha: {S[0]}",
        "\u200e[1/2/23, 9:03:00] Juma: \u200e<attached: 12-PHOTO.jpg>",
        f"{S[1]} \u200e<This message was edited>",
        'nyumba: ya "tatu"',
        '[1/2/23, 9:04:00] Juma changed "A: b" to "c: d"',
        "more about that",
        "[1/2/23, 9:05:00] Juma: You deleted this message",
        "[1/2/23, 9:06:00] Asha: a.jpg (file attached)",
        "[1/2/23, 9:06:00] Asha: ",
        S[2],
    ]
    file = rows_text(file_of(tmp_path, lines))
    assert [[*row.fields.values()] for row in file.records] == [
        ["Juma", S[0], f'{S[1]}\nnyumba: ya "tatu"'], ["Asha", f'{S[1]}\nnyumba: ya "tatu"', S[2]]
    ]  # fmt: skip
    assert file.notes == ("7 lines are left out: nobody said them",)


def test_long_messages_are_a_chat_and_a_diary_is_none(tmp_path: Path) -> None:
    long = [line for said in CHAT for line in (said, *["zaidi"] * 5)]
    assert len(rows_text(file_of(tmp_path, long)).records) == 3
    diary = [line.replace("Juma:", "Asha:") for line in CHAT]
    with pytest.raises(InputError, match="dates before them"):
        load_dataset(file_of(tmp_path, diary))


def test_the_turns_of_a_conversation_stay_together(tmp_path: Path) -> None:
    talk = [f"User: {S[0]}", f"Assistant: {E[0]}", f"User: {S[1]}", f"Assistant: {E[1]}"]
    entry = dataset_entry((file_of(tmp_path, [*talk, "", *talk]),))
    said = [message["content"] for message in entry.rows[1].messages]
    assert (len(entry.rows), said) == (2, [S[0], E[0], S[1], E[1]])


def test_more_fields_of_questions_are_no_answers(tmp_path: Path) -> None:
    quiz = [f"Swali: {s}?\nA) x\nB) y\nJibu: B\n" for s in S]
    with pytest.raises(InputError, match="a quiz with lettered answers"):
        load_dataset(file_of(tmp_path, quiz))
    with pytest.raises(InputError, match="Swali, Jibu, Chanzo in turn"):
        load_dataset(file_of(tmp_path, [f"Swali: {s}?\nJibu: {e}\nChanzo: x" for s, e in BOTH]))


def test_a_title_above_a_list_of_words_is_no_row(tmp_path: Path) -> None:
    path = file_of(tmp_path, ["Maneno", *(f"{s} {n} - {e}" for n in range(5) for s, e in BOTH)])
    with pytest.raises(Unclear) as caught:
        dataset_entry((path,))
    assert caught.value.choice[0].mapping.prompt == "{left}"


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
        pinned = {"author": {"name": "Asha"}, "content": "Pinned.", "type": "ChannelPinnedMessage"}
        said.insert(2, pinned)
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


def test_messages_with_roles_are_no_exported_chat(tmp_path: Path) -> None:
    turns = [("user", S[0]), ("assistant", E[0]), ("user", S[1]), ("assistant", E[1])]
    more = {"author": "Asha", "type": "text", "date": "2023"}
    messages = [{"role": role, "content": text, **more} for role, text in turns]
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": messages}) + "\n")
    assert len(load_dataset(tmp_path / "a.jsonl")[0].messages) == 4
