"""Damage: one file's content to another that is a little wrong.

Bytes are cut, moved and overwritten; JSON values, GGUF key-values and templates are changed so that
the result is still well-formed, because a reader refuses most damaged bytes at its first step.
"""

from __future__ import annotations

import copy
import json
import math
import random
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from m2m.formats.gguf import GGUFFile, GGUFValue, GGUFValueType, plan_gguf
from m2m.formats.gguf_header import GGUFTensorSpec

ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 255, 2**31 - 1, 2**31, 2**32 - 1, 2**63, -(2**63), 10**40,
    0.0, -0.0, 0.5, 1e-320, 1e308, -1e308, float("inf"), float("nan"), "", " ", "0", "x", "é\ud800",
    "../../../etc/passwd", "/etc/passwd", "C:\\x", "..", "\0", "x" * 5000, "%s%n", "{{ 7 * 7 }}",
    "{% for a in range(99999999) %}x{% endfor %}", "llama", "gpt2", "t5", "BPE", "linear",
    [], {}, [[]], [None], [1, 2], ["a", "a"], {"a": {}}, [0] * 1000, {"type": "Sequence"},
]  # fmt: skip
WORDS = [
    b"\0", b"\xff", b"\x80", b"\r\n", b"\xef\xbb\xbf", b"\xff\xfe", b'"', b"{", b"[" * 200, b",",
    b"]]", b"9" * 400, b"1e999", b"NaN", b"\\u0000", b"\\ud800", b"null", b"true", b"= [[", b"'''",
    b"1979-05-27", b"0x7f", (2**63).to_bytes(8, "little"), (2**64 - 1).to_bytes(8, "little"),
    (2**32 - 1).to_bytes(4, "little"), (2**31).to_bytes(4, "little"), bytes(8), b"\xe2\x80\xa8",
]  # fmt: skip


# Pieces of the languages that a file may be written in, by its ending.
JINJA = [
    "{{", "}}", "{%", "%}", "{%-", "-%}", "{#", "#}", "{{ messages }}", "{{ m.content }}",
    "{% for m in messages %}", "{% endfor %}", "{% if true %}", "{% elif x %}", "{% else %}",
    "{% endif %}", "{% set x = [x, x] %}", "{% set x = x + x %}", "{% macro f(a) %}",
    "{{ f(f(a)) }}", "{% endmacro %}", "{% set ns = namespace(x=1) %}", "{% break %}",
    "{% generation %}", "{% endgeneration %}", "{% filter upper %}", "{% endfilter %}",
    "{% call f() %}", "{% endcall %}", "{% raw %}", "{% endraw %}", "|tojson", "|sort", "|list",
    "|join(',')", "|replace('a','aaaa')", "|string", "|length", "|groupby('role')", "|indent(99)",
    "|format(9)", "|unique", "|map('upper')", ".split('')", ".rsplit(' ')", ".strip(x)", "[::-1]",
    ".items()", "~", "*", "**", "//", "%", " in ", " not ", "'%99999999d' % 1", "'a' * 9999999",
    "'%(a)99999999s'", "9 ** 9 ** 9", "range(99999999)", "loop.index", "loop.changed(x)",
    "{% for x in x recursive %}", "loop(x)", "x.__class__", "('a','b')", "((((((", "joiner()",
    "cycler(1,2)", "dict(a=1)", "{'a': x}", "none", "1e999", "9999999999999999999",
]  # fmt: skip
YAML = [
    "&a ", "*a", "<<: *a", "!!python/object:os.system ", "!!int ", "!!binary ", "---", "...", "? ",
    "- ", ": ", "[[[[[[", "{{{{", "|\n  ", ">-\n  ", "# ", "\t", "include: task.yaml",
    "include: other.yaml", "!function x.y", "1_000", "0o17", "0x_f", "1:30:00", "2024-01-01",
    ".inf", ".nan", "~", "yes", "\u0085", "%YAML 1.2", "%TAG ! x", "'", "\"", "\"\\x41\"",
    "\"\\U0010ffff\"",
]  # fmt: skip
TOML = [
    "[[", "]]", "[base]", "[[datasets]]", "= ", "{a.b = 1}", "\"\"\"", "'\'\'", "inf", "nan", "0o7",
    "1979-05-27T07:32:00Z", "a.b.c = 1", "../", "/dev/zero", "path = ", "model = ", "weights = ",
]  # fmt: skip
TABLE = ['"', '""', ",", ";", "\t", "\r", "\n", '"\n', "\ufeff", "\x00", "\x1a", "\u2028"]
LANGUAGES = {
    ".jinja": JINJA, ".yaml": YAML + JINJA, ".toml": TOML, ".csv": TABLE, ".tsv": TABLE,
    ".txt": TABLE,
}  # fmt: skip


