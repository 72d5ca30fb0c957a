"""The shapes of rows that other tools write, as a table: their columns, and how to read them.

`m2m.dataset.guess` looks for them. A column is named by a pattern, because people rename columns. A
slot whose name ends with "?" may have no column, one whose name ends with "!" takes the first of
several. A column's name is in small letters, with `_` for other signs, and with points before the
parts of an object: "translation.en", "answers.0.text".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_TEXT = (
    r"((text|tweet|sentence|review|comment|utterance|content|post|body|news|"
    r"transcript(ion)?|message)(_?text|_?\d)?|(clean(ed)?|full|raw|original)_(text|tweet)|"
    r"article|document)"
)
_LABEL = (
    r"((label|class|category|topic|intent|intention|emotion|sentiment|polarity|stance|tag|annotation|"
    r"target|hate|toxicity|dialect_label|majority_label|gold)(s|_?name|_?text|_?str|_?label)?|"
    r"(sentiment|emotion|topic|gold|intent|class|news|final)_(label|class|category))"
)
_QUESTION = (
    r"(question|query|problem|prompt|instruction|inputs?|question_?(text|stem)|stem|ask|"
    r"swali|tambaya|ibeere|pergunta|pregunta)"
)
_PASSAGE = r"(context|passages?|paragraph|article|document|story|support|flores_passage|text)"
_GOLD = (
    r"(answers?(_?(key|idx|index|label|letter|choice|option|num(ber)?))?|correct(_\w+)?|label|gold"
    r"|target|cop|ans|right_answer|solution|key)"
)
_ANSWERS = r"(answers?|jibu|majibu|amsa|idahun|r[eé]ponses?|respostas?|target|targets|reply|output)"
SOURCE = (
    r"((source|src)(_?(text|sentence|sent|lang(uage)?_text))?|(text|sentence|sent)_(source|src))"
)
TARGET = (
    r"(trgs|(target|tgt|trg|reference|ref|translation|translated)(_?(text|sentence|sent))?|"
    r"(text|sentence|sent)_(target|tgt|trg))"
)
# Columns that say something about a row, in addition to those of every shape.
_LANGUAGES = (
    r"(source|src|target|tgt|trg|input|output|from|to|dst)_?lang\w*|(translation_?)?direction|"
    r"(lang(uages?)?_?)?pair"
)
ABOUT_TASK = (
    rf"({_LANGUAGES}|task|task_?(name|type|id)|category|categories|type|subject|topic|domain|level|grade|"
    r"difficulty|annotat\w+|explanation|rationale|hint|"
    r"template\w*|config|status|version|quality|confidence|score|rating|agreement|worker\w*|"
    r"pm_score|(up|down)?votes?|(is_)?(selected|best|best_answer)|selected_role|"
    r"dataset\w*|sub_?\w*|user\w*|num_\w+|ds|title|translated_\w+|translation_type)"
)

# Columns that say something about a sentence and its translation.
ABOUT_PAIR = re.compile(
    ABOUT_TASK + r"|ref(erence)?|book|chapter|verse|verse_id|has_\w+|\w+_id|direction|pair|"
    r"similarity|laser\w*|labse\w*|\w*_(score|lid|url)|(source|target)_sentence_source|"
    r"translator|comet\w*|no|number|num"
)


@dataclass(frozen=True)
class Shape:
    """One shape of rows.

    Attributes:
        name: in words.
        columns: for each slot the pattern of its column's name.
        mapping: fields of the recipe, with the columns' names in angle brackets; `<name^>` is the
            object that has the column.
        about: a pattern for further columns that are neither question nor answer.
        labels: whether the answer is one of a few values.
        several: whether several answers are all right.
        about_title: whether a title beside the question may be part of it.
    """

    name: str
    columns: Mapping[str, str]
    mapping: Mapping[str, str]
    about: str = ABOUT_TASK
    labels: bool = False
    several: bool = False
    about_title: bool = False


_PRODIGY = (
    r"input_hash|\w+_id|\w*timestamp|is_binary|answer|(config|meta|options|versions)(\..*)?|"
    "priority|score"
)
_OPTIONS = {"choices": "{<choices>}"}


def _asked(name: str, choices: Mapping[str, str]) -> Shape:
    """Return the shape of a question with choices, perhaps about a passage."""
    return Shape(
        name,
        {"question": rf"{_QUESTION}|goal|ctx|sentence", **choices, "answer!": _GOLD,
         "passage?": _PASSAGE},
        {"prompt": "{<passage>?}\n\n{<question>}", "answer": "{<answer>}", **_OPTIONS},
        about=ABOUT_TASK + r"|answer_(idx|index|num)|cot_content|src|exp|choice_type|\w+_name|"
        r"\w+_id|required_\w+|time_\w+|cultur\w*|region|is_\w+|reference|"
        r"ind|activity_label|ctx_[ab]|split_type",
    )  # fmt: skip


# The first shape that fits is taken, so the narrow ones come first. `<choices*>` is a group of
# columns such as A, B, C, D.
SHAPES: tuple[Shape, ...] = (
    Shape(
        "Label Studio",
        {"text": r"data\.\w+", "answer": r"annotations\.0\.result\.0\.value\.(choices|text)"},
        {"prompt": "{<text>}", "answer": "{<answer>}"},
        about=r"(?!.*\.(labels|start)$)(annotations|predictions|drafts|meta|data)\.?.*|\w*(_at|_id|_by|count|_annotations)|"
        r"drafts|predictions|project|inner_id|cancelled\w*|total\w*|comment\w*|file_upload",
        labels=True,
    ),
    Shape(
        "Label Studio (short)",
        {"text": _TEXT, "answer": r"(?!annotat|created|updated|lead_time|text|id$)\w+",
         "annotator": "annotator", "time": "lead_time"},
        {"prompt": "{<text>}", "answer": "{<answer>}"},
        about=r"annotation_id",
        labels=True,
    ),
    Shape(
        "Prodigy with choices",
        {"text": _TEXT, "answer": "accept", "choices": r"options(\.0\.text)?",
         "names?": r"options\.0\.id", "task": "task_hash"},
        {"prompt": "{<text>}", "answer": "{<answer>}", "choices": "{<choices^>}"},
        about=_PRODIGY,
    ),
    Shape(
        "Prodigy",
        {"text": _TEXT, "answer": "label", "task": "task_hash"},
        {"prompt": "{<text>}", "answer": "{<answer>}"},
        about=_PRODIGY,
        labels=True,
    ),
    Shape(
        "Argilla",
        {"text": r"(inputs|fields)\.\w+",
         "answer": r"annotation|responses\.\w+(\.0)?\.value|responses\.0\.values\.\w+\.value"},
        {"prompt": "{<text>}", "answer": "{<answer>}"},
        about=r"(prediction|annotation|suggestions|responses|metadata|metrics|vectors|inputs)\b.*|"
        r"\w*_agent|status|explanation|search_keywords|multi_label|event_timestamp",
        labels=True,
    ),
    Shape(
        "preference",
        {"question": r"prompt|question|instruction|input", "answer": "chosen", "bad": "rejected",
         "system?": "system(_prompt)?"},
        {"prompt": "{<question>}", "answer": "{<answer>}", "system": "{<system>?}"},
        about=ABOUT_TASK + r"|(score|model|rating)\w*",
    ),
    Shape(
        "COPA",
        {"premise": "premise", "question": "question", "choices*": "", "answer": _GOLD},
        {"prompt": "{<premise>}\n{<question>}", "answer": "{<answer>}", **_OPTIONS},
        about=r"changed",
    ),
    Shape(
        "belebele",
        {"question": "question", "passage": "(flores_)?passage", "choices*": "",
         "answer": "correct_answer_num"},
        {"prompt": "{<passage>}\n\n{<question>}", "answer": "{<answer>}", **_OPTIONS},
        about=r"link|question_number|ds|dialect",
    ),
    Shape(
        "ARC",
        {"question": r"question(\.stem)?",
         "choices": r"(question\.)?(choices|options)(\.0)?\.texts?",
         "names": r"(question\.)?(choices|options)(\.0)?\.(labels?|keys?)",
         "answer": r"answer_?key|answer"},
        {"prompt": "{<question>}", "answer": "{<answer>}", "choices": "{<choices^>}"},
        about=ABOUT_TASK + r"|(question\.)?(question_)?concept",
    ),
    Shape(
        "TruthfulQA with choices",
        {"question": "question", "choices": r"mc1_targets\.choices",
         "names": r"mc1_targets\.labels"},
        {"prompt": "{<question>}", "answer": "1", "choices": "{<choices^>}"},
        about=ABOUT_TASK + r"|mc2_targets\..*",
    ),
    Shape(
        "TruthfulQA",
        {"question": "question", "answer": "best_answer"},
        {"prompt": "{<question>}", "answer": "{<answer>}"},
        about=ABOUT_TASK + r"|(in)?correct_answers?",
    ),
    Shape(
        "story with two endings",
        {**{slot: rf"input_?sentence_?{n}" for n, slot in enumerate(("a", "b", "c", "d"), 1)},
         "choices*": "", "answer": "answer_?right_?ending"},
        {"prompt": "{<a>} {<b>} {<c>} {<d>}", "answer": "{<answer>}", **_OPTIONS},
    ),
    _asked("question with choices", {"choices": "choices?|options?|candidates|endings|mc_options"}),
    _asked("question with choices in columns", {"choices*": ""}),
    Shape(
        "SQuAD",
        {"question": "question", "passage": "context|passage|paragraph",
         "answer": r"answers?(\.0)?\.text|answer_text"},
        {"prompt": "{<passage>}\n\n{<question>}", "answer": "{<answer>}"},
        about=ABOUT_TASK + r"|answers?(\.0)?\.\w+|answer_(start|end)|is_impossible|"
        r"plausible_answers\b.*|question_(lang|translated)|answer_pivot\b.*",
        several=True,
    ),
    Shape(
        "Dolly",
        {"question": "instruction", "context": "context", "answer": "response"},
        {"prompt": "{<question>}\n{<context>?}", "answer": "{<answer>}"},
    ),
    Shape(
        "instruction, inputs, targets",
        {"question": "instruction", "more": "inputs?", "answer": "targets?|outputs?|response"},
        {"prompt": "{<question>}\n{<more>?}", "answer": "{<answer>}"},
    ),
    Shape(
        "Aya and xP3",
        {"question": "inputs", "answer": "targets"},
        {"prompt": "{<question>}", "answer": "{<answer>}"},
    ),
    Shape(
        "prompt and response",
        {"question": r"(user_?)?(prompts?|questions?|quer(y|ies)|instructions?|inputs?|ask)|human|"
                     r"user",
         "answer": r"(responses?|completions?|outputs?|reply|replies|assistant|bot|answer_text|"
                   r"(model|assistant|bot|ai|gpt)_?(response|answer|output|reply))",
         "system?": "system(_?(prompt|message|instruction))?"},
        {"prompt": "{<question>}", "answer": "{<answer>}", "system": "{<system>?}"},
        about=ABOUT_TASK + r"|model\w*",
        about_title=True,
    ),
    Shape(
        "title, question and answer",
        {"title": r"((question|post|thread)_?)?(title|subject)",
         "body?": r"(question|post)_?(body|content|text|detail(s)?|description)|selftext|body",
         "answer": r"((best|accepted|chosen|top|selected)_?)?(answers?|repl(y|ies)|response)"
                   r"(_?(body|text|content)|\.(text|body))?|responses\.0\.text"},
        {"prompt": "{<title>}\n{<body>?}", "answer": "{<answer>}"},
        about=ABOUT_TASK + r"|answers\.\w+|subreddit|(q|a)_id|\w*(score|votes?|views)|tags?|"
        r"\w*_urls?(\.\w+)?",
        several=True,
    ),
    Shape(
        "question and answer",
        {"question": _QUESTION, "answer": _ANSWERS, "passage?": _PASSAGE},
        {"prompt": "{<passage>?}\n\n{<question>}", "answer": "{<answer>}"},
        several=True,
        about_title=True,
    ),
    Shape(
        "question about a passage",
        {"question": "question|query", "passage": _PASSAGE, "answer": "labels?"},
        {"prompt": "{<passage>}\n\n{<question>}", "answer": "{<answer>}"},
        labels=True,
    ),
    Shape(
        "XL-Sum",
        {"text": r"text|article|document|body|content", "answer": "summary|abstract|highlights"},
        {"prompt": "{<text>}", "answer": "{<answer>}"},
        about=r"title|headline|section|category|gem_id|bbcid",
    ),
    Shape(
        "premise and hypothesis",
        {"one": r"premise|(sentence|text|question|sent)_?(1|a)",
         "two": r"hypothesis|(sentence|text|question|sent)_?(2|b)",
         "answer": rf"{_LABEL}|(is_)?(duplicate|paraphrase|entailment)"},
        {"prompt": "{<one>}\n{<two>}", "answer": "{<answer>}"},
        about=ABOUT_TASK + r"|genre|pairid|promptid|\w*_parse|qid_?\d|\w*_id",
        labels=True,
    ),
    Shape(
        "text and name of its label",
        {"text": _TEXT, "number": r"labels?|class|target|category|label_?id",
         "answer": r"(label|class|target|category)_?(text|name|str(ing)?)"},
        {"prompt": "{<text>}", "answer": "{<answer>}"},
        labels=True,
    ),
    Shape(
        "news and category",
        {"title": "(news_?)?(headline|title)", "text": r"text|body|content|article",
         "answer": r"category|label|class|topic"},
        {"prompt": "{<title>}\n{<text>}", "answer": "{<answer>}"},
        about="headline_text|section",
        labels=True,
    ),
    Shape(
        "text and label",
        {"text": _TEXT + "|utt|(news_?)?(headline|title)", "answer": _LABEL},
        {"prompt": "{<text>}", "answer": "{<answer>}"},
        about=r"status|confidence|comments|annotator\w*|agreement|is_\w+|entities|cats|\w+_id|"
        r"(?>\w*?url)\w*|locale|partition|annot_utt",
        labels=True,
    ),
    Shape(
        "translation",
        {"source!": r"translations?\.\w+", "target": r"translations?\.\w+"},
        {"prompt": "{<source>}", "answer": "{<target>}"},
        about=ABOUT_PAIR.pattern,
    ),
    Shape(
        "source and target",
        {"source": SOURCE, "answer": TARGET},
        {"prompt": "{<source>}", "answer": "{<answer>}"},
        about=ABOUT_TASK + r"|lp|[st]l|is_\w+|factuality|original_target",
        several=True,
    ),
    Shape(
        "translated documents",
        {"source": "srcs", "target": "trgs"},
        {"prompt": "{<source>:lines}", "answer": "{<target>:lines}"},
        about=ABOUT_TASK + r"|[st]l|is_\w+|factuality",
    ),
    Shape(
        "FLEURS",
        {"text": "raw_transcription", "plain": "transcription", "audio": "file_name|path"},
        {"text": "{<text>}"},
        about=r"chars|num_samples|gender|audio.*|lang_(id|group_id)|language",
    ),
    Shape(
        "speech manifest",
        {"text": r"text|sentence|transcript(ion)?|normali[sz]ed_text",
         "audio": r"audio\w*(\.\w+)?|(audio_|wav_|clip_)?(file_?)?path|wav|file_?name|clip"},
        {"text": "{<text>}"},
        about=r"audio\..*|duration|sampling_rate|speaker\w*|gender|age|accents?|up_votes|down_votes|"
        r"client_id|locale|segment|variant|offset|sentence_id|sentence_domain",
    ),
)  # fmt: skip
