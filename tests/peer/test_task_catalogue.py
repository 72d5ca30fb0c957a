"""The names, kinds, tags and keys of all tasks that lm-eval ships are those of its own index."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("lm_eval", reason="pip install lm-eval")
from lm_eval.tasks._index import Kind, TaskIndex  # noqa: E402

from m2m.evaluate.task_catalogue import Catalogue, folder_of_tasks  # noqa: E402
from m2m.formats.yaml import Tagged  # noqa: E402

KINDS = {"task": Kind.TASK, "program": Kind.PY_TASK, "group": Kind.GROUP, "tag": Kind.TAG}


def test_the_index_is_lm_evals() -> None:
    folder = folder_of_tasks(None)
    theirs = TaskIndex.build([folder])
    ours = {entry.name: entry for entry in Catalogue(folder)}
    assert ours.keys() == theirs.keys()
    for name, entry in ours.items():
        other = theirs[name]
        assert KINDS[entry.kind] == other.kind, name
        assert (entry.path and str(entry.path)) == (other.yaml_path and str(other.yaml_path)), name
        assert set(entry.members or entry.tags) == other.tags, name
        assert plain(entry.keys) == plain(other.cfg or {}), name


def plain(value: Any) -> Any:
    """Return a value with lm-eval's text of a function, `FOLDER/module.name`, for our marks."""
    if isinstance(value, Tagged):
        return os.path.normpath(Path(value.source).parent / value.text)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return list(map(plain, value)) if isinstance(value, list) else value
