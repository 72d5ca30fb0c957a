"""Rows as public repositories of African languages have them: read as meant, or the right question.

The rows are made up; names of columns, containers and answers follow the repositories that a test
names. Every kind is also read with its columns in another order, with capitals, and with columns
that people add.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from m2m.commands.init_rows import Entry, dataset_entry, target_entry
from m2m.dataset.ask import pasted
from m2m.errors import InputError
from tests.tiers import rotated

Fields = dict[str, Any]
S = ["Leo hali ya hewa ni nzuri.", "Kesho itanyesha mvua.", "Watu wengi wako mjini.", "Asante."]
E = ["The weather is good today.", "It will rain tomorrow.", "Many people are in town.", "Thanks."]
TONES = ["positive", "negative", "neutral", "positive"]


def rows(**columns: Sequence[Any]) -> list[Fields]:
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


N = range(1, 5)
ASK = ""  # m2m asks
READ: dict[str, tuple[list[Fields], tuple[str, str]]] = {
    "masakhane-news": (rows(category=["health", "sports", "health", "politics"], headline=E,
                            text=S, url=[f"https://x.org/{i}" for i in N]),
                       (f"{E[0]}\n{S[0]}", "health")),
    "masakhane-news with headline_text": (
        rows(category=["health", "sports", "health", "politics"], headline=E, text=S,
             headline_text=[f"{e} {s}" for e, s in zip(E, S, strict=True)]),
        (f"{E[0]}\n{S[0]}", "health")),
    "lafand-mt": ([{"translation": {"en": e, "hau": s}} for e, s in zip(E, S, strict=True)],
                  (E[0], S[0])),
    "lafand-mt from French": ([{"translation": {"fr": e, "wol": s}}
                               for e, s in zip(E, S, strict=True)], (E[0], S[0])),
    "MAFAND": (rows(id=N, en=E, yo=S), (E[0], S[0])),
    "AfriSenti": (rows(ID=[f"swa_{i}" for i in N], tweet=S, label=TONES), (S[0], "positive")),
    "AfriSenti of many languages": (rows(tweet=S, label=TONES, lang=["swa", "hau"] * 2),
                                    (S[0], "positive")),
    "NaijaSenti": (rows(tweet=S, label=TONES), (S[0], "positive")),
    "AfriHate": (rows(id=N, tweet=S, label=["Hate", "Normal", "Abusive", "Normal"]),
                 (S[0], "Hate")),
    "AfriQA": (rows(id=N, question=S, translated_question=E,
                    answers=["['Nairobi']", "['Accra']"] * 2, lang=["swa"] * 4,
                    split=["train"] * 4, translated_answer=["['Nairobi']"] * 4,
                    translation_type=["human_translation"] * 4), (S[0], "Nairobi")),
    "AfriQA with its passage": (rows(context=E, question=S, answers=["['x y', 'z']", "['w']"] * 2,
                                     lang=["swa"] * 4), (f"{E[0]}\n\n{S[0]}", "x y")),
    "MENYO-20k": (rows(English=E, Yoruba=S), (E[0], S[0])),
    "MENYO-20k by codes": (rows(en=E, yo=S), (E[0], S[0])),
    "SIB-200": (rows(index_id=N, category=["travel", "health"] * 2, text=S), (S[0], "travel")),
    "XL-Sum": (rows(id=[f"sw-{i}" for i in N], url=["u"] * 4, title=E, summary=["Muhtasari."] * 4,
                    text=S), (S[0], "Muhtasari.")),
    "XL-Sum by other names": (rows(article=S, highlights=E), (S[0], E[0])),
    "belebele": (rows(link=["u"] * 4, question_number=N, flores_passage=S, question=E,
                      mc_answer1=[f"a{i}" for i in N], mc_answer2=[f"b{i}" for i in N],
                      mc_answer3=[f"c{i}" for i in N], mc_answer4=[f"d{i}" for i in N],
                      correct_answer_num=["1", "2", "3", "4"], dialect=["swh_Latn"] * 4,
                      ds=["2023"] * 4), (f"{S[0]}\n\n{E[0]}", "a1")),
    "AfriXNLI in words": (rows(premise=S, hypothesis=E,
                               label=["neutral", "entailment", "contradiction", "neutral"]),
                          (f"{S[0]}\n{E[0]}", "neutral")),
    "AfriMGSM with the number alone": (rows(question=S, answer=N), (S[0], "1")),
    "XCOPA": (rows(premise=S, choice1=[f"a{i}" for i in N], choice2=[f"b{i}" for i in N],
                   question=["cause", "effect"] * 2, label=[0, 1, 1, 0], idx=N,
                   changed=[False] * 4), (f"{S[0]}\ncause", "a1")),
    "Aya": (rows(inputs=S, targets=E, language=["Swahili"] * 4, language_code=["swa"] * 4,
                 annotation_type=["original"] * 4, user_id=["u"] * 4), (S[0], E[0])),
    "xP3": (rows(inputs=S, targets=E), (S[0], E[0])),
    "Inkuba-instruct": (rows(instruction=["Tafsiri"] * 4, inputs=S, targets=E, task=["mt"] * 4,
                             lang=["swa"] * 4), (f"Tafsiri\n{S[0]}", E[0])),
    "Dolly": (rows(instruction=S, context=[E[0], "", "", ""], response=E,
                   category=["open_qa"] * 4), (f"{S[0]}\n{E[0]}", E[0])),
    "Uhura ARC": (rows(id=N, question=S, choices=[{"text": ["w", "x", "y", "z"],
                                                   "label": ["A", "B", "C", "D"]}] * 4,
                       answerKey=["B", "A", "D", "C"]), (S[0], "x")),
    "TyDi QA": (rows(id=N, title=["T"] * 4, context=E, question=S,
                     answers=[{"text": [t], "answer_start": [3]} for t in ("rain", "sun") * 2]),
                (f"{E[0]}\n\n{S[0]}", "rain")),
    "Bible verses in two languages": (rows(Verse=[f"GEN 1:{i}" for i in N], English=E, Swahili=S),
                                      (E[0], S[0])),
    "Bible verses by codes": (rows(ref=[f"GEN 1:{i}" for i in N], swh=S, eng=E), (S[0], E[0])),
    "FLORES": (rows(id=N, URL=["u"] * 4, domain=["wikinews"] * 4, topic=["x"] * 4,
                    has_image=[0] * 4, sentence_eng_Latn=E, sentence_swh_Latn=S), (E[0], S[0])),
    "NLLB with scores": (rows(eng=E, swh=S, score=[1.2] * 4), (E[0], S[0])),
    "NLLB": ([{"translation": {"eng_Latn": e, "swh_Latn": s}, "laser_score": 1.2 + i,
               "source_sentence_lid": 0.9 + i, "target_sentence_lid": 0.8 + i,
               "source_sentence_source": "crawl-data", "source_sentence_url": f"crawl-data/{i}",
               "target_sentence_source": "crawl-data", "target_sentence_url": f"crawl-data/{i}"}
              for i, (e, s) in enumerate(zip(E, S, strict=True))], (E[0], S[0])),
    "Common Voice": (rows(client_id=["c"] * 4, path=[f"c{i}.mp3" for i in N], sentence=S,
                          up_votes=[2] * 4, down_votes=[0] * 4, age=[""] * 4, gender=[""] * 4,
                          locale=["sw"] * 4), ("", S[0])),
    "VOA Hausa": (rows(news_title=S, label=["Health", "World"] * 2, date=["2020"] * 4,
                       bbc_url_id=["u"] * 4), (S[0], "Health")),
    "Swahili news": (rows(id=[f"SW{i}" for i in N], content=S, category=["Kitaifa", "Michezo"] * 2),
                     (S[0], "Kitaifa")),
    "OASST pairs": ([{"message_id": f"{i}{t}", "parent_id": None if t == "a" else f"{i}a",
                      "role": r, "text": text[i], "lang": "sw"}
                     for i in range(4) for t, r, text in (("a", "prompter", S),
                                                          ("b", "assistant", E))], (S[0], E[0])),
    "ELI5": ([{"q_id": f"a{i}", "title": E[i], "selftext": S[i], "subreddit": "explainlikeimfive",
               "answers": {"a_id": ["x", "y"], "text": [S[i - 1], E[i - 1]], "score": [5, 2]}}
              for i in range(4)], (f"{E[0]}\n{S[0]}", S[3])),
    "TruthfulQA": (rows(type=["Adversarial"] * 4, category=["Law", "Health"] * 2, question=S,
                        best_answer=E, correct_answers=[[e, "Ndiyo."] for e in E],
                        incorrect_answers=[["La.", s] for s in S], source=["https://x.org"] * 4),
                   (S[0], E[0])),
    "TruthfulQA with choices": (
        rows(question=S, mc1_targets=[{"choices": ["La.", e], "labels": [0, 1]} for e in E],
             mc2_targets=[{"choices": ["La.", e, "Ndiyo."], "labels": [0, 1, 1]} for e in E]),
        (S[0], E[0])),
    "Prodigy": (rows(text=S, label=["MICHEZO", "AFYA"] * 2, _input_hash=[5, 7, 8, 3],
                     _task_hash=[4, 6, -9, 2], answer=["accept"] * 4), (S[0], "MICHEZO")),
    "Prodigy with choices": (
        rows(text=S, options=[[{"id": 1, "text": "chanya"}, {"id": 2, "text": "hasi"}]] * 4,
             accept=[[2], [1], [1], [2]], _input_hash=[5, 7, 8, 3], _task_hash=[4, 6, -9, 2],
             config=[{"choice_style": "single"}] * 4, answer=["accept"] * 4), (S[0], "hasi")),
    "HH-RLHF": ([{key: f"\n\nHuman: {s}\n\nAssistant: {end}" for key, end in
                  (("chosen", e), ("rejected", "La."))} for s, e in zip(S, E, strict=True)],
                (S[0], E[0])),
    "Capybara": ([{"source": "x", "conversation": [{"input": s, "output": e}]}
                  for s, e in zip(S, E, strict=True)], (S[0], E[0])),
    "OpenOrca": (rows(id=[f"flan.{i}" for i in N], system_prompt=["", "Be kind."] * 2, question=S,
                      response=E), (S[0], E[0])),
    "MMLU-Pro": (rows(question_id=N, question=S, options=[["Ndiyo.", e, "La."] for e in E],
                      answer=["B"] * 4, answer_index=[1] * 4, cot_content=[""] * 4,
                      category=["math"] * 4, src=["x"] * 4), (S[0], E[0])),
    "MedMCQA": (rows(id=N, question=S, opa=E, opb=["La."] * 4, opc=["Sijui."] * 4,
                     opd=["Labda."] * 4, cop=[0] * 4, choice_type=["single"] * 4,
                     exp=S[::-1], subject_name=["Anatomy"] * 4, topic_name=["Bone"] * 4),
                (S[0], E[0])),
    "CommonsenseQA": ([{"id": f"c{i}", "answerKey": "B", "question": {
        "question_concept": "x", "stem": s, "choices": [{"label": "A", "text": "La."},
                                                        {"label": "B", "text": e}]}}
                       for i, (s, e) in enumerate(zip(S, E, strict=True))], (S[0], E[0])),
    "Swahili columns": (rows(swali=S, jibu=E), (S[0], E[0])),
    "numbered by hand": ([{"Na.": i, "Swali": s, "Jibu": e}
                          for i, s, e in zip(N, S, E, strict=True)], (S[0], E[0])),
    "Winogrande": (rows(qID=[f"3Q{i}" for i in N], sentence=S, option1=E, option2=S[::-1],
                        answer=["1", "2"] * 2), (S[0], E[0])),
    "XStoryCloze": (
        rows(story_id=["s1", "s2", "s3", "s4"], **{f"input_sentence_{i}": S for i in N},
             sentence_quiz1=E, sentence_quiz2=S[::-1], answer_right_ending=[1, 2] * 2),
        (" ".join(S[:1] * 4), E[0])),
    "SmolSent": (rows(id=N, sl=["en"] * 4, tl=["sw"] * 4, src=E, trg=S), (E[0], S[0])),
    "SmolDoc": (rows(id=N, sl=["en"] * 4, tl=["sw"] * 4, is_src_orig=[True] * 4,
                     factuality=["ok"] * 4, srcs=[[e, "Yes."] for e in E],
                     trgs=[[s, "Ndiyo."] for s in S]), (f"{E[0]}\nYes.", f"{S[0]}\nNdiyo.")),
    "GATITOS": (rows(sl=["en"] * 4, tl=["sw"] * 4, is_src_orig=[True] * 4, src=E,
                     trgs=[[s, "Ndiyo."] for s in S]), (E[0], S[0])),
    "WMT24++": (rows(lp=["en-sw_KE"] * 4, domain=["news"] * 4, document_id=[f"d{i}" for i in N],
                     segment_id=N, is_bad_source=[False] * 4, source=E, target=S,
                     original_target=S[::-1]), (E[0], S[0])),
    "NaijaRC": (rows(story=S, question=E, options_A=["a"] * 4, options_B=["b"] * 4,
                     options_C=["c"] * 4, options_D=["d"] * 4, Answer=["A", "B", "C", "D"]),
                (f"{S[0]}\n\n{E[0]}", "a")),
    "FLEURS transcripts": (
        rows(id=N, num_samples=[9, 8, 7, 6], path=[f"{i}.wav" for i in N],
             transcription=[s.lower()[:-1] for s in S], raw_transcription=S, gender=[0, 1] * 2,
             lang_id=[88] * 4, language=["Swahili"] * 4), ("", S[0])),
    "SQuAD in columns": (rows(context=E, question=S, answer_text=["x", "y"] * 2, answer_start=N),
                         (f"{E[0]}\n\n{S[0]}", "x")),
    "user and bot": (rows(user=S, bot=E, ts=[f"17000{i}" for i in N]), (S[0], E[0])),
    "Autshumato": (rows(zu=S, en=E, src_file=["gov.za"] * 4), (S[0], E[0])),
    "Gemini with a system message": (
        [{"systemInstruction": {"parts": [{"text": "Jibu."}]}, "contents": [
            {"role": role, "parts": [{"text": text}]}
            for role, text in (("user", s), ("model", e))]} for s, e in zip(S, E, strict=True)],
        (f"Jibu.\n{S[0]}", E[0])),
    "a MongoDB export": (
        [{"_id": {"$oid": f"5f{i}a"}, "question": s, "answer": e, "__v": 0,
          "createdAt": {"$date": "2024-01-01"}} for i, (s, e) in enumerate(zip(S, E, strict=True))],
        (S[0], E[0])),
    "LIMA": ([{"conversations": [s, e], "source": "x"} for s, e in zip(S, E, strict=True)],
             (S[0], E[0])),
    "UltraChat": ([{"id": s[:3], "data": [s, e]} for s, e in zip(S, E, strict=True)], (S[0], E[0])),
    "OASST trees": ([{"message_tree_id": f"t{i}", "tree_state": "ready_for_export", "prompt": {
        "message_id": f"t{i}", "text": S[i], "role": "prompter", "replies": [
            {"message_id": f"u{i}", "text": E[i], "role": "assistant", "replies": []}]}}
        for i in range(4)], (S[0], E[0])),
    "Guanaco": ([{"text": f"### Human: {s}### Assistant: {e}"} for s, e in zip(S, E, strict=True)],
                (S[0], E[0])),
}  # fmt: skip
ASKED: dict[str, tuple[list[Fields], str]] = {
    "AfriXNLI": (rows(premise=S, hypothesis=E, label=[0, 1, 2, 0]), "label is 0, 1, 2"),
    "NaijaSenti with numbers": (rows(tweet=S, label=[0, 1, 2, 0]), "label is 0, 1, 2"),
    "BoolQ": (rows(question=S, passage=E, answer=[True, False] * 2), "answer is false, true"),
    "BoolQ of SuperGLUE": (rows(question=S, passage=E, idx=N, label=[1, 0] * 2), "label is 0, 1"),
    "XNLI of all languages": (
        [{"premise": {"en": e, "sw": s}, "label": i % 3,
          "hypothesis": {"language": ["en", "sw"], "translation": [e, s]}}
         for i, (s, e) in enumerate(zip(S, E, strict=True))],
        'prompt = "{premise.sw}\\n{hypothesis.translation.1}"'),
    "AfriMGSM": (rows(question=S, answer=E, answer_number=N, equation_solution=["1+1"] * 4),
                 'completion = "{answer_number}"'),
    "MasakhaNER": (rows(id=N, tokens=[["Mji", "mkuu"]] * 4, ner_tags=[[0, 1]] * 4), "tokens"),
    "Kinnews": (rows(label=N, en_label=TONES, kin_label=TONES, title=E, content=S),
                'completion = "{en_label}"'),
    "Bible verses": (rows(book=["Mwanzo"] * 4, chapter=[1] * 4, verse=N, text=S),
                     'text = "{text}"'),
    "a dictionary": (rows(word=["kitabu", "maji", "mti", "nyumba"], definition=E),
                     'completion = "{definition}"'),
    "labels that are called ids": (rows(sentence=S, sentiment_id=[0, 1, 1, 0]),
                                   'completion = "{sentiment_id}"'),
    "few translations into two languages": (rows(src=E, tgt=S, lang=["swa", "hau"] * 2),
                                            'prompt = "{lang}: {src}"'),
    "choices by number": (rows(q=S, opt1=E, opt2=S, opt3=TONES, correct=[1] * 4),
                          'choices = ["{opt1}", "{opt2}", "{opt3}"]'),
    "chain of thought": (rows(question=S, reasoning=E, answer=N),
                         'completion = "{reasoning}\\n{answer}"'),
    "self-instruct": (rows(id=N, name=["x"] * 4, instruction=S,
                           instances=[[{"input": "", "output": e}] for e in E],
                           is_classification=[False] * 4), 'prompt = "{instruction}"'),
    "TriviaQA": (rows(question=S, question_id=N, question_source=["http://x.org"] * 4,
                      answer=[{"value": e, "aliases": [e, "x"], "type": "Entity"} for e in E]),
                 'completion = "{answer.value}"'),
    "a ChatGPT export": (rows(title=E, mapping=[{"n0": {"parent": None}}] * 4,
                              current_node=["n0"] * 4), "messages"),
    "a Google form": (
        [{"Timestamp": f"2023/01/0{i} 10:00", "Tafsiri kwa Kiswahili: Good morning": s,
          "Umri": 20 + i * i % 7}
         for i, s in zip(N, S, strict=True)],
        'completion = "{Umri}"'),
    "TRL preference": ([{key: [{"role": role, "content": text}] for key, role, text in (
        ("prompt", "user", s), ("chosen", "assistant", e), ("rejected", "assistant", "La."))}
        for s, e in zip(S, E, strict=True)], 'completion = "{chosen.0'),
    "UltraFeedback": (rows(source=["x"] * 4, instruction=S, completions=[
        [{"model": "a", "response": e}, {"model": "b", "response": "La."}] for e in E]),
        'text = "{instruction}"'),
    "TyDi QA, primary task": (
        rows(passage_answer_candidates=[{"plaintext_start_byte": [0]}] * 4, question_text=S,
             document_title=E, language=["swahili"] * 4,
             annotations=[{"minimal_answers_start_byte": [5]}] * 4, document_plaintext=E),
        "use the file of TyDi QA's secondary task"),
    "an ODK form": (
        rows(SubmissionDate=[f"Jan {i}, 2024 10:00:00 AM" for i in N], enumerator=TONES,
             sentensi=S, tafsiri=E, KEY=[f"uuid:{i}0c4f2a1-77aa-4bcd-9e21-0a1b2c3d4e5" for i in N]),
        'prompt = "{tafsiri}"\n    completion = "{sentensi}"'),
    "Wikipedia": (rows(id=N, url=["u"] * 4, title=E, text=S), 'text = "{text}"'),
    "three languages": (rows(eng_Latn=E, hau_Latn=S, swh_Latn=S),
                        'completion = "{hau_Latn}"'),
    "MASSIVE": (rows(id=N, locale=["sw-KE"] * 4, scenario=["alarm"] * 4,
                     intent=["alarm_set"] * 4, utt=S, annot_utt=S), 'completion = "{intent}"'),
    "language identification": (rows(text=S, lang=["swa", "hau"] * 2), 'completion = "{lang}"'),
    "a text that repeats the row": (
        rows(prompt=S, reply=E, text=[f"Q: {s} A: {e}" for s, e in zip(S, E, strict=True)]),
        'completion = "{reply}"'),
}  # fmt: skip


def written(path: Path, made: list[Fields], kind: str) -> Path:
    """Write rows as a file of this kind; lists and objects in a table are JSON."""
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    elif kind == "json":
        path.write_text(json.dumps(made), encoding="utf-8")
    else:
        out = io.StringIO()
        cells = [{k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in row.items()}
                 for row in made]  # fmt: skip
        table = csv.DictWriter(out, [*made[0]], delimiter="\t" if kind == "tsv" else ",")
        table.writeheader()
        table.writerows(cells)
        path.write_text(out.getvalue(), encoding="utf-8")
    return path


def first(entry: Entry) -> tuple[str, str]:
    return entry.rows[0].sides


@pytest.mark.parametrize(("kind", "container"), rotated(READ, ["jsonl", "json", "csv", "tsv"]))
def test_public_rows_are_read_as_they_are_meant(tmp_path: Path, kind: str, container: str) -> None:
    made, expected = READ[kind]
    path = written(tmp_path / f"a.{container}", made, container)
    entry = dataset_entry((path,))
    assert (first(entry), entry.questions) == (expected, ())
    assert len(entry.rows) == 4


PAGE = (Path(__file__).parent.parent.parent / "docs" / "data.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", [*READ, *ASKED])
def test_the_page_has_the_lines_that_init_writes(tmp_path: Path, kind: str) -> None:
    made, _ = READ[kind] if kind in READ else ASKED[kind]
    cell = "asks"
    if kind in READ:
        entry = dataset_entry((written(tmp_path / "a.jsonl", made, "jsonl"),))
        lines = pasted(entry.mapping, "dataset").splitlines()
        cell = "<br>".join(f"`{line.strip()}`" for line in lines) or "needs no line"
    assert f"| {kind} | {', '.join(made[0])} | {cell} |" in PAGE


def reordered(made: list[Fields]) -> list[Fields]:
    return [dict(reversed(row.items())) for row in made]


def capitals(made: list[Fields]) -> list[Fields]:
    return [{key.capitalize(): value for key, value in row.items()} for row in made]


def more_columns(made: list[Fields]) -> list[Fields]:
    return [{**row, "notes": f"imeangaliwa na {i}", "score": 0.5} for i, row in enumerate(made)]


@pytest.mark.parametrize(("kind", "change"), rotated(READ, [reordered, capitals, more_columns]))
def test_changed_rows_are_read_as_meant_or_m2m_asks(tmp_path: Path, kind: str, change: Any) -> None:
    made, expected = READ[kind]
    path = written(tmp_path / "a.jsonl", change(made), "jsonl")
    try:
        entry = dataset_entry((path,))
    except InputError:
        return
    swapped = expected[::-1] if "translates" in " ".join(entry.notes) else expected
    assert entry.questions or first(entry) in (expected, swapped)
    if change is more_columns and "OASST" not in kind:  # of a tree, only the turns are rows
        assert "notes" in " ".join(entry.notes)


@pytest.mark.parametrize(("kind", "container"), rotated(ASKED, ["jsonl", "tsv"]))
def test_rows_that_only_the_user_understands_are_asked(
    tmp_path: Path, kind: str, container: str
) -> None:
    made, expected = ASKED[kind]
    path = written(tmp_path / f"a.{container}", made, container)
    try:
        entry = dataset_entry((path,))
    except InputError as error:
        assert expected in f"{error.message}\n{error.hint}"
    else:
        assert expected in " ".join(entry.questions)


TARGETS = [
    kind for kind in READ if not kind.startswith(("OASST", "Common", "xP3", "XL-Sum", "Gemini"))
]


@pytest.mark.parametrize("kind", TARGETS)
def test_targets_ask_what_datasets_train(tmp_path: Path, kind: str) -> None:
    made, expected = READ[kind]
    path = written(tmp_path / "a.jsonl", made, "jsonl")
    task = target_entry((path,), ()).task
    assert task is not None
    asked = "\n".join((task.examples[0].prompt, *task.examples[0].choices))
    assert expected[0] in asked
    assert expected[1] in asked


def mark(bad: bool, text: str) -> Fields:
    return {"was_cancelled": bad, "result": [{"type": "choices", "value": {"choices": [text]}}]}


LEFT_OUT: dict[str, tuple[list[Fields], str]] = {
    "WMT24++": ([{**row, "is_bad_source": not i}
                 for i, row in enumerate(READ["WMT24++"][0])], "is_bad_source is not false"),
    "Label Studio": ([{"id": i, "data": {"text": s}, "annotations": [mark(not i, TONES[i])]}
                      for i, s in enumerate(S)], "was_cancelled is not false"),
    "OASST": ([{"message_id": f"{i}{role}", "parent_id": parent and f"{i}{parent}", "role": role,
                "text": f"{role} {i}", "deleted": not i and not parent}
               for i in range(4) for role, parent in (("prompter", ""), ("assistant", "prompter"))],
              "2 turns are left out: deleted, or an answer to a deleted one"),
}  # fmt: skip


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_rows_that_a_tool_marks_as_bad_are_left_out_and_named(tmp_path: Path, kind: str) -> None:
    made, note = LEFT_OUT[kind]
    entry = dataset_entry((written(tmp_path / "a.jsonl", made, "jsonl"),))
    assert len(entry.rows) == 3
    assert note in " ".join(entry.notes)


RASA = """version: "3.1"
nlu:
- intent: salamu
  examples: |
    - habari ya [leo](siku)
    - hujambo
