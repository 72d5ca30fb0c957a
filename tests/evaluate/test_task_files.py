"""Files that a stranger's task file or recipe names: where they may be, and read once."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from m2m.dataset import load_dataset
from m2m.errors import InputError, RecipeError
from m2m.evaluate import harness, task_files
from m2m.evaluate.harness import load_harness
from m2m.evaluate.targets import load_target
from m2m.evaluate.tasks import Task, load_task
from m2m.formats.records import rows_text, rows_text_again
from m2m.opening import Stream, Text, refuse_outside
from m2m.recipe import Target, load_recipe

ROWS = [{"q": f"question {i}", "c": ["a", "b"], "g": i % 2} for i in range(3)]
KEYS: dict[str, Any] = {
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{q}}",
    "doc_to_choice": "{{c}}",
    "doc_to_target": "g",
}
links = pytest.mark.skipif(os.name != "posix", reason="links need no rights here")


def written(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in ROWS)
    (folder / "rows.jsonl").write_text(text, encoding="utf-8")
    path = folder / "task.yaml"
    path.write_text(json.dumps(KEYS | changes), encoding="utf-8")
    return path


def data(*files: str) -> dict[str, Any]:
    return {"dataset_kwargs": {"data_files": {"test": [*files]}}}


def test_a_task_file_reads_nothing_outside_its_folder(tmp_path: Path) -> None:
    written(tmp_path / "private", include=[])
    for outside in ("../private/", f"{tmp_path.as_posix()}/private/"):
        for changes in ({"include": outside + "task.yaml"}, data(outside + "rows.jsonl")):
            path = written(tmp_path / "task", **changes)
            with pytest.raises(InputError, match="is outside") as caught:
                load_harness(path, "test")
            assert f"--data-root {tmp_path / 'private'}" in str(caught.value.hint)
            assert len(load_harness(path, "test", roots=[tmp_path / "private"]).examples) == 3


@links
def test_a_link_counts_as_the_file_that_it_names(tmp_path: Path) -> None:
    written(tmp_path / "private")
    path = written(tmp_path / "task", **data("link.jsonl"))
    (tmp_path / "task" / "link.jsonl").symlink_to(tmp_path / "private" / "rows.jsonl")
    with pytest.raises(InputError, match=r"link\.jsonl \(a link to .*private.* is outside"):
        load_harness(path, "test")
    (tmp_path / "task" / "link.jsonl").unlink()
    (tmp_path / "task" / "link.jsonl").symlink_to(tmp_path / "task" / "rows.jsonl")
    assert len(load_harness(path, "test").examples) == 3
    (tmp_path / "alias").symlink_to(tmp_path / "task")  # the user's own way to the folder
    assert len(load_harness(tmp_path / "alias" / "task.yaml", "test").examples) == 3


def test_a_name_that_climbs_out_is_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On Windows a look at `//machine/share` sends a password there.
    looked: list[str] = []
    for name in ("stat", "lstat", "readlink", "open"):
        look = getattr(os, name)

        def watched(path: Any, *args: Any, _look: Any = look, **named: Any) -> Any:
            looked.append(str(path))
            return _look(path, *args, **named)

        monkeypatch.setattr(os, name, watched)
    with pytest.raises(InputError, match="is outside"):
        refuse_outside(tmp_path / ".." / "elsewhere" / "x.jsonl", tmp_path)
    assert looked
    assert not any("elsewhere" in each for each in looked)


def test_a_data_file_of_a_module_counts_and_is_read_where_m2m_may(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    task = written(tmp_path / "set" / "task", process_docs=None)
    task.write_text(task.read_text("utf-8").replace("null", "!function utils.pick"), "utf-8")
    task.with_name("utils.py").write_text(
        "import json\nfrom pathlib import Path\n"
        "KEPT = json.load(open(Path(__file__).parent.parent / 'kept.json'))\n"
        "def pick(rows):\n    return rows.filter(lambda row: row['g'] in KEPT)\n",
        encoding="utf-8",
    )
    kept = tmp_path / "set" / "kept.json"
    kept.write_text("[0]", encoding="utf-8")
    with pytest.raises(InputError, match=r"kept\.json is outside") as caught:
        load_harness(task, "test")
    assert f"--data-root {kept.parent}" in str(caught.value.hint)
    first = load_harness(task, "test", roots=[kept.parent])
    assert [example.gold for example in first.examples] == [0, 0]
    kept.write_text("[0, 1]", encoding="utf-8")
    second = load_harness(task, "test", roots=[kept.parent])
    assert len(second.examples) == 3
    assert second.fingerprint != first.fingerprint
    kept.unlink()
    with pytest.raises(InputError, match=r"the file 'kept\.json' is not here"):
        load_harness(task, "test", roots=[kept.parent])


def test_a_zero_byte_in_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        load_harness(written(tmp_path, **data("a\0.jsonl")), "test")


def test_files_that_include_each_other_are_counted_in_all(tmp_path: Path) -> None:
    everything = [f"part{number}.yaml" for number in range(9)]
    for number, name in enumerate(everything):
        text = json.dumps({"include": everything[number + 1 :] * 200})
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="more than 64 includes"):
        load_harness(written(tmp_path, include=everything), "test")
    (tmp_path / "part0.yaml").write_text('{"include": "./task.yaml"}', encoding="utf-8")
    with pytest.raises(InputError, match="includes itself"):
        load_harness(written(tmp_path, include="part0.yaml"), "test")


def test_a_file_that_is_included_twice_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = task_files.read_once

    def once(path: Path, limit: int) -> Text:
        read.append(path.name)
        return real(path, limit)

    monkeypatch.setattr(task_files, "read_once", once)
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("include: common.yaml\n", encoding="utf-8")
    (tmp_path / "common.yaml").write_text("description: D\n", encoding="utf-8")
    path = written(tmp_path, include=["a.yaml", "./b.yaml", "./a.yaml"])
    assert load_harness(path, "test").form.instruction == "D"
    assert sorted(read) == ["a.yaml", "b.yaml", "common.yaml", "task.yaml"]


def test_all_task_files_together_are_small(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_bytes(b"#" * (130 << 10) + b"\n{}\n")
    with pytest.raises(InputError, match=r"b\.yaml: has 133,124 bytes, m2m reads at most 128,"):
        load_harness(written(tmp_path, include=["a.yaml", "b.yaml"]), "test")


def test_what_templates_write_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = written(tmp_path, doc_to_text="{{ 'a' * 200000 }}{{ q }}")
    assert len(load_harness(long, "test").examples) == 3
    monkeypatch.setattr(harness, "_MOST_TEXT", 400_000)
    with pytest.raises(InputError, match=r"rows\.jsonl:2: up to this row the templates of .*task"):
        load_harness(long, "test")


def test_data_files_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"names .*rows\.jsonl twice"):
        load_harness(written(tmp_path, **data("rows.jsonl", "./rows.jsonl")), "test")
    with pytest.raises(InputError, match="a split has 2000 files, at most 1000"):
        load_harness(written(tmp_path, **data(*["rows.jsonl"] * 2000)), "test")
    size = (tmp_path / "rows.jsonl").stat().st_size
    monkeypatch.setattr(task_files, "ROWS", 2 * size - 1)
    (tmp_path / "more.jsonl").write_bytes((tmp_path / "rows.jsonl").read_bytes())
    with pytest.raises(InputError, match=rf"more\.jsonl: has {size} bytes.* at most {size - 1}"):
        load_harness(written(tmp_path, **data("rows.jsonl", "more.jsonl")), "test")


def recipe(folder: Path, **paths: str) -> Path:
    folder.mkdir(exist_ok=True)
    given = {"path": "rows.jsonl", "dev": "rows.jsonl"} | paths
    replay = f"[train]\nreplay_from = '{given['replay_from']}'\n" if "replay_from" in given else ""
    shots = "".join(f"{n} = '{given[n]}'\n" for n in ("shots_from", "data_root") if n in given)
    test = f"test = '{given['test']}'\n" if "test" in given else ""
    path = folder / "recipe.toml"
    path.write_text(
        f"[base]\nmodel = 'x'\n{replay}[[datasets]]\nname = 'd'\npath = '{given['path']}'\n"
        f"[[targets]]\nname = 't'\ndev = '{given['dev']}'\n{test}{shots}",
        encoding="utf-8",
    )
    (folder / "rows.jsonl").write_text("{}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("field", ["path", "dev", "test", "shots_from", "data_root", "replay_from"])
def test_a_recipe_names_nothing_outside_its_folder_unless_the_user_does(
    field: str, tmp_path: Path
) -> None:
    private = tmp_path / "private"
    private.mkdir()
    (private / "rows.jsonl").write_text("{}\n", encoding="utf-8")
    for name in ("../private/rows.jsonl", str(private / "rows.jsonl")):
        path = recipe(tmp_path / "recipe", **{field: name})
        with pytest.raises(RecipeError, match=f"{field}: .* is outside .*--data-root") as caught:
            load_recipe(path)
        assert f"--data-root {private}" in caught.value.message
        assert load_recipe(path, [private]).roots == (private,)


def test_a_target_of_a_recipe_gets_the_folders_that_the_user_named(tmp_path: Path) -> None:
    written(tmp_path / "private")
    path = written(tmp_path / "task", **data("../private/rows.jsonl"))
    target = Target("t", path, path)
    with pytest.raises(InputError, match="is outside"):
        load_target(target, "test")
    assert len(load_target(target, "test", [tmp_path / "private"]).examples) == 3


def test_a_target_of_a_recipe_names_the_folder_of_its_data(tmp_path: Path) -> None:
    path = written(tmp_path / "task", dataset_path="org/set", dataset_kwargs=None)
    home = tmp_path / "sets" / "org" / "set"
    home.mkdir(parents=True)
    (home / "test.jsonl").write_bytes((path.parent / "rows.jsonl").read_bytes())
    target = Target("t", path, path, data_root=tmp_path / "sets")
    assert len(load_target(target, "test").examples) == 3
    rows = Target("t", path.parent / "rows.jsonl", data_root=tmp_path / "sets")
    with pytest.raises(InputError, match="is rows, and has no data elsewhere, and data_root is"):
        load_target(rows, "dev")


def test_names_that_only_look_outside_are_inside(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    refuse_outside(tmp_path / "in" / ".." / "rows", tmp_path)
    refuse_outside(tmp_path / "in" / "...rows", tmp_path / "in")
    with pytest.raises(InputError, match="is outside"):
        refuse_outside(tmp_path / "inside" / "rows", tmp_path / "in")


def swapping(monkeypatch: pytest.MonkeyPatch, path: Path, text: str) -> None:
    """Another program writes the file as soon as it was read once."""
    real = Stream.sha256

    def sha256(opened: Stream) -> str:
        digest = real(opened)
        if opened.path == path:
            path.write_text(text, encoding="utf-8")
        return digest

    monkeypatch.setattr(Stream, "sha256", sha256)


def assert_of_one_reading(task: Task, before: bytes) -> None:
    assert task.fingerprint == hashlib.sha256(before).hexdigest()
    assert task.examples[0].prompt == "old 0"


def test_examples_and_their_fingerprint_are_of_one_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(word: str) -> str:
        made = [{"question": f"{word} {i}", "choices": ["a", "b"], "answer": 0} for i in (0, 1)]
        return "".join(json.dumps(row) + "\n" for row in made)

    path = tmp_path / "dev.jsonl"
    path.write_text(rows("old"), encoding="utf-8")
    before = path.read_bytes()
    swapping(monkeypatch, path, rows("new"))
    assert_of_one_reading(load_task(path), before)
    path.write_bytes(before)
    target = Target("t", path, path, shots=1)
    assert_of_one_reading(task := load_target(target, "dev"), before)
    assert all(each.prompt.startswith("old") for each in task.form.pool)


def test_a_task_files_rows_and_their_fingerprint_are_of_one_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, num_fewshot=1, fewshot_split="test")
    old, rows = load_harness(path, "test"), tmp_path / "rows.jsonl"
    swapping(monkeypatch, rows, rows.read_text(encoding="utf-8").replace("question", "new"))
    again = load_harness(path, "test")
    assert (again.fingerprint, again.examples) == (old.fingerprint, old.examples)


def test_a_dataset_that_is_read_again_must_be_the_same(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n', encoding="utf-8")
    file = rows_text(path)
    assert load_dataset(rows_text_again(path, file.sha256)) == load_dataset(file)
    path.write_text('{"prompt": "a", "completion": "c"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="changed since this command began"):
        rows_text_again(path, file.sha256)


def test_fingerprints_are_those_of_older_journals(tmp_path: Path) -> None:
    """Written down with the m2m that read its files twice."""
    path = written(tmp_path, description="D", include="base.yaml")
    (tmp_path / "base.yaml").write_text("target_delimiter: ' '\n", encoding="utf-8")
    assert load_harness(path, "test").fingerprint == (
        "79abc7cd70b40581644b2ed6bbcd8150716a6c3016c02c400aebcaf49ad0b9e5"
    )


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "seen = []\ndef f(doc):\n    seen.append(1)\n    return str(len(seen))\n",
            "u: seen changes",
        ),
        ("def f(doc, acc=[]):\n    acc.append(1)\n    return str(len(acc))\n", "u: acc changes"),
        ("n = {'a': 1}\ndef f(doc):\n    n['a'] += 1\n    return str(n['a'])\n", "u: n changes"),
        (
            "known = ['a']\ndef f(doc, more=[]):\n    made = [*known]\n    made.append(1)\n"
            "    return f'asked {len(made + more)}'\n",
            "",
        ),
    ],
)
def test_a_function_that_remembers_rows_is_refused_by_name(
    tmp_path: Path, code: str, words: str
) -> None:
    # lm-eval 0.4.13 asks "2 ..." for the first row: it had called the function before.
    path = written(tmp_path, doc_to_text=None)
    path.write_text(path.read_text("utf-8").replace("null", "!function u.f"), "utf-8")
    (tmp_path / "u.py").write_text(code, encoding="utf-8")
    if not words:
        assert [e.prompt for e in load_harness(path, "test").examples] == ["asked 2"] * 3
        return
    with pytest.raises(InputError, match=words):
        load_harness(path, "test")
