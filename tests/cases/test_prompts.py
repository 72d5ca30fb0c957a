"""The prompt that was trained is the prompt that will be sent.

For every kind of chat template and conversation three things must be the same ids: what stands
before a trained answer, what a scored answer is conditioned on, and what llama.cpp makes of the
exported GGUF's own template. The reference is llama-cpp-python's own formatter and tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import llama_cpp
import pytest
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from m2m.dataset import Row, encode
from m2m.dataset.examples import Example
from m2m.errors import InputError
from m2m.evaluate.prompts import Form
from m2m.evaluate.tasks import Task, requests
from m2m.tokenizer import Formatter, plain_source
from tests.templates import (
    BOS,
    CALLING,
    CONVERSATIONS,
    EOS,
    KINDS,
    Messages,
    answers,
    formatter_of,
    pico_tokenizer,
    prompts,
    turn,
)
from tests.tiny import pico_gguf

NO_SYSTEM = {"refuses system"}  # llama-cpp-python refuses what llama.cpp folds


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[llama_cpp.Llama]:
    path = pico_gguf(tmp_path_factory.mktemp("prompts") / "pico.gguf")
    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    yield model
    model.close()


def sent(llama: llama_cpp.Llama, source: str, messages: Messages) -> list[int]:
    made = Jinja2ChatFormatter(template=source, eos_token=EOS, bos_token=BOS)(messages=messages)
    ids: list[int] = llama.tokenize(made.prompt.encode(), add_bos=False, special=True)
    return ids


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_trained_scored_and_sent_prompts_are_one(
    llama: llama_cpp.Llama, kind: str, name: str
) -> None:
    source, messages = KINDS[kind], CONVERSATIONS[name]
    formatter = formatter_of(source)
    trained = list(answers(formatter.samples(messages)))
    given = [message for message in messages if message["role"] == "assistant"]
    for (context, answer), asked, said in zip(trained, prompts(messages), given, strict=True):
        assert context == formatter.prompt_ids(asked)
        if kind not in NO_SYSTEM or asked[0]["role"] != "system":
            assert context == sent(llama, source, list(asked))
        scored = [*formatter.head, *formatter.answer_ids(said["content"])]
        assert answer[: len(scored)] == scored
        if kind != "words":
            end = formatter.tokenizer.decode(answer[len(scored) :])
            assert end == EOS, "an answer is trained with its end and nothing after it"


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("thinks last", ""),
        ("opens and closes", "\n</think>\n\n"),
        ("opens", "\n</think>\n\n"),
        ("thinks always", "<think></think>\n"),
        ("channel", "final>"),
        ("chatml", ""),
    ],
)
def test_the_head_of_an_answer(kind: str, head: str) -> None:
    formatter = formatter_of(KINDS[kind])
    ids = formatter.samples(CONVERSATIONS["one turn"])[0][-1].ids
    assert formatter.tokenizer.decode(ids) == f"{head}abc<|im_end|>"
    assert formatter.extract_answer(f"{head}abc") == "abc"


def test_turns_go_into_one_sequence_where_later_prompts_go_on_from_them() -> None:
    sizes = {kind: len(formatter_of(KINDS[kind]).samples(CONVERSATIONS["turns"])) for kind in KINDS}
    assert sizes["chatml"] == sizes["thinks last"] == sizes["channel"] == 1
    assert sizes["opens"] == sizes["opens and closes"] == 3


def test_every_answer_of_a_conversation_is_trained() -> None:
    row = Row(1, messages=tuple(CONVERSATIONS["turns"]))
    for source in KINDS.values():
        samples = encode([row], formatter_of(source), 512)
        assert sum((sample.loss_mask[1:] & ~sample.loss_mask[:-1]).sum() for sample in samples) == 3


@pytest.mark.parametrize("name", ["one turn", "turns"])
def test_a_template_for_what_is_trained_without_one(llama: llama_cpp.Llama, name: str) -> None:
    plain = Formatter(pico_tokenizer())
    *_, (context, _) = answers(plain.samples(CONVERSATIONS[name]))
    before = list(prompts(CONVERSATIONS[name]))[-1]
    assert context == plain.prompt_ids(before) == sent(llama, plain_source(bos=False), [*before])
    chat = formatter_of(plain_source(bos=False))
    assert chat.samples(CONVERSATIONS[name]) == plain.samples(CONVERSATIONS[name])


THOUGHT = "so and so"


@pytest.mark.parametrize("kind", ["thinks last", "opens and closes", "opens", "thinks always"])
@pytest.mark.parametrize(
    "said",
    [
        turn("assistant", "abc", reasoning_content=THOUGHT),
        turn("assistant", "abc", thinking=THOUGHT),
        turn("assistant", f"<think>\n{THOUGHT}\n</think>\n\nabc"),
    ],
    ids=["reasoning_content", "thinking", "written out"],
)
def test_reasoning_is_trained_as_the_model_writes_it(kind: str, said: dict[str, str]) -> None:
    formatter = formatter_of(KINDS[kind])
    asked = turn("user", "copy abc")
    ((prompt, answer),) = formatter.samples([asked, said])
    assert list(prompt.ids) == formatter.prompt_ids([asked])
    text = formatter.tokenizer.decode([*prompt.ids, *answer.ids]).rpartition("assistant")[2]
    assert "".join(text.split()) == "<think>soandso</think>abc<|im_end|>"
    assert formatter.extract_answer(formatter.tokenizer.decode(answer.ids[:-1])) == "abc"


def test_reasoning_without_a_place_is_refused_with_its_line() -> None:
    said = turn("assistant", "abc", reasoning_content=THOUGHT)
    row = Row(7, messages=(turn("user", "copy abc"), said))
    with pytest.raises(InputError, match=r"line 7: .*leaves out the reasoning"):
        encode([row], formatter_of(KINDS["chatml"]), 512)
    written = turn("assistant", f"<think>{THOUGHT}</think>abc")
    (sample,) = encode(
        [Row(7, messages=(turn("user", "a"), written))], formatter_of(KINDS["chatml"]), 512
    )
    assert THOUGHT in formatter_of(KINDS["chatml"]).tokenizer.decode(sample.ids.tolist())


@pytest.mark.parametrize("kind", ["thinks last", "opens and closes", "opens"])
@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("No: <think>so</think> abc", "a part of an answer with <think>"),
        ("</think> abc", "a part of an answer with <think>"),
        ("<think>so</think>\n", "reasoning and nothing after it"),
    ],
)
def test_a_part_of_an_answer_is_never_taken_for_reasoning(
    kind: str, content: str, why: str
) -> None:
    # Such templates cut an answer at </think>: "No:" was lost, and an empty answer was trained.
    asked = turn("user", "what is </think>?")
    with pytest.raises(InputError, match=why):
        formatter_of(KINDS[kind]).samples([asked, turn("assistant", content)])
    formatter_of(KINDS["chatml"]).samples([asked, turn("assistant", content + "d")])


CALLS = (
    "{% for m in messages %}{% if m.role == 'tool' and not messages[loop.index0 - 1].tool_calls %}"
    "{{ raise_exception('a result without its call') }}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content }}{% for c in m.tool_calls or [] %}"
    "{{ c.function | tojson }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def test_calls_of_tools_are_trained_or_refused() -> None:
    row = Row(5, messages=tuple(CALLING))
    (sample,) = encode([row], formatter_of(CALLS), 512)
    said = formatter_of(CALLS).tokenizer.decode(sample.ids[sample.loss_mask].tolist())
    assert said == (
        '{"name": "weather", "arguments": {"city": "Nairobi"}}<|im_end|>It is sunny.<|im_end|>'
    )
    with pytest.raises(InputError, match=r"line 5: .*leaves out the calls of tools"):
        encode([row], formatter_of(KINDS["chatml"]), 512)


def test_a_target_that_the_template_leaves_a_part_of_out_is_refused_with_its_line() -> None:
    # Such a template writes the last question only.
    deaf = KINDS["chatml"].replace("in messages %}", "in messages[-1:] %}")
    shots = (Example("a", ("b",), 0, 1), Example("c", ("d",), 0, 2))
    task = Task(
        "choices", (Example("e", ("f", "g"), 0, 3),), Path("t.jsonl"), "", Form(shots=2, pool=shots)
    )
    with pytest.raises(InputError, match=r"t.jsonl:3: .*leaves out message 1 \(user\)"):
        requests(task, formatter_of(deaf))
    assert len(requests(task, formatter_of(KINDS["chatml"]))) == 1


def test_a_developer_message_is_a_system_message() -> None:
    # llama.cpp changes the role for all templates but those of gpt-oss' kind.
    asked = [turn("developer", "Be brief."), turn("user", "copy abc")]
    told = [turn("system", "Be brief."), turn("user", "copy abc")]
    formatter = formatter_of(KINDS["chatml"])
    assert formatter.prompt_ids(asked) == formatter.prompt_ids(told)


def test_what_a_template_leaves_out_is_refused_with_its_line(tmp_path: Path) -> None:
    deaf = KINDS["chatml"].replace(
        "{% for message in messages %}", "{% for message in messages if message.role != 'tool' %}"
    )
    rows = [
        Row(3, messages=(turn("user", "a"), turn("tool", "b"), turn("assistant", "c"))),
        Row(4, messages=(turn("user", "a"), turn("assistant", "c")), tools=({"name": "f"},)),
    ]
    with pytest.raises(InputError) as caught:
        encode(rows, formatter_of(deaf), 512)
    assert "line 3: the model's chat template leaves out message 2 (tool)" in str(caught.value)
    assert "line 4: the model's chat template has no place for tools" in str(caught.value)


@pytest.mark.parametrize("dropped", ["refuses system", "leaves it out"])
def test_a_system_message_without_a_place_goes_into_the_question(dropped: str) -> None:
    source = KINDS["refuses system"]
    if dropped == "leaves it out":
        source = KINDS["chatml"].replace(
            "in messages %}", "in messages if message.role != 'system' %}"
        )
    formatter = formatter_of(source)
    asked = [turn("user", "Be brief.\ncopy abc")]
    told = [turn("system", "Be brief."), turn("user", "copy abc")]
    assert formatter.prompt_ids(told) == formatter.prompt_ids(asked)
    ((prompt, _),) = formatter.samples([*told, turn("assistant", "abc")])
    assert list(prompt.ids) == formatter.prompt_ids(asked)