def damage(name: str, content: bytes, chance: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """The content of a file called `name` with some damage of a kind that suits it.

    Args:
        name: its ending says the language.
        content: valid or damaged already.
        chance: draws the damage.
        others: contents of the same kind, of which parts may be taken over.
    """
    suffix = PurePosixPath(name).suffix
    try:
        if suffix in (".json", ".jsonl", ".toml", ".yaml") and chance.random() < 0.6:
            return _damaged_text(suffix, content, chance)
        if suffix == ".gguf" and chance.random() < 0.5:
            return damaged_gguf(content, chance)
    except Exception:  # noqa: BLE001 (what is damaged already is damaged as bytes)
        return damaged(content, chance)
    if suffix in LANGUAGES and chance.random() < 0.6:
        return _with_words(content, chance, LANGUAGES[suffix])
    if others and chance.random() < 0.2:
        other = chance.choice(others)
        start, at = chance.randrange(len(other) + 1), chance.randrange(len(content) + 1)
        return content[:at] + other[start : start + chance.choice((20, 200, 2000))] + content[at:]
    return damaged(content, chance)


def _damaged_text(suffix: str, content: bytes, chance: random.Random) -> bytes:
    """JSON, which YAML may be, lines of it, or TOML, with other values."""
    text = content.decode("utf-8")
    if suffix == ".toml":
        value = damaged_json(tomllib.loads(text), chance)
        return "".join(f"{_quoted(k)} = {_toml(v)}\n" for k, v in value.items()).encode()
    if suffix != ".jsonl":
        return _json(damaged_json(json.loads(text), chance))
    rows = damaged_json([json.loads(line) for line in text.splitlines()], chance)
    return b"".join(_json(row) + b"\n" for row in (rows if isinstance(rows, list) else [rows]))


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if value is None or isinstance(value, bool):
        return str(bool(value)).lower()
    return _quoted(value) if isinstance(value, str) else str(value)


def _quoted(text: str) -> str:
    return json.dumps(text.replace("\ud800", "?")).replace("\x7f", "")


def _with_words(content: bytes, chance: random.Random, words: Sequence[str]) -> bytes:
    """Pieces of the language put in, or a piece of the text repeated or taken out."""
    out = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at, kind = chance.randrange(len(out) + 1), chance.randrange(5)
        length = chance.choice((1, 3, 10, 40))
        if kind == 0:
            del out[at : at + length]
        elif kind == 1:
            out[at:at] = out[at : at + length] * chance.choice((1, 2, 20))
        else:
            word = chance.choice(words).encode() * chance.choice((1, 1, 1, 1, 2, 50))
            out[at : at + (length if kind == 2 else 0)] = word
    return bytes(out)


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Bytes with one to four wounds, more often near the beginning, where headers are."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        size = max(1, len(out))
        near = chance.random() < 0.7
        at = chance.randrange(min(size, 4096) if near else size)
        length = chance.choice((1, 1, 4, 8, 40))
        kind = chance.randrange(7)
        if kind == 0:
            out[at : at + 1] = bytes([out[at] ^ 1 << chance.randrange(8)]) if out else b"x"
        elif kind == 1:
            out[at : at + length] = chance.randbytes(length)
        elif kind == 2:
            del out[at : at + length]
        elif kind == 3:
            out[at:at] = out[max(0, at - 64) : at] * chance.randrange(1, 4)
        elif kind == 4:
            del out[at:]
        else:
            word = chance.choice(WORDS)
            out[at : at + (len(word) if kind == 5 else 0)] = word
    return bytes(out)


def damaged_json(value: Any, chance: random.Random) -> Any:
    """A JSON value in which one to three parts are others, gone or repeated."""
    value = copy.deepcopy(value)
    for _ in range(chance.choice((1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            return chance.choice(ODD)
        holder, key = chance.choice(places)
        kind = chance.randrange(8)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif kind == 2 and isinstance(holder, dict):
            holder[str(chance.choice(ODD))] = holder.pop(key)
        elif kind == 3:
            other, place = chance.choice(places)
            holder[key] = copy.deepcopy(other[place]) if place in _keys(other) else None
        else:
            holder[key] = copy.deepcopy(chance.choice(ODD))
    return value


def _keys(holder: Any) -> Any:
    return holder if isinstance(holder, dict) else range(len(holder))


def _places(value: Any) -> Any:
    for key in list(_keys(value)) if isinstance(value, (dict, list)) else ():
        yield value, key
        # Long lists are all alike.
        if not isinstance(value, list) or key < 3:
            yield from _places(value[key])


def damaged_gguf(content: bytes, chance: random.Random) -> bytes:
    """A well-formed GGUF whose key-values or tensors are odd."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.gguf"
        path.write_bytes(content)
        file = GGUFFile(path)
        metadata = _odd_metadata(file, chance)
        specs, parts = [], []
        for tensor in file.tensors.values():
            shape = tensor.shape
            if chance.random() < 0.02:
                shape = chance.choice((shape[::-1], (1, *shape), (math.prod(shape),)))
            if chance.random() < 0.01:
                continue
            specs.append(GGUFTensorSpec(tensor.name, shape, tensor.type))
            raw = file.raw(tensor.name)
            parts.append(raw.tobytes() + bytes(-len(raw) % 32))
            del raw  # Windows deletes no file that is mapped
        del file, tensor
    if "general.alignment" in metadata:
        return damaged(content, chance)
    header, _, _ = plan_gguf(metadata, specs)
    return header + b"".join(parts)


def _odd_metadata(file: GGUFFile, chance: random.Random) -> dict[str, GGUFValue]:
    metadata, types = dict(file.metadata), list(GGUFValueType)
    types.remove(GGUFValueType.ARRAY)
    for _ in range(chance.choice((1, 1, 2, 3))):
        key = chance.choice(
            [*metadata, "split.count", "general.alignment", "tokenizer.ggml.scores"]
        )
        metadata[key] = _odd_value(metadata.get(key), chance, types)
        if chance.random() < 0.2:
            del metadata[key]
    return metadata


def _odd_value(
    old: GGUFValue | None, chance: random.Random, types: list[GGUFValueType]
) -> GGUFValue:
    if old is not None and old.item_type is not None and chance.random() < 0.7:
        items = list(old.value)
        at = chance.randrange(max(1, len(items)))
        change = chance.randrange(4)
        if change == 0:
            items = items[:at]
        elif change == 1:
            items = [*items, *items[:at]]
        elif change == 2 and items:
            items[at] = chance.choice(items)
        elif items:
            odd = ["", "x" * 300, "\0", "<0xZZ>", "a b c", " "]
            items[at] = chance.choice(odd) if isinstance(items[0], str) else type(items[0])(99)
        return GGUFValue.array(old.item_type, items)
    kind = chance.choice([old.type, *types] if old is not None and not old.item_type else types)
    if kind == GGUFValueType.STRING:
        texts = [v for v in ODD if isinstance(v, str) and "\ud800" not in v]
        return GGUFValue.string(chance.choice(texts))
    if kind in (GGUFValueType.FLOAT32, GGUFValueType.FLOAT64):
        value: Any = chance.choice([0.0, -1.0, 1e30, 1e-30, float("nan"), float("inf"), 2.0])
    elif kind == GGUFValueType.BOOL:
        value = chance.random() < 0.5
    else:
        high = {"8": 127, "16": 2**15 - 1, "32": 2**31 - 1, "64": 2**63 - 1}
        most = next(v for k, v in high.items() if kind.name.endswith(k))
        value = chance.choice([0, 1, 2, 3, 7, 64, most])
    if chance.random() < 0.1:
        return GGUFValue.array(kind, [value] * chance.choice((0, 1, 5)))
    return GGUFValue(kind, value)
