"""Find and read the rows of a task of lm-evaluation-harness, as `datasets.load_dataset` names them.

`dataset_path` is a kind of file (`json`, `csv`, ...) with `data_files`, or the name of a set on the
Hugging Face hub. Nothing is fetched: m2m looks for the set in the folders that the user named
(`--data-root`) and next to the task file.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from m2m.errors import InputError
from m2m.evaluate.json_types import nulled, typed_rows
from m2m.evaluate.set_features import cast
from m2m.evaluate.task_files import TaskFiles, names
from m2m.evaluate.task_sets import FORM, SplitFiles, files_of, folder_of, matching
from m2m.formats.records import Record, read_records
from m2m.formats.table_types import column_names, typed
from m2m.opening import first_bytes, universal_newlines

LOADERS = ("json", "csv", "parquet", "text", "arrow")
# Options of `load_dataset` that do not change the rows.
_HARMLESS = {"trust_remote_code", "streaming", "verification_mode", "revision", "download_mode"}
_HARMLESS |= {"num_proc", "save_infos", "keep_in_memory", "token"}


@dataclass(frozen=True)
class TaskRows:
    """The rows of one split.

    Attributes:
        fields: of each row; all rows have the same ones.
        lines: of each row in its file.
        files: that they come from.
        marks: hashes of these files.
        moments: names of JSON columns whose texts are moments.
    """

    fields: Sequence[dict[str, Any]]
    lines: Sequence[int]
    files: tuple[Path, ...]
    marks: tuple[str, ...] = ()
    moments: tuple[str, ...] = ()

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
        self._splits: dict[str, TaskRows] = {}
        options = keys.get("dataset_kwargs") or {}
        self._options = {k: v for k, v in options.items() if k not in _HARMLESS}
        others = self._options.keys() - FORM - {"data_files", "data_dir", "name"}
        if others:
            raise InputError(
                f"{self._path}: dataset_kwargs has {', '.join(sorted(map(str, others)))}",
                f"m2m reads data_files, data_dir, name and {', '.join(sorted(FORM))}: leave it out "
                "in a child file, and give it rows that are ready",
            )

    def split(self, name: str) -> TaskRows:
        """Return the rows of a split.

        Raises:
            InputError: the set or the split is missing, or unreadable.
        """
        if name not in self._splits:
            found = self._found(name)
            rows = self._read(found.paths, {**found.form, **self._options})
            fields = cast(rows.fields, found.features, rows.name)
            self._splits[name] = replace(rows, fields=fields)
        return self._splits[name]

    def files(self, split: str) -> list[Path]:
        """Return the files of a split, which are not read.

        Raises:
            InputError: the set or the split is missing.
        """
        return self._found(split).paths

    def _found(self, split: str) -> SplitFiles:
        given, loader = self._options.get("data_files"), self._keys["dataset_path"]
        patterns: list[str] = []
        if given:
            splits = given if isinstance(given, dict) else {"train": given}
            if split not in splits:
                raise InputError(
                    f"{self._path}: the split {split!r} is used, "
                    f"data_files has {', '.join(map(str, splits))}",
                    "name a split that has a file",
                )
            patterns = names(splits[split], f"data_files of {split!r:.40}", self._path)
        elif loader in LOADERS:
            raise InputError(
                f"{self._path}: dataset_path is {loader} without data_files",
                "name local files: dataset_kwargs: {data_files: {test: test.jsonl}}",
            )
        if loader in LOADERS:
            return SplitFiles([file for name in patterns for file in self._local(name)])
        folder = self._folder(loader) / str(self._options.get("data_dir") or "")
        config = str(self._keys.get("dataset_name") or self._options.get("name") or "")
        if hub := [name for name in patterns if "://" in name]:
            return SplitFiles([file for name in hub for file in self._local(name)])
        return files_of(self._reader, folder, config, split, patterns)

    def _local(self, name: str) -> list[Path]:
        """Return files of `data_files`; one of the hub is looked for in a local folder."""
        if name.startswith("hf://datasets/"):
            owner, set_name, rest = [*name.split("/")[3:5], "/".join(name.split("/")[5:])]
            return matching(self._reader, self._folder(f"{owner}/{set_name.split('@')[0]}"), rest)
        if "://" in name:
            raise InputError(
                f"{self._path}: data_files names {name:.100}", "get the file, and name it here"
            )
        return matching(self._reader, self._path.parent, name)

    def _folder(self, name: str) -> Path:
        revision = str((self._keys.get("dataset_kwargs") or {}).get("revision") or "main")
        return folder_of(self._path, name, self._folders, revision)

    def _read(self, files: Sequence[Path], form: Mapping[str, Any]) -> TaskRows:
        rows: list[dict[str, Any]] = []
        lines, marks = [], []
        self._reader.split_once(files)
        for file in files:
            if file.suffix.lower() in (".csv", ".tsv"):
                text = self._reader.text(file)
                table = self._table(file, text.text, form)
                rows += [row for row, _ in table]
                lines += [line for _, line in table]
                marks.append(text.sha256)
                continue
            in_field = "json" in file.name and form.get("field")
            read = self._reader.rows(file / str(form["field"]) if in_field else file)
            is_text = self._keys["dataset_path"] == "text" or ".txt" in file.suffixes
            records = _lines(read.text) if is_text else read_records(read)
            rows += [record.fields for record in records]
            lines += [record.line for record in records]
            marks.append(read.sha256)
        columns = [*dict.fromkeys(name for row in rows for name in row)]
        if any([*row] != columns for row in rows):
            rows = [{name: row.get(name) for name in columns} for row in rows]
        moments: list[str] = []
        if rows and all("json" in file.name for file in files):
            begins = first_bytes(files[0], 64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
            rows = nulled(rows, one_value=bool(form.get("field")) or begins == b"[")
            rows, moments = typed_rows(rows, moments=not form.get("field"))
        if not rows:
            shown = ", ".join(map(str, files[:3]))
            raise InputError(f"{shown}: no rows", "a task needs an example")
        return TaskRows(rows, lines, tuple(files), tuple(marks), tuple(moments))

    def _table(
        self, file: Path, text: str, options: Mapping[str, Any]
    ) -> list[tuple[dict[str, Any], int]]:
        """Return the rows of a CSV file as pandas reads them."""
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
        header = [*map(str, given)] if given else column_names(cells[0][0])
        if len(set(header)) < len(header):
            raise InputError(f"{self._path}: two column names are equal", "give each its own")
        if no_header and not given:
            header = [*map(str, range(len(cells[0][0])))]
        body = cells if no_header or (given and "header" not in options) else cells[1:]
        if wrong := next((line for row, line in body if len(row) > len(header)), None):
            words = f"{file}:{wrong}: more cells than the {len(header)} columns"
            raise InputError(words, "put texts with the separator in quotes, and name all columns")
        columns = [[row[i] if i < len(row) else "" for row, _ in body] for i in range(len(header))]
        made = [typed(column) for column in columns]
        rows = [dict(zip(header, values, strict=True)) for values in zip(*made, strict=True)]
        return [(row, line) for row, (_, line) in zip(rows, body, strict=True)]


def _lines(text: str) -> list[Record]:
    """Return the lines of a text, the empty ones too (packaged_modules/text/text.py)."""
    lines = universal_newlines(text).split("\n")
    rows = lines if lines[-1] else lines[:-1]
    return [Record({"text": line}, number) for number, line in enumerate(rows, 1)]
