"""What is trained on, where a prompt ends, and what hostile or odd templates may do."""

from __future__ import annotations

from typing import Any

import pytest

from m2m.errors import InputError
from m2m.tokenizer import ChatTemplate, Formatter, Segment, Tokenizer
from tests.templates import CALLING, TOOLS, answers, formatter_of
from tests.tiny import CHATML, pico_config, pico_metadata

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
USER = {"role": "user", "content": "Jambo"}
ANSWER = {"role": "assistant", "content": "Hello there"}


def tokenizer(**changes: Any) -> Tokenizer:
    values = {key: value.value for key, value in pico_metadata(pico_config()).items()}
    values |= {key.replace("__", "."): value for key, value in changes.items()}
    return Tokenizer.from_metadata(values.get)


def turns(formatter: Formatter, messages: list[dict[str, str]]) -> list[Segment]:
    """The segments of a conversation that is one sequence."""
    (segments,) = formatter.samples(messages)
    return segments


def shown(formatter: Formatter, segments: list[Segment]) -> list[tuple[str, bool]]:
    return [(formatter.tokenizer.decode(each.ids), each.trained) for each in segments]


def test_the_answer_and_its_end_are_trained_and_nothing_else() -> None:
    formatter = Formatter(tokenizer(), ChatTemplate(SMOLLM2))
    head = "<|im_start|>system\nYou are a helpful AI assistant<|im_end|>\n<|im_start|>user\n"
    assert shown(formatter, turns(formatter, [USER, ANSWER])) == [
        (f"{head}Jambo<|im_end|>\n<|im_start|>assistant\n", False),
        ("Hello there<|im_end|>", True),
    ]


def test_every_assistant_turn_is_trained() -> None:
    formatter = Formatter(tokenizer(), ChatTemplate(CHATML))
    segments = turns(formatter, [USER, ANSWER, USER, {"role": "assistant", "content": "Hi"}])
    assert shown(formatter, segments)[1:] == [
        ("Hello there<|im_end|>", True),
        ("\n<|im_start|>user\nJambo<|im_end|>\n<|im_start|>assistant\n", False),
        ("Hi<|im_end|>", True),
    ]


def test_a_turn_after_the_last_answer_is_left_out() -> None:
    formatter = Formatter(tokenizer(), ChatTemplate(CHATML))
    assert turns(formatter, [USER, ANSWER, USER]) == turns(formatter, [USER, ANSWER])


@pytest.mark.parametrize("template", [CHATML, SMOLLM2, None], ids=["chatml", "smollm2", "none"])
def test_training_and_scoring_share_the_boundary(template: str | None) -> None:
    formatter = Formatter(tokenizer(), template and ChatTemplate(template))
    prompt, answer = turns(formatter, [USER, ANSWER])
    assert list(prompt.ids) == formatter.prompt_ids("Jambo") == formatter.prompt_ids([USER])
    assert list(answer.ids[:-1]) == formatter.answer_ids("Hello there")
    assert answer.ids[-1] == formatter.tokenizer.eos_id


def test_a_template_that_strips_answers_strips_them_for_scoring_too() -> None:
    source = CHATML.replace("message['content']", "message['content'] | trim")
    formatter = Formatter(tokenizer(), ChatTemplate(source))
    _, answer = turns(formatter, [USER, {"role": "assistant", "content": " Hi\n"}])
    assert list(answer.ids[:-1]) == formatter.answer_ids(" Hi\n")


def test_plain_text_puts_newline_and_end() -> None:
    formatter = Formatter(tokenizer())
    system = {"role": "system", "content": "Be brief"}
    assert shown(formatter, turns(formatter, [system, USER, ANSWER, USER, ANSWER])) == [
        ("Be brief\nJambo\n", False),
        ("Hello there<|im_end|>", True),
        ("Jambo\n", False),
        ("Hello there<|im_end|>", True),
    ]


