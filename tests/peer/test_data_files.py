"""Data files as researchers have them give the rows that `datasets` reads, to the letter."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]
datasets = pytest.importorskip("datasets", reason="pip install lm-eval")

from m2m.evaluate.task_data import TaskData  # noqa: E402
from m2m.evaluate.task_files import TaskFiles  # noqa: E402

TABLES: dict[str, tuple[str, dict[str, Any]]] = {
    "quotes": ('q,x,g\n"He said ""hi""",1,0\n"a, b",2,1\n', {}),
    "lines in a cell": ('q,x,g\n"line1\nline2",1,0\nz,2,1\n', {}),
    "CR LF": ("q,x,g\r\na,1,0\r\nb,2,1\r\n", {}),
    "CR": ("q,x,g\ra,1,0\rb,2,1\r", {}),
    "words for nothing": ("q,x,g\nNA,null,0\nnan,None,1\nx,y,1\n", {}),
    "truth": ("q,x,g\na,true,0\nb,FALSE,1\n", {}),
    "large numbers": ("q,x,g\na,12345678901234567890,0\nb,1,1\n", {}),
    "leading zeros": ("q,x,g\n007,01.50,0\n008,2,1\n", {}),
    "spaces": ("q, x,g\n a , 1,0\n b ,2 ,1\n", {}),
    "empty lines": ("q,x,g\na,1,0\n\n\nb,2,1\n", {}),
    "index of pandas": (",q,x,g\n0,a,1,0\n1,b,2,1\n", {}),
    "columns of one name": ("q,x,x,g\na,1,2,0\nb,3,4,1\n", {}),
    "dates": ("q,x\na,2020-01-01\nb,2021-01-01\n", {}),
    "exponents": ("q,x\na,1e5\nb,1E-3\n", {}),
    "infinite": ("q,x\na,inf\nb,-inf\n", {}),
    "per cent and thousands": ('q,x\na,5%\nb,"1,000"\n', {}),
    "a missing number": ("q,x\na,1\nb,\n", {}),
    "letters": ("q,x\nƙwàrai,ọ̀rọ̀\nẹ́,naïve\n", {}),
    "names": ("a,1,0\nb,2,1\n", {"names": ["q", "x", "g"]}),
    "other names": ("Q,X,G\na,1,0\nb,2,1\n", {"names": ["q", "x", "g"], "header": 0}),
    "tabs": ("q\tx\tg\na\t1\t0\nb\t2\t1\n", {"sep": "\t"}),
    "a short line": ("q,x,g\na,1,0\nb,2\n", {}),
    "apostrophes": ("q,x\nit's,'1'\n'b',2\n", {}),
    "numbers and words": ("q,x\na,1\nb,two\n", {}),
    "signs": ("q,x\na,+5\nb,-5\n", {}),
    "long fractions": ("q,x\na,3.14159265358979323846\nb,0.30000000000000004\n", {}),
    "a backslash": ('q,x\n"a\\"b",1\nb,2\n', {}),
    "underscores": ("q,x\na,1_000\nb,2\n", {}),
    "digits of Arabic": ("q,x\na,١٢\nb,٣\n", {}),
    "a byte order mark": ("\ufeffq,x\na,1\n", {}),
}
LINES: dict[str, list[dict[str, Any]]] = {
    "a missing field": [{"q": "a", "x": 1}, {"q": "b"}],
    "one more field": [{"q": "a"}, {"q": "b", "z": [1]}],
    "objects": [{"q": {"t": "a", "l": ["p"]}}, {"q": {"t": "b", "l": []}}],
    "lists of objects": [{"q": [{"r": "u"}]}, {"q": [{"r": "u"}, {"r": "a"}]}],
    "empty": [{"q": [], "x": {}}, {"q": ["b"], "x": {"a": 1}}],
    "numbers": [{"q": 2**60, "x": 1e22}, {"q": 3, "x": -0.0}],
    "signs of Unicode": [{"q": "a\u2028b\u00a0c", "x": "\u0000z"}, {"q": "😀", "x": "\u200d"}],
    "truth and null": [{"q": True, "x": None}, {"q": False, "x": None}],
    "other order": [{"g": 0, "q": "a"}, {"q": "b", "g": 1}],
    "times": [{"q": "2020-01-01T10:00:00", "x": "10:30"}, {"q": "2020-01-02", "x": "11:00"}],
    "lists of lists": [{"q": [[1, 2], [3]]}, {"q": [[4]]}],
    "mixed lists": [{"q": [1, "a"]}, {"q": ["b"]}],
}


def same(root: Path, kind: str, text: str, options: dict[str, Any]) -> None:
    place = root / f"rows.{kind}"
    place.write_bytes(text.encode("utf-8"))
    theirs = datasets.load_dataset(
        kind, data_files={"test": str(place)}, cache_dir=str(root / "c"), split="test", **options
    )
    given = {"data_files": {"test": place.name}, **options}
    keys = {"dataset_path": kind, "dataset_kwargs": given}
    ours = TaskData(TaskFiles(root / "t.yaml", []), keys, []).split("test").fields
    made = [json.dumps(dict(row), default=str) for row in theirs]
    assert [json.dumps(row) for row in ours] == made


@pytest.mark.parametrize("name", TABLES)
def test_tables(name: str, tmp_path: Path) -> None:
    same(tmp_path, "csv", *TABLES[name])


@pytest.mark.parametrize("name", LINES)
def test_lines_of_json(name: str, tmp_path: Path) -> None:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in LINES[name]]
    same(tmp_path, "json", "".join(lines), {})
