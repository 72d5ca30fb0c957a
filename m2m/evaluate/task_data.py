"""Find and read the rows of a task of lm-evaluation-harness, as `datasets.load_dataset` names them.

`dataset_path` is a kind of file (`json`, `csv`, ...) with `data_files`, or the name of a set on the
Hugging Face hub. Nothing is fetched: m2m looks for the set in the folders that the user named
(`--data-root`) and next to the task file.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2m.errors import InputError
from m2m.evaluate.task_files import TaskFiles, names
from m2m.formats.archives import has_rows
from m2m.formats.records import read_records
from m2m.formats.table_types import typed

LOADERS = ("json", "csv", "parquet", "text", "arrow")
# Options of `load_dataset` that do not change the rows.
_HARMLESS = {"trust_remote_code", "streaming", "verification_mode", "revision", "download_mode"}
_HARMLESS |= {"num_proc", "save_infos", "keep_in_memory", "token"}
_TABLES = {"sep", "delimiter", "header", "column_names", "names"}
# Names of splits in files, by the split that they mean (datasets/data_files.py).
_ALIASES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SHARD = re.compile(r"-\d{5}-of-\d{5}(-[0-9a-f]{16})?$")
_SIGNS = "-_. /"
_DEPTH = 4
_MOST_FILES = 10_000


@dataclass(frozen=True)
class Rows:
    """The rows of one split.

    Attributes:
        fields: of each row; all rows have the same ones.
        lines: of each row in its file.
        files: that they come from.
        marks: hashes of these files.
    """

    fields: Sequence[dict[str, Any]]
    lines: Sequence[int]
    files: tuple[Path, ...]
    marks: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        """Return the names of the fields."""
        return list(self.fields[0]) if self.fields else []

    @property
    def name(self) -> str:
        """Return the files in words."""
        return ", ".join(map(str, self.files[:3])) + (" ..." if len(self.files) > 3 else "")


class TaskData:
    """Reads the splits of one task, each once.

    Args:
        files: reads the files.
        keys: of the task file.
        roots: folders in which sets may be.
    """

    def __init__(self, files: TaskFiles, keys: Mapping[str, Any], roots: Sequence[Path]) -> None:
        self._reader, self._keys = files, keys
        self._path = files.path
        self._folders = [*roots, files.path.parent]
        self._splits: dict[str, Rows] = {}
        self._found: dict[str, list[Path]] | None = None
        options = keys.get("dataset_kwargs") or {}
        self._options = {k: v for k, v in options.items() if k not in _HARMLESS}
        others = self._options.keys() - _TABLES - {"data_files", "data_dir", "name"}
        if others:
            raise InputError(
                f"{self._path}: dataset_kwargs has {', '.join(sorted(map(str, others)))}",
                "m2m reads data_files, data_dir and the form of tables: leave it out in a child "
                "file, and give it rows that are ready",
            )

    def split(self, name: str) -> Rows:
        """Return the rows of a split.

        Raises:
            InputError: the set or the split is missing, or unreadable.
        """
        if name not in self._splits:
            self._splits[name] = self._read(self._files_of(name))
        return self._splits[name]

    def _files_of(self, split: str) -> list[Path]:
        given = self._options.get("data_files")
        if given:
            splits = given if isinstance(given, dict) else {"train": given}
            if split not in splits:
                raise InputError(
                    f"{self._path}: the split {split!r} is used, "
                    f"data_files has {', '.join(map(str, splits))}",
                    "name a split that has a file",
                )
            found = names(splits[split], f"data_files of {split!r:.40}", self._path)
            return [self._named(name) for name in found]
        if self._keys["dataset_path"] in LOADERS:
            raise InputError(
                f"{self._path}: dataset_path is {self._keys['dataset_path']} without data_files",
                "name local files: dataset_kwargs: {data_files: {test: test.jsonl}}",
            )
        return self._set_files(split)

    def _named(self, name: str) -> Path:
        """Return a file of `data_files`; one of the hub is looked for in a local folder."""
        if name.startswith("hf://datasets/"):
            owner, set_name, rest = [*name.split("/")[3:5], "/".join(name.split("/")[5:])]
            return self._folder(f"{owner}/{set_name.split('@')[0]}") / rest
        if "://" in name:
            raise InputError(
                f"{self._path}: data_files names {name:.100}", "get the file, and name it here"
            )
        if self._keys["dataset_path"] in LOADERS:
            return self._path.parent / name
        return self._folder(self._keys["dataset_path"]) / name

    def _folder(self, name: str) -> Path:
        """Return the folder of a set of the hub.

        Raises:
            InputError: there is none; the message names the folder that m2m expects.
        """
        flat = name.replace("/", "--")
        for root in self._folders:
            for place in (root / name, root / flat, root / name.rpartition("/")[2]):
                if place.is_dir():
                    return place
            saved = sorted((root / f"datasets--{flat}" / "snapshots").glob("*"))
            if saved:
                return saved[-1]
        where = self._folders[0] / name
        raise InputError(
            f"{self._path}: the set {name} is not on this machine: {where} is missing",
            f"on a machine with internet: `hf download {name} --repo-type dataset --local-dir "
            f"{name}`; copy the folder, and name the folder above it with `--data-root`",
        )

    def _set_files(self, split: str) -> list[Path]:
        """Return the files of a split of a set of the hub, by configuration and split."""
        folder = self._folder(self._keys["dataset_path"])
        if self._options.get("data_dir"):
            folder /= str(self._options["data_dir"])
        config = str(self._keys.get("dataset_name") or self._options.get("name") or "")
        files = [
            path
            for depth in range(1, _DEPTH + 1)
            for path in sorted(folder.glob("/".join("*" * depth)))[:_MOST_FILES]
            if has_rows(path.name)
            and path.name not in ("dataset_infos.json", "state.json")
            and path.name not in ("dataset_info.json", "dataset_dict.json")
        ]
        # A file with the split's own name goes before one with another name for it.
        words = next((alias for alias in _ALIASES.values() if split in alias), ())
        chosen: list[Path] = []
        for given in [config] if config not in ("", "default") else [config, ""]:
            for meant in ((split,), words):
                fitting = [p for p in files if _fits(p.relative_to(folder), given, meant)]
                chosen = chosen or fitting
        if not chosen and split == "train" and len(files) == 1:
            chosen = files
        if not chosen:
            expected = folder / (f"{config}/" if config else "") / f"{split}.jsonl"
            shown = ", ".join(p.relative_to(folder).as_posix() for p in files[:4]) or "no rows"
            raise InputError(
                f"{self._path}: {folder} has {shown}, and no file of the split {split!r}"
                + (f" of {config!r}" if config else ""),
                f"put it there, for example as {expected}",
            )
        return chosen

    def _read(self, files: Sequence[Path]) -> Rows:
        rows: list[dict[str, Any]] = []
        lines, marks = [], []
        self._reader.split_once(files)
        for file in files:
            if file.suffix.lower() in (".csv", ".tsv"):
                text = self._reader.text(file)
                table = self._table(file, text.text)
                rows += [row for row, _ in table]
                lines += [line for _, line in table]
                marks.append(text.sha256)
                continue
            read = self._reader.rows(file)
            records = read_records(read)
            rows += [record.fields for record in records]
            lines += [record.line for record in records]
            marks.append(read.sha256)
        columns = dict.fromkeys(name for row in rows for name in row)
        if any(len(row) != len(columns) for row in rows):
            rows = [{name: row.get(name) for name in columns} for row in rows]
        if not rows:
            shown = ", ".join(map(str, files[:3]))
            raise InputError(f"{shown}: no rows", "a task needs an example")
        return Rows(rows, lines, tuple(files), tuple(marks))

    def _table(self, file: Path, text: str) -> list[tuple[dict[str, Any], int]]:
        """Return the rows of a CSV file as pandas reads them."""
        options = self._options
        given = options.get("column_names") or options.get("names")
        default = "\t" if file.suffix.lower() == ".tsv" else ","
        sign = options.get("delimiter") or options.get("sep") or default
        if not isinstance(sign, str) or len(sign) != 1:
            raise InputError(f"{self._path}: the delimiter is {sign!r:.20}", "write one sign")
        reader = csv.reader(text.splitlines(keepends=True), delimiter=sign)
        cells, before = list[tuple[list[str], int]](), 0
        try:
            for row in reader:
                if row and row != [""]:
                    cells.append((row, before + 1))
                before = reader.line_num
        except csv.Error as error:
            raise InputError(f"{file}:{reader.line_num}: {error}", "correct the file") from None
        if not cells:
            return []
        no_header = "header" in options and options["header"] is None
        header = [*map(str, given)] if given else cells[0][0]
        if no_header and not given:
            header = [*map(str, range(len(cells[0][0])))]
        body = cells if no_header or (given and "header" not in options) else cells[1:]
        if wrong := next((line for row, line in body if len(row) > len(header)), None):
            raise InputError(f"{file}:{wrong}: more cells than the {len(header)} columns")
        columns = [[row[i] if i < len(row) else "" for row, _ in body] for i in range(len(header))]
        made = [typed(column) for column in columns]
        rows = [dict(zip(header, values, strict=True)) for values in zip(*made, strict=True)]
        return [(row, line) for row, (_, line) in zip(rows, body, strict=True)]


def _fits(place: Path, config: str, words: Sequence[str]) -> bool:
    """Return whether a file is of a configuration and has one of these names of a split."""
    stem = place.name
    while Path(stem).suffix and len(Path(stem).suffix) <= 8:
        stem = Path(stem).stem
    stem = _SHARD.sub("", stem)
    above = [part for part in place.parts[:-1] if part != "data"]
    if config:
        if config in above:
            above.remove(config)
        elif stem.startswith(config) and stem[len(config) :][:1] in (*_SIGNS, ""):
            stem = stem[len(config) :].strip(_SIGNS)
        elif stem.endswith(config) and stem[: -len(config)][-1:] in (*_SIGNS, ""):
            stem = stem[: -len(config)].strip(_SIGNS)
        else:
            return False
    if any(part in words for part in above):
        return True
    if stem in words or (stem == "" and "train" in words and not above):
        return True
    parts = re.split(r"[-_. ]", stem)
    return not above and bool(parts) and (parts[0] in words or parts[-1] in words)
