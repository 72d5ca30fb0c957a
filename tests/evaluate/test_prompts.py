from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from m2m.dataset.examples import Example, fill
from m2m.errors import InputError
from m2m.evaluate.evaluator import Evaluator
from m2m.evaluate.metrics import measure_all
from m2m.evaluate.prompts import Form, Prompter
from m2m.evaluate.targets import load_target
from m2m.evaluate.tasks import requests
from m2m.formats.gguf import GGUFFile
from m2m.llamacpp.generate import Sampling, generate
from m2m.llamacpp.model import LlamaModel
from m2m.recipe import Target
from m2m.tokenizer import ChatTemplate, Formatter, Tokenizer
from tests.tiny import CHATML, pico_gguf, write_jsonl

POOL = tuple(Example(f"q{i}", (f"a{i}", "no"), 0, i) for i in range(9))
ASKED = Example("q3", ("yes", "no"), 0, 1)


@pytest.fixture(scope="module")
def pico(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pico_gguf(tmp_path_factory.mktemp("pico") / "pico.gguf")


@pytest.fixture
def chat(pico: Path) -> Formatter:
    tokenizer = Tokenizer.from_metadata(GGUFFile(pico).value)
    return Formatter(tokenizer, ChatTemplate(CHATML, "<|im_start|>", "<|im_end|>"))


@pytest.fixture
def plain(chat: Formatter) -> Formatter:
    return Formatter(chat.tokenizer)


def text(formatter: Formatter, ids: Any) -> str:
    return b"".join(formatter.tokenizer.token_bytes(i) for i in ids).decode()


def asked(form: Form, formatter: Formatter, example: Example = ASKED) -> tuple[str, list[str]]:
    request = Prompter(form, formatter).request(example)
    return text(formatter, request.prompt), [text(formatter, c) for c in request.continuations]


def test_nothing_set_asks_as_training_does(chat: Formatter, plain: Formatter) -> None:
    for formatter in (chat, plain):
        request = Prompter(Form(), formatter).request(ASKED)
        assert request.prompt == formatter.prompt_ids("q3")
        assert request.continuations == [formatter.answer_ids(c) for c in ASKED.choices]


def test_solved_examples_in_every_style(chat: Formatter, plain: Formatter) -> None:
    form = Form(instruction="Do.", shots=2, pool=POOL, seed=None, prefix="A: ", suffix=".")
    assert asked(form, plain) == (
        "Do.\n\nq0\nA: a0.\n\nq1\nA: a1.\n\nq3\nA:",
        [" yes", " no"],
    )
    raw = replace(form, style="raw", prefix=" ")
    assert asked(raw, plain) == ("Do.q0 a0.\n\nq1 a1.\n\nq3", [" yes", " no"])
    prompt, answers = asked(form, chat)
    marked = prompt.replace("<|im_start|>", "[").replace("<|im_end|>\n", "]")
    assert marked == "[system\nDo.][user\nq0][assistant\nA: a0.][user\nq1][assistant\nA: a1.]" + (
        "[user\nq3][assistant\nA:"
    )
    assert answers == [" yes", " no"]
    assert asked(replace(form, style="plain"), chat) == asked(form, plain)


def test_white_space_at_the_end_of_a_raw_prompt_goes_with_the_answer(plain: Formatter) -> None:
    spaced = replace(ASKED, prompt="the sea ")
    prompt, answers = asked(Form(style="raw"), plain, spaced)
    assert (prompt, answers) == ("the sea", [" yes", " no"])
    with pytest.raises(InputError, match="empty"):
        asked(Form(style="raw"), plain, replace(ASKED, prompt=" "))


def test_choices_inside_the_prompts_share_their_beginning(plain: Formatter) -> None:
    """As in Winogrande: each choice has a prompt of its own, and only the answer counts."""
    example = replace(ASKED, choices=("ran.", "ran."), contexts=("The dog then", "The sea then"))
    request = Prompter(Form(style="raw", delimiter=" "), plain).request(example)
    assert plain.tokenizer.decode(request.prompt) == "The"
    whole = [plain.tokenizer.decode(ids) for ids in request.continuations]
    assert whole == [" dog then ran.", " sea then ran."]
    assert [plain.tokenizer.decode(ids) for ids in request.counted()] == [" ran."] * 2


def test_choices_inside_prompts_that_begin_differently(plain: Formatter) -> None:
    example = Example("", ("ran.", "ran."), 0, 1, contexts=("Ana said she", "Eva said he"))
    request = Prompter(Form(style="raw", delimiter=" "), plain).request(example)
    assert not request.prompt
    said = zip(request.continuations, request.skipped, request.counted(), strict=True)
    assert [(text(plain, ids[:n]), text(plain, rest)) for ids, n, rest in said] == [
        ("Ana said she", " ran."),
        ("Eva said he", " ran."),
    ]


def test_an_empty_prompt_of_a_task_file_is_one_token(plain: Formatter) -> None:
    example = replace(ASKED, choices=("The sea.", "A dog."), contexts=("",))
    request = Prompter(Form(style="raw", delimiter=""), plain).request(example)
    tokenizer = plain.tokenizer
    start = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
    assert request.prompt == [start]
    assert [tokenizer.decode(ids) for ids in request.continuations] == ["The sea.", "A dog."]


def test_the_draw_is_seeded_shared_and_never_the_example_itself(plain: Formatter) -> None:
    def drawn(seed: int | None, example: Example) -> list[str]:
        prompter = Prompter(Form(shots=3, pool=POOL, seed=seed), plain)
        return [each.prompt for each in prompter.shots(example)]

    new = replace(ASKED, prompt="new")
    assert drawn(None, new) == ["q0", "q1", "q2"]
    assert drawn(4, new) == drawn(4, new)
    assert len({tuple(drawn(seed, new)) for seed in range(5)}) > 1
    for example in POOL:
        shots = drawn(4, example)
        assert len(shots) == 3
        assert example.prompt not in shots
        assert len(set(drawn(4, new)) - set(shots)) <= 1  # the others stay: a shared beginning
    with pytest.raises(InputError, match="9 solved examples are asked for, and only 8"):
        Prompter(Form(shots=9, pool=POOL), plain).request(ASKED)


def test_a_chat_needs_a_template(plain: Formatter) -> None:
    with pytest.raises(InputError, match="without one"):
        Prompter(Form(style="chat"), plain)


def test_braces() -> None:
    fields = {"q": "2 + 2", "options": ["3", 4], "n": 7}
    assert fill("{{Q{n}}}: {q}? {options}", fields) == "{Q7}: 2 + 2? 3, 4"
    for wrong, words in (("{a}", "no field 'a'"), ("{", "a lone {"), ("x}", "a lone }")):
        with pytest.raises(InputError, match=words):
            fill(wrong, fields)


def rows(folder: Path) -> dict[str, Path]:
    def row(i: int) -> dict[str, str]:
        return {"sw": f"neno {i}", "tone": "good" if i % 2 else "bad", "lang": "sw"}

    return {
        name: write_jsonl(folder / f"{name}.jsonl", map(row, numbers))
        for name, numbers in {"dev": range(6), "test": range(4, 9), "pool": range(3, 20)}.items()
    }


def test_a_target_says_how_rows_are_read_and_asked(tmp_path: Path, plain: Formatter) -> None:
    files = rows(tmp_path)
    target = Target(
        "tone",
        files["dev"],
        files["test"],
        prompt="Tone of {sw}:",
        answer="{tone}",
        choices=("good", "bad"),
        shots=2,
        shots_from=files["pool"],
        template="raw",
        answer_prefix=" ",
        metric="macro_f1",
    )
    task = load_target(target, "test")
    assert task.kind == "labels"
    assert task.examples[0].facet == "sw"
    request = requests(task, plain)[0]
    assert text(plain, request.prompt).endswith("\n\nTone of neno 4:")
    assert [text(plain, c) for c in request.continuations] == [" good", " bad"]
    barred = {example.prompt for example in task.examples}
    assert len(task.form.pool) == 17 - 5
    assert not barred & {each.prompt for each in task.form.pool}
    few = replace(target, shots_from=None, shots=4)  # of dev's six rows two are in test
    with pytest.raises(InputError, match=r"dev\.jsonl:1: 4 solved .* only 3 rows"):
        requests(load_target(few, "dev"), plain)
    answers = replace(target, choices=(), metric="f1")
    assert load_target(answers, "dev").examples[1].references == ("good",)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prompt": "{nothing}", "answer": "{tone}"}, "no row has the field 'nothing'"),
        ({"prompt": "{sw}"}, "needs an answer"),
        (
            {"prompt": "{sw}", "answer": "{sw}", "choices": ("good", "bad")},
            "expected one of good, bad",
        ),
        ({"prompt": "{sw}", "answer": "{tone}", "metric": "macro_f1"}, "does not fit"),
        ({"prompt": "{sw}", "answer": "{tone}", "window": 9}, "window is for texts"),
    ],
)
def test_settings_that_do_not_fit_the_rows(
    tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError) as caught:
        load_target(Target("t", rows(tmp_path)["dev"], **settings), "dev")
    assert words in f"{caught.value.message}; {caught.value.hint}"


