"""The child process that renders strangers' templates: the system ends it, m2m says why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from m2m.errors import InputError, Interrupted, LimitError, ResourceError
from m2m.limits import Limits
from m2m.templates import functions, parent
from m2m.tokenizer import ChatTemplate
from tests.templates import of_task
from tests.tokenizer.hostile import EITHER, MEMORY, TIME

USER = {"role": "user", "content": "Jambo"}
EVERY_TIME = {"list times a number", "strip, quadratic"}
IN_CI = {
    *("parts of split, kept", "20,000 elif", "modulo of long integers", "sort of long values"),
    *("1 MB of names", "% with a width after nested parentheses"),
}
unix = pytest.mark.skipif(sys.platform == "win32", reason="limits of Unix")


def cases(*tables: dict[str, str]) -> list[Any]:
    """Two cases always, some among the slow tests, the others in the soak."""

    def marks(name: str) -> Any:
        if name in EVERY_TIME:
            return ()
        return pytest.mark.slow if name in IN_CI else pytest.mark.soak

    return [
        pytest.param(source, id=name, marks=marks(name))
        for table in tables
        for name, source in table.items()
    ]


@pytest.fixture
def one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "LIMITS", Limits(cpu=1))


@pytest.fixture
def process() -> Iterator[parent.Process]:
    """The child that is running now."""
    ChatTemplate("a")
    found = parent.RENDERER._process
    assert found is not None
    yield found


def render(source: str, file: str = "") -> str:
    return ChatTemplate(source, file=file).render([USER])


@unix
@pytest.mark.skipif(sys.platform == "darwin", reason="macOS ignores RLIMIT_AS")
@pytest.mark.parametrize("source", cases(MEMORY))
def test_the_system_bounds_the_memory_of_a_template(source: str) -> None:
    with pytest.raises(LimitError, match=r"^a\.gguf: the chat template needs more than 512 MiB"):
        render(source, "a.gguf")
    assert render("{{ messages[0].content }}") == "Jambo"


@unix
@pytest.mark.parametrize("source", cases(TIME))
@pytest.mark.usefixtures("one_second")
def test_the_system_bounds_the_processor_time_of_a_template(source: str) -> None:
    with pytest.raises(LimitError, match=r"^a\.gguf: the chat .* 1 seconds of processor time"):
        render(source, "a.gguf")
    assert render("{{ messages[0].content }}") == "Jambo"


@unix
@pytest.mark.parametrize("source", cases(EITHER))
@pytest.mark.usefixtures("one_second")
def test_one_of_the_limits_ends_a_template(source: str) -> None:
    with pytest.raises(LimitError, match="needs more than"):
        render(source)


@unix
def test_the_clock_ends_what_the_system_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    # On Windows this is the only limit of time, and here the first one met.
    monkeypatch.setattr(parent, "LIMITS", Limits(cpu=600, wall=0))
    with pytest.raises(ResourceError, match="no answer within 0 seconds"):
        render(TIME["strip, quadratic"])


@unix
def test_the_parent_ends_a_large_child_if_the_system_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As on macOS: the child has room, and the parent looks.
    monkeypatch.setattr(parent, "watches_memory", lambda: True)
    monkeypatch.setattr(parent, "LIMITS", Limits())
    template = ChatTemplate("{{ messages[0].content }}" + TIME["count in a loop"])
    running = parent.RENDERER._process
    assert running is not None
    running.limits = Limits(memory=2**20)
    monkeypatch.setattr(parent, "LIMITS", running.limits)
    with pytest.raises(LimitError, match="MiB of memory"):
        template.render([USER])


@unix
@pytest.mark.usefixtures("one_second")
def test_processor_time_is_counted_for_each_request() -> None:
    busy = ChatTemplate(TIME["count in a loop"].replace("90000", "80"))
    for _ in range(6):  # a third of a second each
        assert busy.render([USER]) == ""


@unix
def test_a_child_that_somebody_killed_is_replaced(process: parent.Process) -> None:
    template = ChatTemplate("{{ messages[0].content }}")
    os.kill(process._process.pid, signal.SIGKILL)
    assert template.render([USER]) == "Jambo"
    assert parent.RENDERER._process is not process


@unix
def test_a_template_is_not_blamed_for_a_child_that_is_killed_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    template = ChatTemplate("{{ messages[0].content }}")
    ask = parent.Process.ask

    def killed_first(self: parent.Process, message: bytes) -> bytes:
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        return ask(self, message)

    with monkeypatch.context() as patch:
        patch.setattr(parent.Process, "ask", killed_first)
        with pytest.raises(ResourceError, match=r"ended twice without a message \(signal 9"):
            template.render([USER])
    assert template.render([USER]) == "Jambo"


@unix
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "darwin", reason="macOS ignores RLIMIT_AS")
def test_a_template_is_not_refused_for_what_others_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "LIMITS", Limits(memory=128 * 2**20))
    others = [ChatTemplate(f"{{# #}}{i}" + "x" * 1_000_000) for i in range(40)]
    first = parent.RENDERER._process
    assert render("{{ (messages[0].content * 14000000) | length }}") == "70000000"
    assert parent.RENDERER._process is not first
    assert others[3].render([]).startswith("3x")


@unix
def test_a_child_that_is_stopped_while_it_starts_stops_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask = parent.Process.ask

    def stopped_first(self: parent.Process, message: bytes) -> bytes:
        self._process.terminate()
        return ask(self, message)

    template = ChatTemplate("{{ messages[0].content }}")
    parent.RENDERER.close()
    with monkeypatch.context() as patch:
        patch.setattr(parent, "_START", "import time; time.sleep(60)")
        patch.setattr(parent.Process, "ask", stopped_first)
        with pytest.raises(Interrupted):
            template.render([USER])
    assert template.render([USER]) == "Jambo"


def test_an_interrupt_ends_the_child_and_the_next_request_gets_its_own_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    template = ChatTemplate("{{ messages[0].content }}")
    read = parent._read

    def interrupted(*args: Any) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(parent, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        template.render([{"content": "first"}])
    monkeypatch.setattr(parent, "_read", read)
    assert template.render([{"content": "second"}]) == "second"


@unix
@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM"])
def test_the_child_leaves_signals_of_a_group_to_its_parent(
    sent: str, process: parent.Process
) -> None:
    os.kill(process._process.pid, getattr(signal, sent))
    assert render("{{ messages[0].content }}") == "Jambo"
    assert parent.RENDERER._process is process


@unix
@pytest.mark.parametrize("sent", ["SIGKILL", "SIGINT"])
def test_no_child_outlives_its_parent(sent: str) -> None:
    program = (
        "import signal, time; from m2m.templates import parent; from m2m.tokenizer import "
        "ChatTemplate; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "ChatTemplate('a'); print(parent.RENDERER._process._process.pid, flush=True);"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        os.kill(process.pid, getattr(signal, sent))
        process.wait()
    for _ in range(200):
        if not _lives(child):
            return
        time.sleep(0.05)
    raise AssertionError("the child is still there")


def _lives(process: int) -> bool:
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False
    ).stdout
    return bool(state.strip()) and not state.startswith("Z")


@unix
def test_a_forked_process_gets_its_own_answers() -> None:
    program = (
        "import os; from m2m.tokenizer import ChatTemplate;"
        "t = ChatTemplate('{{ messages[0].content }}'); fork = os.fork();"
        "me = 'a' if fork else 'b';"
        "wrong = [i for i in range(300) if t.render([{'content': f'{me}{i}'}]) != f'{me}{i}'];"
        "code = os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]) if fork else 0;"
        "raise SystemExit(len(wrong) + code)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], check=False)
    assert done.returncode == 0


def test_a_process_without_threads_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    parent.RENDERER.close()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ResourceError, match=r"cannot start the process .*: can't start new"):
            ChatTemplate("a")
    assert ChatTemplate("a").render([]) == "a"


@pytest.mark.parametrize(
    "source",
    ["{{ cycler() }}", "{{ 1e999 | int }}", "{{ ('f' * 9999) | int(0, 16) }}"],
    ids=["RuntimeError", "OverflowError", "a long number"],
)
def test_whatever_a_template_raises_is_an_error_of_the_template(source: str) -> None:
    ChatTemplate("a")
    running = parent.RENDERER._process
    with pytest.raises(InputError, match="the model's chat template "):
        render(source)
    assert parent.RENDERER._process is running


def test_messages_of_templates_are_cut() -> None:
    with pytest.raises(InputError) as caught:
        render("{{ raise_exception('a' * 9000000) }}")
    assert len(caught.value.message) < 700


def test_a_text_is_no_longer_than_its_template_and_values_explain() -> None:
    source = "{{ 'a' * 200000 }}{{ messages[0].content * 10 }}"
    assert len(ChatTemplate(source).render([{"content": "b" * 100_000}])) == 1_200_000
    assert len(ChatTemplate("a" * 900_000).render([])) == 900_000
    with pytest.raises(InputError, match=r"it writes 300,000 characters, expected at most 26"):
        render("{{ 'a' * 300000 }}")


def test_threads_get_their_own_answers() -> None:
    template, wrong = ChatTemplate("{{ messages[0].content }}"), []

    def ask(name: str) -> None:
        for i in range(100):
            if template.render([{"content": f"{name}{i}"}]) != f"{name}{i}":
                wrong.append(name)

    threads = [threading.Thread(target=ask, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_child_imports_little() -> None:
    *command, start, _, _, _, m2m_folder, packages = parent._command(Limits())
    shown = "import m2m.templates.child; print(*sys.modules)"
    start = start.partition("from m2m")[0] + shown
    arguments = [*command, start, "", "", "", m2m_folder, packages]
    modules = subprocess.run(arguments, capture_output=True, check=True, text=True).stdout.split()
    assert "jinja2" in modules
    assert not {"numpy", "m2m.tokenizer", "ctypes", "socket", "site"} & set(modules)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_child_has_two_pipes_and_hard_limits(process: parent.Process) -> None:
    place = Path(f"/proc/{process._process.pid}")
    links = sorted(str(each.readlink()).partition(":")[0] for each in (place / "fd").iterdir())
    assert links == ["/dev/null", "pipe", "pipe"]
    names = {each.partition(b"=")[0] for each in (place / "environ").read_bytes().split(b"\0")}
    assert names <= {b"", *(name.encode() for name in parent._ENVIRONMENT)}
    limits = (place / "limits").read_text(encoding="ascii")
    wanted = {"Max address space": 512 * 2**20, "Max file size": 0, "Max core file size": 0}
    for name, value in wanted.items():
        line = next(line for line in limits.splitlines() if line.startswith(name))
        assert line[len(name) :].split()[:2] == [str(value)] * 2


@pytest.mark.parametrize(
    "value",
    [
        "a\ud800b",
        "\ud83d\ude00",
        "😀",
        "a\0b",
        0.1,
        1e300,
        -0.0,
        2**80,
        None,
        True,
        [1, [2]],
        {"a": {"b": 1}},
    ],
)
def test_values_arrive_as_they_were(value: Any) -> None:
    assert ChatTemplate("{{ messages[0].content }}").render([{"content": value}]) == str(value)
    assert of_task("{{ x }}").render({"x": value}) == str(value)


def test_a_value_that_json_cannot_hold_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100000):
        deep = [deep]
    for value in (object(), b"a", deep):
        with pytest.raises(parent.Refused, match="cannot be given this"):
            of_task("{{ x }}").render({"x": value})
    with pytest.raises(parent.Refused, match="MiB are more than a template is given"):
        of_task("{{ x }}").render({"x": "a" * (65 * 2**20)})


def literal(text: str) -> tuple[bool, Any]:
    """Whether the text that a template writes is a literal, and its value."""
    try:
        ((read,),) = functions.cells([(of_task("{{ x }}"), "literal")], [{"x": text}], "t.yaml")
    except parent.Refused as error:
        return False, str(error)
    return read


@pytest.mark.parametrize(
    "text",
    [
        "['a', 'b']",
        "[1, -2.5, None, True]",
        "{'a': ['b'], 1: 'c'}",
        "('a', 1)",
        "[('a',), {1}, b'x']",
        "7",
        "'x'",
        "1e999",
    ],
)
def test_literals_are_those_of_python(text: str) -> None:
    import ast

    (_, found), expected = literal(text), ast.literal_eval(text)
    assert str(found) == str(expected)
    assert isinstance(found, (type(expected), functions.Other))


@pytest.mark.parametrize(
    "text",
    ["", "a", "[1", "[0x" + "f" * 9999 + "]", "[a]", "__import__('os')", "[" * 300 + "]" * 300],
)
def test_what_is_no_literal_is_refused(text: str) -> None:
    assert not literal(text)[0]


@unix
@pytest.mark.slow
def test_the_system_bounds_what_a_literal_takes() -> None:
    with pytest.raises(LimitError, match=r"^t\.yaml needs more than 512 MiB"):
        literal("[" + "1," * 3_000_000 + "]")


def test_many_templates_do_not_fill_the_child() -> None:
    templates = [ChatTemplate(f"{{{{ messages[0].content }}}}{i}") for i in range(200)]
    for i in (0, 199, 0, 70, 150):
        assert templates[i].render([USER]) == f"Jambo{i}"
    process = parent.RENDERER._process
    assert process is not None
    assert len(process.kept) <= parent._KEPT


def test_no_address_of_an_object_gets_into_a_text() -> None:
    for expression in (
        "messages[0].get", "messages | map('upper')", "range", "joiner()", "cycler(1)", "namespace",
        "[messages[0].get]", "raise_exception", "messages.count",
    ):  # fmt: skip
        for form in ("{}", "({} | upper)", "({} ~ '')", "('%s' % {})", "({} | string)",
                     "([{}] | join)", "'{{}}'.format({})", "({} | replace('a', 'b'))"):  # fmt: skip
            source = "{{ " + form.format(expression) + " }}"
            with pytest.raises(InputError, match=r"may not write|JSON"):
                render(source)
