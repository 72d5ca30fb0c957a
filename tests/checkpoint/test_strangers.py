"""Folders and files that were made to take much, or to bring files of the user along."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from m2m.adapter import load_adapter
from m2m.checkpoint import import_model
from m2m.errors import InputError, LlamaError, M2MError
from m2m.formats.gguf import GGUFFile, GGUFValue, GGUFValueType
from m2m.llamacpp import guard
from m2m.opening import refuse_many
from tests.tiny import pico_gguf
from tests.tiny_folder import pico_folder

LINKS = pytest.mark.skipif(sys.platform == "win32", reason="Windows makes no links for everybody")


def changed(path: Path, **values: Any) -> None:
    """Change values of a JSON file."""
    data = json.loads(path.read_text(encoding="utf-8")) | values
    path.write_text(json.dumps(data), encoding="utf-8")


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"k" * 8193: GGUFValue.uint32(1)}, "key 29 has 8,193 bytes, m2m reads at most 8,192"),
        (
            {f"{i}{'k' * 8000}": GGUFValue.uint32(1) for i in range(3)},
            "has keys so long that llama.cpp needs minutes: 32",
        ),
        ({f"k{i}": GGUFValue.uint32(1) for i in range(5000)}, "has 5,029 key-values"),
        (
            {"x": GGUFValue.array(GGUFValueType.STRING, ["x" * 70_000, ""])},
            "value of 'x' has 70,000 bytes",
        ),
        (
            {"x": GGUFValue.array(GGUFValueType.UINT8, bytes(1 << 22))},
            "value of 'x' has 4,194,304 items",
        ),
        (
            {"general.name": GGUFValue.string("n" * 5000)},
            "value of 'general.name' has 5,000 bytes, m2m reads at most 4,096",
        ),
    ],
    ids=["key", "long keys", "keys", "text", "items", "name"],
)
def test_what_takes_llama_cpp_or_us_too_long_is_refused_before_it_is_read(
    tmp_path: Path, odd: dict[str, GGUFValue], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        GGUFFile(pico_gguf(tmp_path / "x.gguf", metadata=odd))


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"eos_token_id": GGUFValue.string("2")}, "eos_token_id is '2', expected a whole number"),
        ({"eos_token_id": GGUFValue.boolean(True)}, "eos_token_id is True, expected a whole"),
        ({"scores": GGUFValue.array(GGUFValueType.FLOAT32, [1.0])}, "cannot load this model"),
        ({"tokens": GGUFValue.array(GGUFValueType.STRING, ["a", "b"])}, "295 entries"),
    ],
)
def test_a_refusal_names_the_users_file_and_no_unfinished_one(
    tmp_path: Path, odd: dict[str, GGUFValue], said: str
) -> None:
    keys = {f"tokenizer.ggml.{name}": value for name, value in odd.items()}
    path = pico_gguf(tmp_path / "x.gguf", metadata=keys)
    with pytest.raises(M2MError, match=said) as caught:
        import_model(path, tmp_path / "m", name="m", check=guard.check_loads)
    assert caught.value.message.startswith(f"{path}: ")
    assert ".m2m-" not in caught.value.message
    assert caught.value.hint


def test_a_long_tensor_name_and_many_tensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    name = b"t" * 64
    entry = struct.pack("<Q", len(name)) + name + struct.pack("<IQIQ", 1, 1, 0, 0)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + entry + bytes(99))
    with pytest.raises(InputError, match="name of tensor 0 has 64 bytes, m2m reads at most 63"):
        GGUFFile(path)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 20_000, 0) + bytes(640_000))
    with pytest.raises(InputError, match="20,000 tensors, m2m reads at most 4,096 and 16,384"):
        GGUFFile(path)


@pytest.mark.parametrize("text", ["[" + "[]," * (1 << 21) + "0]", "[" + "0," * (1 << 22) + "0,0]"])
def test_json_is_counted_before_it_is_read(tmp_path: Path, text: str) -> None:
    refuse_many("x", "[1, 2]")
    folder = pico_folder(tmp_path / "pico")
    for name in ("config.json", "special_tokens_map.json"):
        before = (folder / name).read_bytes() if (folder / name).exists() else b"{}"
        (folder / name).write_text(f'{{"x": {text}}}', encoding="utf-8")
        with pytest.raises(InputError, match=f"{name}: has about"):
            import_model(folder, tmp_path / "m", name="m")
        (folder / name).write_bytes(before)


def test_numbers_of_thousands_of_digits_are_an_error_message(tmp_path: Path) -> None:
    folder = pico_folder(tmp_path / "pico")
    (folder / "added_tokens.json").write_text('{"a": ' + "1" * 5000 + "}", encoding="utf-8")
    with pytest.raises(InputError, match=r"added_tokens\.json: is not JSON"):
        import_model(folder, tmp_path / "m", name="m")


@LINKS
@pytest.mark.parametrize(
    "name", ["generation_config.json", "chat_template.jinja", "model.safetensors", "config.json"]
)
def test_links_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    folder, secret = pico_folder(tmp_path / "pico"), tmp_path / "secret"
    secret.write_text("{}", encoding="utf-8")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("../secret")
    with pytest.raises(InputError, match=f"has links out of the folder: {name} -> "):
        import_model(folder, tmp_path / "m", name="m")
    assert not (tmp_path / "m").exists()


@LINKS
def test_the_links_of_a_download_folder_of_hugging_face_work(tmp_path: Path) -> None:
    cache = tmp_path / "models--maker--pico"
    folder = pico_folder(cache / "snapshots" / "abc")
    (cache / "blobs").mkdir()
    for number, file in enumerate(sorted(folder.iterdir())):
        file.rename(cache / "blobs" / f"{number}")
        file.symlink_to(f"../../blobs/{number}")
    (tmp_path / "named").symlink_to(folder)
    import_model(tmp_path / "named", tmp_path / "m", name="m")
    assert not any(file.is_symlink() for file in (tmp_path / "m").iterdir())
    (tmp_path / "secret").write_text("{}", encoding="utf-8")
    (folder / "generation_config.json").symlink_to("../../../secret")
    with pytest.raises(InputError, match="links out of the folder"):
        import_model(folder, tmp_path / "m2", name="m2")


@LINKS
def test_links_out_of_an_adapter_folder_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (tmp_path / "secret").write_text("{}", encoding="utf-8")
    (folder / "adapter_config.json").symlink_to("../secret")
    (folder / "adapter_model.safetensors").write_bytes(bytes(10))
    with pytest.raises(InputError, match="links out of the folder"):
        load_adapter(folder)


def test_patterns_of_an_adapter_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    patterns = {f"q{i}": 4 for i in range(3000)}
    data = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "rank_pattern": patterns}
    (folder / "adapter_config.json").write_text(json.dumps(data), encoding="utf-8")
    (folder / "adapter_model.safetensors").write_bytes(bytes(10))
    with pytest.raises(InputError, match="rank_pattern has 3,000 patterns, m2m reads 2,048"):
        load_adapter(folder)


def test_flags_in_the_middle_of_a_pattern_are_an_error_message(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    data = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "rank_pattern": {"(?i)q": 4}}
    (folder / "adapter_config.json").write_text(json.dumps(data), encoding="utf-8")
    (folder / "adapter_model.safetensors").write_bytes(bytes(10))
    with pytest.raises(InputError, match="is not a simple pattern"):
        load_adapter(folder)


def test_end_tokens_that_are_none_are_said(tmp_path: Path) -> None:
    folder = pico_folder(tmp_path / "pico")
    changed(folder / "config.json", eos_token_id=[2, "0", 1.5, True, 99_999, -3, [2]])
    info = import_model(folder, tmp_path / "m", name="m")
    said = next(text for text in info.warnings if "eos_token_id" in text)
    assert "names '0', 1.5, True, 99999, which is not a token of the 295" in said
    config = json.loads((tmp_path / "m" / "config.json").read_text(encoding="utf-8"))
    assert "eos_token_id" not in config


def test_a_licence_of_any_text_is_kept(tmp_path: Path) -> None:
    odd = {"general.license": GGUFValue.string("MIT [/x]")}
    source = pico_gguf(tmp_path / "x.gguf", metadata=odd)
    assert import_model(source, tmp_path / "m", name="m").licence == "MIT [/x]"


@pytest.mark.skipif(sys.platform != "linux", reason="macOS ignores RLIMIT_AS, Windows has none")
def test_the_system_keeps_llama_cpp_within_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pico_gguf(tmp_path / "x.gguf")
    code = f"from m2m.llamacpp import guard; guard.{{}}; guard.main({str(path)!r})"

    def run(limit: str) -> None:
        monkeypatch.setattr(guard, "_START", code.format(limit))
        monkeypatch.setattr(guard, "_LOADED", set())  # a file is tried once in a process
        guard.check_loads(path)

    run("_CPU_SECONDS = 120")
    with pytest.raises(LlamaError, match=r"too much memory|cannot|crashes|needs"):
        run("_ADDRESSES = 1 << 20")
    with pytest.raises(LlamaError, match="computes more than 120 s"):
        limited = f"guard.limit_self(*guard._limits([{str(path)!r}]))"
        run(f"_CPU_SECONDS = 0; {limited}; any(iter(int, 1))")