def test_a_text_is_not_asked(tmp_path: Path) -> None:
    texts = write_jsonl(tmp_path / "t.jsonl", [{"text": "a b"}, {"text": "c d"}])
    with pytest.raises(InputError, match="shots, answer_prefix is set"):
        load_target(Target("t", texts, shots=1, answer_prefix=" "), "dev")


def test_answers_are_written_where_the_metric_needs_them(
    tmp_path: Path, pico: Path, chat: Formatter
) -> None:
    said = [{"prompt": f"say {w}", "answer": [w, w.upper()]} for w in ("ab", "cd", "ef")]
    path = write_jsonl(tmp_path / "t.jsonl", said)
    target = Target("t", path, metric="chrf", max_tokens=8, answer_suffix="q", answer_prefix="A: ")
    with LlamaModel(pico, exact_cache=True) as model:
        made = Evaluator(load_target(target, "dev"), chat)
        scores = made.evaluate(model)
        silent = Evaluator(load_target(replace(target, metric="auto"), "dev"), chat)
        prompt = [*chat.prompt_ids("say ab"), *chat.answer_ids("A:")]
        pieces = generate(model, prompt, Sampling(max_tokens=8), stop=["q"])
        assert scores.predictions[0] == "".join(pieces).strip()
        assert not silent.evaluate(model).predictions
    assert scores.references[0] == ("ab", "AB")
    assert {"answer_match", "f1", "chrf", "contrast_bits"} <= measure_all(scores).keys()
    assert made.fingerprint != silent.fingerprint
    longer = Evaluator(load_target(replace(target, max_tokens=9), "dev"), chat)
    assert made.fingerprint != longer.fingerprint
