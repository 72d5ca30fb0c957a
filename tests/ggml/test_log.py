from __future__ import annotations

from m2m.ggml.log import LEVEL_CONT, LEVEL_ERROR, LEVEL_INFO, LEVEL_WARN, LlamaLog


def test_only_complaints_after_the_mark_are_told() -> None:
    log = LlamaLog()
    log.callback(LEVEL_ERROR, b"old\n", None)
    mark = log.mark()
    log.callback(LEVEL_INFO, b"chatter\n", None)
    log.callback(LEVEL_WARN, b"tensor 'x' ", None)
    log.callback(LEVEL_CONT, b"is odd\n", None)
    log.callback(LEVEL_ERROR, b"gave up\n", None)
    assert log.complaints(mark) == ["tensor 'x' is odd", "gave up"]
    assert log.complaints() == ["old", "tensor 'x' is odd", "gave up"]


def test_an_error_ends_with_the_librarys_words() -> None:
    log = LlamaLog()
    log.callback(LEVEL_ERROR, b"bad magic\n", None)
    error = log.error("model.gguf: cannot load", hint="try another")
    assert error.message == "model.gguf: cannot load\n  llama.cpp: bad magic"
    assert error.hint == "try another"


def test_old_lines_go_and_strange_bytes_do_not_raise() -> None:
    log = LlamaLog(keep=2)
    for text in (b"a", b"b", b"\xff"):
        log.callback(LEVEL_ERROR, text, None)
    log.callback(LEVEL_ERROR, None, None)
    assert log.complaints() == ["b", "\ufffd"]
