"""Read the files that a task file of lm-evaluation-harness names: each once, all counted.

The user may have downloaded a task file, so it is not trusted. It may name files in its own folder,
in folders below it and in folders that the user names, and only as many as a task needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from m2m.errors import InputError
from m2m.formats.records import RowFile, rows_text
from m2m.formats.rowfile import Options
from m2m.formats.yaml import LARGEST, parse_yaml
from m2m.opening import ROWS, Text, read_once, refuse_outside

_INCLUDES = 64  # how often `include` may name a file, in all files of a task together
_DATA_FILES = 1000
_PYTHON = 1 << 20  # bytes of all modules of a task


class TaskFiles:
    """Reads the files of one task.

    Args:
        path: the task file.
        roots: folders, besides its own, in which it may name files.
    """

    def __init__(self, path: Path, roots: Sequence[Path] = ()) -> None:
        self.path = path
        self.roots = roots
        self._configs: dict[Path, dict[str, Any] | None] = {}  # None: it is being read
        self._rows: dict[Path, RowFile] = {}
        self._included = 0
        # Bytes that may still be read: of all task files together, and of all data files together.
        self._yaml_left, self._left, self._python_left = LARGEST, ROWS, _PYTHON
        self._texts: dict[Path, Text] = {}
        self.sha256 = ""  # of the task file itself, after it was read

    def config(self) -> dict[str, Any]:
        """Return the task file's keys over those of the files that it includes.

        Raises:
            InputError: a file is unreadable or not keys and values, or the includes are too many,
                form a circle or are in another folder.
        """
        return self._config(self.path)

    def rows(self, path: Path) -> RowFile:
        """Return a data file's text and hash.

        Raises:
            InputError: a file is unreadable or in another folder, or all are more than 1 GiB.
        """
        place = self._place(path)
        if place not in self._rows:
            self._rows[place] = rows_text(path, self._left, Options(exact=True))
            self._left -= self._rows[place].size
        return self._rows[place]

    def module(self, path: Path) -> str:
        """Return the text of a Python module, or of a file that modules read; m2m runs no code.

        Raises:
            InputError: it is unreadable, too large or in another folder.
        """
        self._place(path)
        file = read_once(path, self._python_left)
        self._python_left -= file.size
        return file.text

    def text(self, path: Path) -> Text:
        """Return the text of a table, as it is in the file.

        Raises:
            InputError: see `rows`.
        """
        place = self._place(path)
        if place not in self._texts:
            self._texts[place] = read_once(path, self._left)
            self._left -= self._texts[place].size
        return self._texts[place]

    def split_once(self, paths: Sequence[Path]) -> None:
        """Check the data files of one split.

        Raises:
            InputError: they are too many, or one is named twice.
        """
        if len(paths) > _DATA_FILES:
            raise InputError(
                f"{self.path}: a split has {len(paths)} files, at most {_DATA_FILES}", "join them"
            )
        places = [self._place(path) for path in paths]
        for number, place in enumerate(places):
            if place in places[:number]:
                raise InputError(
                    f"{self.path}: data_files names {paths[number]} twice", "name it once"
                )

    def _place(self, path: Path) -> Path:
        refuse_outside(path, self.path.parent, self.roots)
        return path.resolve()

    def _config(self, path: Path) -> dict[str, Any]:
        place = self._place(path)
        if place in self._configs:
            if (known := self._configs[place]) is None:
                raise InputError(f"{path}: includes itself", "leave one `include` out")
            return known
        self._configs[place] = None
        file = read_once(path, self._yaml_left)
        self._yaml_left -= file.size
        self.sha256 = self.sha256 or file.sha256
        config = parse_yaml(file.text, str(path))
        if not isinstance(config, dict):
            raise InputError(f"{path}: expected keys and values", "write a task of lm-eval")
        included = names(config.pop("include", None) or [], "include", path)
        self._included += len(included)
        if self._included > _INCLUDES:
            raise InputError(f"{self.path}: more than {_INCLUDES} includes", "join files")
        merged: dict[str, Any] = {}
        for name in included:
            merged |= self._config(path.parent / name)
        merged.pop("task_list", None)  # it belongs to the included file alone
        merged |= config
        self._configs[place] = merged
        return merged


def names(value: Any, key: str, path: Path) -> list[str]:
    """Return one text, or a list of texts, as a list.

    Raises:
        InputError: the value is something else.
    """
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError(
            f"{path}: {key} is {value!r:.60}, expected a text or a list of texts", "correct it"
        )
    return texts
