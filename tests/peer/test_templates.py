"""All real chat templates: what is trained and scored is what llama.cpp and Ollama send.

llama.cpp's collection of 70 templates and ours, each with conversations of one turn and several,
with and without a system message. References: llama.cpp's own C++ engine, llama-cpp-python's
formatter, and Go's text/template with Ollama's values. If one of them differs, the sentences of the
export must say so.
`scripts/install-templates test` gets and builds what this needs.
"""

from __future__ import annotations

import datetime
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_cpp", reason="scripts/install-templates test runs these")

from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from m2m.dataset.conversation import read_message
from m2m.dataset.tool_calls import fit_arguments
from m2m.errors import InputError
from m2m.export.go_template import go_template, read_turns
from m2m.export.modelfile import modelfile
from m2m.export.serving import added_text, as_trained, ollama_remarks, serving_remarks
from m2m.tokenizer import ChatTemplate, Formatter
from tests.templates import (
    BOS,
    CALL,
    CALLING,
    CONVERSATIONS,
    EOS,
    KINDS,
    TOOLS,
    answers,
    formatter_of,
    prompts,
    template_folder,
)

_BUILD = Path(__file__).parents[2] / "build"
_READY = template_folder() is not None and (_BUILD / "render").is_file()
pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(not _READY, reason="scripts/install-templates was not run"),
]

# Wants `functions`, which nobody sends: transformers and llama-cpp-python fail too.
NOT_UNDERSTOOD = {"fireworks-ai-llama-3-firefunction-v2"}
REAL = {
    path.stem: path.read_text() for path in sorted((template_folder() or _BUILD).glob("*.jinja"))
}
SOURCES = REAL | KINDS
OFF = {"enable_thinking": False}
THINKS = {"enable_thinking": True}
CURE = ": start them with `--reasoning off`"
DATE = {"date_string": "26 Jul 2024"}
# Templates whose tools m2m refuses, as transformers does, or that llama.cpp has its own code for.
TOOLS_DIFFER = {
    "CohereForAI-c4ai-command-r-plus-tool_use",  # wants tools of another form
    "Kimi-K2-Instruct",  # changes a list
    "Kimi-K2-Thinking",
    "google-gemma-2-2b-it",  # has no tools
    "google-gemma-4-31B-it-interleaved",  # llama.cpp joins the turns around a call
}

Messages = Sequence[Mapping[str, Any]]


class Program:
    """A program that answers a JSON line with a JSON line."""

    def __init__(self, name: str) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [_BUILD / name], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )

    def ask(self, **question: Any) -> str:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        said = json.loads(self._process.stdout.readline())
        assert "prompt" in said, said
        return str(said["prompt"])

    def close(self) -> None:
        self._process.communicate(timeout=10)


@pytest.fixture(scope="module")
def llama_cpp() -> Iterator[Program]:
    program = Program("render")
    yield program
    program.close()


@pytest.fixture(scope="module")
def ollama() -> Iterator[Program]:
    program = Program("ollama")
    yield program
    program.close()


def asked() -> Iterator[Messages]:
    for messages in CONVERSATIONS.values():
        yield from prompts(messages)


def opened(name: str) -> tuple[Formatter, ChatTemplate]:
    if name in NOT_UNDERSTOOD:
        pytest.skip("nobody sends what it wants")
    formatter = formatter_of(SOURCES[name])
    assert formatter.template is not None
    return formatter, formatter.template


def remarks(formatter: Formatter) -> str:
    return " ".join([*serving_remarks(formatter), *ollama_remarks(formatter)])


@pytest.mark.parametrize("name", SOURCES)
def test_trained_is_scored(name: str) -> None:
    formatter, _ = opened(name)
    for messages in CONVERSATIONS.values():
        trained = list(answers(formatter.samples(messages)))
        said = [m["content"] for m in messages if m["role"] == "assistant"]
        for (context, answer), before, text in zip(trained, prompts(messages), said, strict=True):
            assert context == formatter.prompt_ids(before)
            scored = [*formatter.head, *formatter.answer_ids(text)]
            assert answer[: len(scored)] == scored


@pytest.mark.parametrize("name", SOURCES)
def test_llama_cpp_sends_what_was_trained(name: str, llama_cpp: Program) -> None:
    _, template = opened(name)
    source = as_trained(SOURCES[name])

    def sent(messages: Messages, **variables: Any) -> str:
        return llama_cpp.ask(
            template=source, bos=BOS, eos=EOS, messages=messages, variables=variables
        )

    for messages in asked():
        trained = template.render(messages, add_generation_prompt=True)
        assert sent(messages) == sent(messages, **OFF) == trained