- regex: nambari
  examples: |
    - [0-9]+
"""
INTENTS = {"intents": [{"tag": "a", "patterns": [S[0], S[1]], "responses": E[:2]},
                       {"tag": "b", "patterns": [], "responses": E}]}  # fmt: skip


def test_intents_of_small_chatbots_become_a_row_for_each_example(tmp_path: Path) -> None:
    (tmp_path / "nlu.yml").write_text(RASA, encoding="utf-8")
    entry = dataset_entry((tmp_path / "nlu.yml",))
    assert [row.sides for row in entry.rows] == [
        ("habari ya leo", "salamu"), ("hujambo", "salamu")]  # fmt: skip
    assert "1 entry is left out" in " ".join(entry.notes)
    (tmp_path / "a.json").write_text(json.dumps(INTENTS), encoding="utf-8")
    entry = dataset_entry((tmp_path / "a.json",))
    assert [row.sides for row in entry.rows] == [(S[0], E[0]), (S[1], E[0])]
    assert "the first is trained on" in " ".join(entry.notes)


@pytest.mark.parametrize("nested", [True, False], ids=["trees", "turns"])
def test_two_answers_of_one_question_have_their_own_lines(tmp_path: Path, nested: bool) -> None:
    """`m2m data clean` drops rows by their lines."""
    roots = [{"message_id": f"q{i}", "role": "prompter", "text": S[i]} for i in range(4)]
    said = [{"message_id": f"{k}{i}", "role": "assistant", "text": f"{E[i]} {k}"}
            for i in range(4) for k in "ab"]  # fmt: skip
    replies = [{**turn, "replies": []} for turn in said]
    trees = [{"prompt": {**root, "replies": replies[2 * i : 2 * i + 2]}}
             for i, root in enumerate(roots)]  # fmt: skip
    turns = [{**root, "parent_id": None} for root in roots]
    turns += [{**turn, "parent_id": f"q{turn['message_id'][1:]}"} for turn in said]
    entry = dataset_entry((written(tmp_path / "a.jsonl", trees if nested else turns, "jsonl"),))
    assert len({row.line for row in entry.rows}) == len(entry.rows) == 8


def test_words_in_a_column_called_data_are_no_conversation(tmp_path: Path) -> None:
    made = [{"id": i, "data": s.split()[:2]} for i, s in enumerate(S)]
    with pytest.raises(InputError, match="does not know the columns"):
        dataset_entry((written(tmp_path / "a.jsonl", made, "jsonl"),))


def test_questions_in_numbered_columns_and_whisper_s_segments(tmp_path: Path) -> None:
    made = [{"Story_ID": i, "Q1": s, "A1": e, "Q2": f"Je, {s}" if i else "", "A2": e if i else ""}
            for i, (s, e) in enumerate(zip(S, E, strict=True))]  # fmt: skip
    entry = dataset_entry((written(tmp_path / "a.csv", made, "csv"),))
    assert [row.sides for row in entry.rows[:2]] == [(S[0], E[0]), (S[1], E[1])]
    assert len(entry.rows) == 7
    assert "each row has 2 questions" in " ".join(entry.notes)
    segments = [{"id": i, "start": i, "end": i + 1.5, "text": s, "avg_logprob": -0.2 - i / 9}
                for i, s in enumerate(S)]  # fmt: skip
    whisper = {"text": " ".join(S), "segments": segments, "language": "sw"}
    (tmp_path / "a.json").write_text(json.dumps(whisper), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        dataset_entry((tmp_path / "a.json",))
    assert 'text = "{text}"' in (caught.value.hint or "")


def test_two_people_who_disagree_and_marked_spans_are_a_question(tmp_path: Path) -> None:
    two = [{"data": {"text": s}, "annotations": [mark(False, "chanya"), mark(False, TONES[i])]}
           for i, s in enumerate(S)]  # fmt: skip
    spans = [{"data": {"text": s}, "annotations": [{"result": [
        {"type": "labels", "value": {"start": 0, "end": 3, "text": s[:3], "labels": ["PER"]}}]}]}
        for s in S]  # fmt: skip
    agreed = [{**task, "annotations": task["annotations"][1:] * 2} for task in two]
    assert len(dataset_entry((written(tmp_path / "b.json", agreed, "json"),)).rows) == 4
    for made in (two, spans):
        with pytest.raises(InputError, match="does not know") as caught:
            dataset_entry((written(tmp_path / "a.json", made, "json"),))
        assert "annotations.0.result.0.value" in (caught.value.hint or "")


def test_a_question_without_an_answer_is_named_with_its_line(tmp_path: Path) -> None:
    made = [{"question": s, "context": E[0], "answers": {"text": ["x"] * (i % 2)}}
            for i, s in enumerate(S)]  # fmt: skip
    with pytest.raises(InputError, match=r'lines 1, 3: "answers.text" is empty') as caught:
        dataset_entry((written(tmp_path / "a.jsonl", made, "jsonl"),))
    assert 'bad_rows = "skip"' in (caught.value.hint or "")


TAGGED = ("Emir O\nKano B-LOC\n\nZhang B-PER\nkaze O\n" * 4, "word NOUN\nit PRON\n\n" * 4)


@pytest.mark.parametrize("name", ["a.tsv", "a.csv"])
@pytest.mark.parametrize("text", TAGGED)
@pytest.mark.parametrize("sign", [" ", "\t"])
def test_single_words_with_tags_are_called_so(
    tmp_path: Path, name: str, text: str, sign: str
) -> None:
    (tmp_path / name).write_text(text.replace(" ", sign), encoding="utf-8")
    with pytest.raises(InputError, match=r"CoNLL|one word a line"):
        dataset_entry((tmp_path / name,))


def test_class_labels_of_parquet_files_have_their_names(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    features = {"text": {"dtype": "string", "_type": "Value"},
                "label": {"names": ["hasi", "chanya"], "_type": "ClassLabel"}}  # fmt: skip
    table = arrow.table({"text": S, "label": [0, 1, 1, 0]})
    meta = {"huggingface": json.dumps({"info": {"features": features}})}
    parquet.write_table(table.replace_schema_metadata(meta), tmp_path / "a.parquet")
    entry = dataset_entry((tmp_path / "a.parquet",))
    assert [row.sides for row in entry.rows][:2] == [(S[0], "hasi"), (S[1], "chanya")]
    parquet.write_table(table, tmp_path / "b.parquet")
    assert dataset_entry((tmp_path / "b.parquet",)).questions
