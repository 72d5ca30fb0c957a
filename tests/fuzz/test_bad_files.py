"""Bad files: those kept in `tests/field/corpus` and any bytes at all are refused in words."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m2m.adapter import load_adapter
from m2m.checkpoint.hf_source import open_folder
from m2m.dataset import load_dataset
from m2m.errors import M2MError
from m2m.evaluate.tasks import load_task
from m2m.formats.gguf import GGUFFile
from m2m.formats.journal import Journal
from m2m.formats.safetensors import SafetensorsFile
from m2m.pipeline.inputs import make_formatter
from m2m.recipe import load_recipe
from m2m.templates import parent
from tests.fuzz import targets, valid
from tests.tiny_folder import pico_folder
from tests.tokenizer.test_sandbox import ONE_SECOND

CORPUS = Path(__file__).parents[1] / "field" / "corpus"


def _with_adapter(path: Path) -> None:
    valid.adapter(path.parent)
    load_adapter(shutil.copyfile(path, path.parent / "lora" / "adapter_config.json").parent)


def _with_model(path: Path) -> None:
    folder = pico_folder(path.parent / "hf", shards=2)
    shutil.copyfile(path, folder / "model.safetensors.index.json")
    open_folder(folder)


READERS: dict[str, Callable[[Path], object]] = {
    "adapter_config": _with_adapter,
    "gguf": lambda path: make_formatter(GGUFFile(path), "chat"),
    "index": _with_model,
    "journal": lambda path: Journal(path).replay(),
    "recipe": load_recipe,
    "rows": load_dataset,
    "safetensors": SafetensorsFile,
    "target": load_task,
}
FILES = sorted(path for path in CORPUS.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(path, marks=[pytest.mark.slow] * (path.stem == "template-for-ever"))
        for path in FILES
    ],
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
def test_a_bad_file_is_refused_in_words(
    bad: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parent, "LIMITS", ONE_SECOND)
    path = Path(shutil.copyfile(bad, tmp_path / bad.name))
    (tmp_path / "a.jsonl").touch()
    with pytest.raises(M2MError) as caught:
        READERS[bad.parent.name](path)
    assert 0 < len(caught.value.message) < 8000


def test_every_kind_of_bad_file_has_its_place_in_the_corpus() -> None:
    assert {path.parent.name for path in FILES} == READERS.keys()
    assert len(FILES) > 60
    assert {
        kept for target in targets.TARGETS.values() for kept, _ in target.corpus
    } == READERS.keys()


TEXTS = st.text(st.characters(codec="utf-8"), max_size=200)
ENDINGS = [".jsonl", ".json", ".csv", ".tsv", ".txt"]
quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@quick
@given(data=st.binary(max_size=300) | TEXTS.map(str.encode), ending=st.sampled_from(ENDINGS))
def test_any_bytes_at_all_as_rows(tmp_path: Path, data: bytes, ending: str) -> None:
    path = tmp_path / f"x{ending}"
    path.write_bytes(data)
    for read in (load_dataset, load_task):
        try:
            read(path)
        except M2MError as error:
            assert path.name in error.message


@quick
@given(data=st.binary(max_size=300) | TEXTS.map(str.encode))
def test_any_bytes_at_all_as_a_recipe_or_a_journal(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(data)
    with pytest.raises(M2MError):
        load_recipe(path)
    path.write_bytes(data)
    try:
        found = Journal(path).replay()
    except M2MError:
        return
    assert all(isinstance(line, dict) for line in found)


@quick
@given(
    data=st.binary(max_size=300), magic=st.sampled_from([b"", b"GGUF\3\0\0\0", b"\x10" + bytes(7)])
)
def test_any_bytes_at_all_as_weights(tmp_path: Path, data: bytes, magic: bytes) -> None:
    path = tmp_path / "x.bin"
    path.unlink(missing_ok=True)
    path.write_bytes(magic + data)
    for read in (GGUFFile, SafetensorsFile):
        try:
            read(path)
        except M2MError as error:
            assert path.name in error.message