@pytest.mark.parametrize("name", SOURCES)
def test_llama_cpp_sends_the_same_on_the_day_of_training(
    name: str, llama_cpp: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = datetime.date.today()
    monkeypatch.setattr("m2m.tokenizer.template.TODAY", today)
    formatter, template = opened(name)
    words = remarks(formatter)
    if "`/completion`" in words:
        return
    variables = {"date_string": "26 Jul 2024"} | (OFF if CURE in words else {})
    for messages in asked():
        trained = template.render(messages, add_generation_prompt=True)
        ours = template.render(messages, add_generation_prompt=True, **DATE)
        sent = llama_cpp.ask(
            template=SOURCES[name], bos=BOS, eos=EOS, messages=messages, variables=variables
        )
        assert sent in (trained, ours)


@pytest.mark.parametrize("name", sorted(REAL.keys() - TOOLS_DIFFER))
def test_llama_cpp_sends_tools_as_trained(
    name: str, llama_cpp: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("m2m.tokenizer.template.TODAY", datetime.date.today())
    formatter, template = opened(name)
    off = OFF if CURE in remarks(formatter) else {}
    # llama.cpp reads arguments as text and hands them on as the template wants them.
    function = {"name": "weather", "arguments": json.dumps({"city": "Nairobi"})}
    asks = {**CALLING[1], "tool_calls": [CALL | {"function": function}]}
    texts = [CALLING[0], asks, CALLING[2]]
    talk = texts if name == "meetkai-functionary-medium-v3.2" else CALLING
    variables = THINKS if "`/completion`" in remarks(formatter) else off
    for end in (1, 3):
        sent = llama_cpp.ask(
            template=SOURCES[name],
            bos=BOS,
            eos=EOS,
            messages=texts[:end],
            variables=variables | DATE,
            tools=TOOLS,
        )
        assert sent == template.render(talk[:end], True, TOOLS, **variables, **DATE)


@pytest.mark.parametrize("name", SOURCES)
def test_llama_cpp_python_sends_what_was_trained_or_refuses(name: str) -> None:
    _, template = opened(name)
    source = as_trained(SOURCES[name])
    theirs = Jinja2ChatFormatter(template=source, eos_token=EOS, bos_token=BOS)
    for messages in asked():
        if name.startswith("StepFun"):  # llama.cpp takes white space off for it, others do not
            messages = [{**m, "content": m["content"].strip()} for m in messages]
        told = messages[0]["role"] == "system"
        try:
            sent = theirs(messages=list(messages)).prompt  # type: ignore[arg-type]
        except (TypeError, ValueError):
            # A template of tools fails with llama-cpp-python's `tools = None`.
            assert "tool_use" in name or (told and not template.takes_system)
            continue
        assert sent == template.render(messages, add_generation_prompt=True)


@pytest.mark.parametrize("name", SOURCES)
def test_ollama_sends_what_was_trained(name: str, ollama: Program) -> None:
    formatter, template = opened(name)
    added, words = added_text(formatter), remarks(formatter)
    if "Ollama cannot follow" in words:
        return
    turns = read_turns(template, added)
    for messages in asked():
        sent = ollama.ask(template=go_template(turns), messages=messages)
        assert sent == turns.write(messages)
        trained = template.render(messages, add_generation_prompt=True).removeprefix(added)
        said = "Ollama's template cannot write" in words
        spaced = any(m["content"] != m["content"].strip() for m in messages)
        assert sent == trained or said or (spaced and "removes white space" in words)


def test_ollama_joins_continues_and_gathers(ollama: Program) -> None:
    turns = read_turns(ChatTemplate(KINDS["system last"], BOS, EOS))
    text = go_template(turns)
    talk = [
        {"role": "system", "content": "A."},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
    ]
    assert ollama.ask(template=text, messages=talk) == turns.write(talk)
    twice = [talk[0], {"role": "system", "content": "B."}, talk[1], talk[1]]
    assert ollama.ask(template=text, messages=twice) == f"{BOS}[INST]A.\n\nB.\n\nb\n\nb[/INST]"


@pytest.mark.parametrize("kind", ["braces", "quotes", "plain"])
def test_ollama_reads_the_modelfile(kind: str, ollama: Program) -> None:
    # What stands between the quotes of TEMPLATE is what Ollama gets.
    added = {"braces": "{{ '{ {{ {{{ {' }}", "quotes": '"""a"', "plain": ""}[kind]
    formatter = formatter_of(f"{added}{KINDS['chatml']}{added}")
    if kind == "plain":
        formatter = Formatter(formatter.tokenizer)
    text = modelfile(Path("m.gguf"), formatter, 64, {})
    template = text.partition('TEMPLATE """')[2].partition('"""\n')[0]
    talk = CONVERSATIONS["system and turns"][:-1]
    sent = ollama.ask(template=template, messages=talk)
    if formatter.template is None:
        assert sent == "Be brief.\ncopy abc\nabc<|im_end|>and d\n"
    else:
        assert sent == formatter.template.render(talk, add_generation_prompt=True)


def test_all_but_one_real_template_are_understood() -> None:
    assert len(REAL) == 70
    for name in REAL.keys() - NOT_UNDERSTOOD:
        formatter_of(REAL[name])


@pytest.mark.parametrize("name", REAL)
def test_the_arguments_of_tool_calls_are_written_once(name: str) -> None:
    template = ChatTemplate(REAL[name], BOS, EOS)
    function = {"name": "clock", "arguments": '{"zone": "say \\"hi\\""}'}
    call = {"id": "call00001", "type": "function", "function": function}
    said = read_message({"role": "assistant", "content": None, "tool_calls": [call]}, 2)
    messages = fit_arguments([{"role": "user", "content": "ask"}, said], template)
    try:
        template.check(messages)
        text = template.render(messages)
    except InputError:
        return  # refused, with the row's line
    assert "'zone'" not in text, "as Python writes it"
    assert '\\"zone' not in text, "encoded twice"
    assert "hi" in text
