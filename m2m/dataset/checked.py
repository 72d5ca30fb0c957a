"""Check one dataset by itself, for `m2m data check`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from m2m.counted import counted
from m2m.dataset.characters import FAULTS, find_faults, letters_lost
from m2m.dataset.grams import comparable, frame, joined, joined_form, without_frame
from m2m.dataset.noise_check import check_noise
from m2m.dataset.normal_form import AS_IS, form_of, normalised_rows
from m2m.dataset.row_source import RowSource, or_skip
from m2m.dataset.rows import Row, Rows
from m2m.dataset.samples import RowLimit, encode
from m2m.dataset.statistics import DEAR, RUINOUS, TokenCost, cost, histogram, mostly_letters
from m2m.errors import InputError, M2MError, Problems
from m2m.formats.json_fields import JsonFields, Key, inserted
from m2m.formats.rowfile import AS_CSV
from m2m.tokenizer import Formatter

SIDES = ("questions", "answers")
SHOWN = 5  # lines that a problem names
FEW_ROWS, ENOUGH_ROWS = 100, 200  # docs/own-language.md: 200 rows are a start
_EMPTY = {"None", "nan", "NaN", "null", "NULL", "N/A", "NA", "#N/A", "<NA>", "<noinput>"}
_EMPTY |= {"#REF!", "#NAME?", "#VALUE!", "#DIV/0!"}
_LONG_TEXT = 20_000  # characters of bare text that are worth as much as that many rows


@dataclass(frozen=True)
class Problem(JsonFields):
    """Something in a dataset that a person should look at.

    Attributes:
        kind: a word for programs: "leak", "duplicates", "mojibake", ...
        message: the finding, in a sentence.
        hint: the next step.
        lines: the first few lines of the file that have the problem.
        refused: whether `m2m run` would refuse the file because of it.
    """

    kind: str
    message: str
    hint: str
    lines: tuple[int, ...] = ()
    refused: bool = False


@dataclass
class Checked(JsonFields):
    """The results for one file; counts of tokens are None if no model was named.

    Attributes:
        name: a short name that no other checked file has.
        near_duplicates: rows that nearly equal an earlier one; equal ones are not counted.
        contradictions: rows with a question that another row of the file answers differently.
        overlap: rows that hold a target's question.
        shared: rows that another file has too, exactly or nearly, by that file.
        contradicting: rows whose question another file answers, only differently, by that file.
        foreign: rows that read like another language, by the part that they read like.
        noise: rows with each kind of noise that was found (`m2m.dataset.noise`).
        form: the Unicode normal form of its texts: "NFC", "NFD" or "mixed"; "" if it has none.
        labels: how often each label is the answer, if the answers are labels.
        reading: how the answers name their choices, and which rows were picked.
    """

    file: Path
    name: str = ""
    format: str = "unreadable"
    reading: str = ""
    rows: int = 0
    tokens: int | None = None
    longest: int | None = None
    lengths: dict[int, int] = field(default_factory=dict)
    cost: TokenCost | None = None
    sides: dict[str, TokenCost] = field(default_factory=dict)
    duplicates: int = 0
    near_duplicates: int = 0
    contradictions: int = 0
    overlap: Annotated[int, Key("overlap_with_targets")] = 0
    shared: dict[str, int] = field(default_factory=dict)
    contradicting: dict[str, int] = field(default_factory=dict)
    foreign: dict[str, int] = field(default_factory=dict)
    noise: dict[str, int] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    form: str = ""
    problems: list[Problem] = field(default_factory=list)

    @property
    def refused(self) -> bool:
        """Return whether `m2m run` would refuse the file."""
        return any(problem.refused for problem in self.problems)

    def as_json(self) -> dict[str, Any]:
        """Return the fields of `m2m data check --json`."""
        written, cost = super().as_json(), self.cost
        edges = [{"up_to": edge, "rows": count} for edge, count in self.lengths.items()]
        del written["cost"]
        return inserted(
            {**written, "lengths": edges},
            "lengths",
            tokens_per_word=cost and round(cost.tokens_per_word, 3),
            characters_per_token=cost and round(cost.characters_per_token, 3),
            bytes_per_token=cost and round(cost.bytes_per_token, 3),
        )


class DatasetFile:
    """One dataset, split into the parts that are compared."""

    def __init__(
        self, result: Checked, opened: Callable[[], tuple[RowSource, Rows]],
        order: int = 0, normalise: str = AS_IS,
    ) -> None:  # fmt: skip
        """Read the rows with `opened`; its InputError becomes a problem of the result."""
        self.result, self.order = result, order
        self.rows: list[Row] = []
        self.plain: list[str] = []  # all text of each row
        self.said: Sequence[str] = ()
        try:
            source, read = opened()
        except InputError as error:
            self._note_unreadable(error)
            return
        self.rows = [*normalised_rows(read.rows, normalise)]
        result.format, result.rows = read.format, len(read.rows)
        result.reading = "; ".join(read.notes)
        if not (source.skips and read.rows):
            self._note_bad_rows(read.problems)
        self.plain = [row.plain_text for row in self.rows]
        sides = tuple(zip(*(row.sides for row in self.rows), strict=True)) or ((), ())
        self.said = sides[1]
        self.frame = frame(sides[0])
        self.sides = {side: without_frame(texts) for side, texts in zip(SIDES, sides, strict=True)}
        self.questions, self.answers = ([comparable(t) for t in self.sides[s]] for s in SIDES)
        self.texts = list(map(joined, self.questions, self.answers))
        # Another file may have the same row with another frame.
        whole = map(self._comparable, range(len(self.rows)), sides[0], sides[1])
        both = zip(self.texts, whole, strict=True)
        self.whole = [text if text == form else form for text, form in both]  # one copy of each
        result.form = form_of(self.plain)

    def _comparable(self, place: int, question: str, answer: str) -> str:
        """Return all text of a row in the form of `comparable`, made of that of its sides."""
        turns, sides = self.rows[place].messages, [self.sides[side][place] for side in SIDES]
        whole = [" ".join(side.split()) for side in (question, answer)] == sides  # no frame was cut
        pair = turns is None or [turn["role"] == "assistant" for turn in turns] == [False, True]
        if not (whole and pair) or self.rows[place].pieces:
            return comparable(self.plain[place])
        forms = self.questions[place], self.answers[place]
        return joined_form(question, answer, forms)

    @property
    def name(self) -> str:
        """Return the name that other files' entries use for this file."""
        return self.result.name or self.result.file.stem

    def say(
        self,
        kind: str,
        message: str,
        hint: str,
        places: Sequence[int] = (),
        *,
        refused: bool = False,
    ) -> None:
        """Add a problem of the rows at `places`."""
        lines = tuple(self.rows[place].line for place in places[:SHOWN])
        self.result.problems.append(Problem(kind, message, hint, lines, refused))

    def _note_unreadable(self, error: InputError) -> None:
        hint = error.hint or "correct the file"
        kind = "encoding" if "is not UTF-8" in error.message else "unreadable"
        self.say(kind, error.message, hint, refused=True)

    def _note_bad_rows(self, wrong: Problems) -> None:
        places, good = wrong.by_fault(), bool(self.rows)
        for fault, lines in places.items():
            one = len(lines) == 1
            message = f"line {lines[0]}: {fault}" if one else f"{in_rows(len(lines))}: {fault}"
            hint = "correct the row or delete it" if one else "correct these rows or delete them"
            hint = or_skip(hint, some_are_good=good)
            shown = () if one else tuple(lines[:SHOWN])
            self.result.problems.append(Problem("bad_row", message, hint, shown, refused=True))
        if more := len(wrong) - sum(map(len, places.values())):
            hint = "correct the first ones, and check again"
            self.say("bad_row", f"{in_rows(more)} more with faults", hint, refused=True)

    def check_alone(self, formatter: Formatter | None, limit: RowLimit) -> None:
        """Add the faults of single rows and, with a formatter, count tokens."""
        texts = self.plain
        for kind, places in find_faults(texts).items():
            fault, hint, _ = FAULTS[kind]
            self.say(kind, f"{in_rows(len(places))} with {fault}", hint, places)
        if lost := letters_lost(texts):
            message = f'{in_rows(len(lost))} with "?" inside words: letters were lost'
            hint = f"go back to the source and {AS_CSV}"
            self.say("letters_lost", message, hint, lost)
        self._check_ends()
        if self.rows and len(self.rows) < FEW_ROWS and sum(map(len, texts)) < _LONG_TEXT:
            message = f"{in_rows(len(self.rows))}: too few to learn from"
            self.say("few_rows", message, f"aim at {ENOUGH_ROWS} rows or more")
        echoed = self.echoes()
        if echoed:
            self.say(
                "echo",
                f"{in_rows(len(echoed))} whose answer only repeats the question",
                "are these translated? delete them if they teach nothing",
                echoed,
            )
        if self.rows:
            check_noise(self)
        if formatter and self.rows:
            self._count(formatter, limit)

    def echoes(self) -> list[int]:
        """Return the places of rows whose answer only repeats the question."""
        return [
            place
            for place in range(len(self.rows))
            if self.questions[place] == self.answers[place]
            and len(self.sides["answers"][place].split()) > 1
        ]

    def _check_ends(self) -> None:
        """Add a problem for rows that can be trained on but are probably a mistake."""
        open_ended = [
            i for i, row in enumerate(self.rows)
            if row.messages and row.messages[-1]["role"] != "assistant"
        ]  # fmt: skip
        if open_ended:
            message = f"{in_rows(len(open_ended))} with a last turn that nobody answers"
            self.say(
                "unanswered", message, "it is not used: add the answer, or delete it", open_ended
            )
        words = [
            i for i, row in enumerate(self.rows)
            if row.text is None and any(s.strip().split("\n")[-1] in _EMPTY for s in row.sides)
        ]  # fmt: skip
        if words:
            message = f"{in_rows(len(words))} with None, nan, #REF! or the like and nothing else"
            hint = "did a program write it for an empty field? then delete the word or the row"
            self.say("empty_word", message, hint, words)
        answers = self.said
        if len(answers) > 1 and all(text[:1] == " " for text in answers):
            hint = "delete the spaces after the commas, unless the model shall write them"
            self.say("leading_space", "all answers begin with a space", hint)

    def _count(self, formatter: Formatter, limit: RowLimit) -> None:
        result, tokenizer = self.result, formatter.tokenizer
        result.cost = cost(self.plain, tokenizer)
        result.sides = {
            side: cost(texts, tokenizer) for side, texts in self.sides.items() if any(texts)
        }
        for side, side_cost in result.sides.items():
            if mostly_letters(self.sides[side]):  # digits and signs are split in every language
                self._advise(side, side_cost)
        try:
            samples = encode(self.rows, formatter, 1 << 30, result.file)
        except M2MError as error:
            self.say("template", error.message, error.hint or "correct these rows", refused=True)
            return
        lengths = [len(sample) for sample in samples]
        result.tokens, result.longest = sum(lengths), max(lengths, default=0)
        result.lengths = histogram(lengths)
        texts = {row.line for row in self.rows if row.text is not None}
        long = [s.line for s in samples if len(s) > limit.tokens and s.line not in texts]
        if long:
            places = [i for i, row in enumerate(self.rows) if row.line in set(long)]
            most = counted(limit.tokens, "token")
            message = f"{in_rows(len(places))} longer than {most} ({limit.name})"
            refused = limit.long_rows == "refuse"
            hint = f'`long_rows = "{limit.long_rows}"` in the recipe: `m2m plan` says which lines'
            lengths = [len(s) for s in samples if s.line in set(long) and len(s) > limit.tokens]
            hint = limit.remedy(lengths) if refused else hint
            self.say("too_long", message, hint, places, refused=refused)

    def _advise(self, side: str, spent: TokenCost) -> None:
        if spent.characters_per_token >= DEAR:
            return
        own = f"{spent.characters_per_token:.2f} letters per token"
        message = f"the {side} alone, without words that most of them share, have {own}"
        knows = "almost nothing" if spent.characters_per_token < RUINOUS else "little"
        hint = (
            f"so the model knows {knows} of this language (below {DEAR}: little, below {RUINOUS}: "
            "almost nothing), and training will be slow; a base model with a vocabulary for many "
            "languages (Gemma 3, Qwen3) may do better"
        )
        self.say("tokenizer", message, hint)


def short_names(paths: Sequence[Path], *, ending: bool = True) -> list[str]:
    """Return names of files that differ: "train.tsv", if two have this name "yor/train.tsv".

    A file that is given twice has one name.
    """
    ways: tuple[Callable[[Path], str], ...] = (
        lambda path: path.name if ending else path.stem,
        lambda path: f"{path.absolute().parent.name}/{path.name if ending else path.stem}",
        lambda path: f"{path.absolute().parent.name}/{path.name}",
    )
    known = [Counter(way(path) for path in dict.fromkeys(paths)) for way in ways]
    return [
        next((way(p) for way, times in zip(ways, known, strict=True) if times[way(p)] == 1), str(p))
        for p in paths
    ]


def in_rows(count: int) -> str:
    """Return a number of rows in words."""
    return counted(count, "row")