def test_bos_is_put_once() -> None:
    adds = tokenizer(tokenizer__ggml__add_bos_token=True, tokenizer__ggml__bos_token_id=0)
    own = "{{ bos_token }}" + CHATML
    for template in (None, ChatTemplate(CHATML), ChatTemplate(own, bos="<|endoftext|>")):
        formatter = Formatter(adds, template)
        for ids in (formatter.prompt_ids("Hi"), turns(formatter, [USER, ANSWER])[0].ids):
            assert list(ids).count(0) == 1
            assert ids[0] == 0
        assert formatter.text_ids("Hi")[0] == 0
        assert formatter.document("Hi")[0] == Segment((0,), trained=False)


def test_a_document_is_trained_as_a_whole_and_closed() -> None:
    formatter = Formatter(tokenizer())
    assert shown(formatter, formatter.document("a <|im_start|>")) == [
        ("a <|im_start|><|im_end|>", True)
    ]
    assert 1 not in formatter.document("a <|im_start|>")[0].ids


def test_written_out_segments_read_special_tokens() -> None:
    formatter = Formatter(tokenizer())
    segments = formatter.segments([("<|im_start|>ask", False), ("answer<|im_end|>", True)])
    assert segments[0].ids[0] == 1
    assert segments[1].ids[-1] == 2


def test_a_conversation_without_an_answer_is_refused() -> None:
    with pytest.raises(InputError, match="no assistant turn"):
        Formatter(tokenizer()).samples([USER])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ raise_exception('only two roles') }}", "user.*only two roles"),
        ("{{ 'a' * 100000000 }}", "longer than 16 MiB"),
        ("{{ 9 ** 9 ** 9 }}", "may not compute"),
        ("{% for i in range(90000) %}{{ 'a' * 9000 }}{% endfor %}", "longer than 16 MiB"),
        ("{{ messages.__class__.__mro__ }}", "unsafe|not"),
        ("{{ messages[7].content.x }}", "undefined|no element"),
        ("{{ '{x}'.format() }}", "refuses"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
    ],
)
def test_a_template_may_not_do_harm(source: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        ChatTemplate(source).render([USER])


def test_a_broken_template_is_refused_with_its_line() -> None:
    with pytest.raises(InputError, match="line 2"):
        ChatTemplate("a\n{% for %}")


def test_the_date_is_always_the_same() -> None:
    assert ChatTemplate("{{ strftime_now('%d %b %Y') }}").render([USER]) == "26 Jul 2024"


def test_json_is_plain() -> None:
    assert ChatTemplate("{{ messages | tojson }}").render([{"role": "user", "content": "<é>"}]) == (
        '[{"role": "user", "content": "<é>"}]'
    )


def test_the_identity_covers_the_template() -> None:
    ours = tokenizer()
    templates = [
        None,
        ChatTemplate(CHATML),
        ChatTemplate(SMOLLM2),
        ChatTemplate(CHATML, bos="x"),
        ChatTemplate(CHATML, eos="x"),
    ]
    assert len({Formatter(ours, template).identity for template in templates}) == 5


def test_a_call_of_tools_after_an_opened_thought_closes_it() -> None:
    # NVIDIA Nemotron Nano 2 and Cohere's MoE write a call without the thought of their prompt.
    call = "'<call>' + m.tool_calls[0].function.name"
    source = (
        "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}"
        f"{{{{ '<|im_start|>' + m.role + '\n' + ({call} if m.tool_calls else "
        "('<think>\n\n</think>\n\n' if m.role == 'assistant' else '') + m.content) "
        "+ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
    )
    formatter = formatter_of(source)
    sequences = formatter.samples(CALLING, TOOLS)
    trained = [formatter.tokenizer.decode(answer) for _, answer in answers(sequences)]
    assert trained == [
        "\n</think>\n\n<call>weather<|im_end|>",
        "\n</think>\n\nIt is sunny.<|im_end|>",
    ]
