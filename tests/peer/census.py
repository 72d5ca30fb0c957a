"""Count how many tasks that lm-eval ships m2m asks to the letter; a run that was stopped goes on.

    python -m tests.peer.census OUT.jsonl [--first N] [--part I --parts N]

Needs lm-eval and m2m. OUT gets a line for each task file: the file and the result, which is
"equal", "refused: WHY", what differs, or why there are no rows for it. Tasks that differ only in
their names, their data's names and plain words are one configuration. One task of each
configuration comes first, the configurations of most tasks first. With --first 0 nothing is
compared, and the counts of all that OUT has are printed.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import collections
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from m2m.evaluate import task_files
from m2m.evaluate.task_catalogue import Catalogue
from m2m.formats.yaml import Tagged, parse_yaml_quickly
from tests.peer.compare_cases import AFRICAN, compare
from tests.peer.lm_eval_cases import TASKS, Known, case_of, only_requests

_NAMES = {"task", "task_alias", "tag", "dataset_path", "dataset_name", "metadata", "metric_list"}
_PARTS = re.compile(r"'[^']*'|\"[^\"]*\"|`?\d+`?|!function [\w.]+|/\S+")
# Thousands of files: the same values, five times as fast.
task_files.parse_yaml = parse_yaml_quickly


def result_of(path: Path, known: Known) -> str | None:
    """Return the result of a task file; None if it is no task."""
    case = case_of(path, known)
    if case is None:
        return None
    if "lm_eval" in case:
        return f"lm-eval: {case['lm_eval']}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            return compare(case, TASKS.resolve(), Path(folder).resolve())
        except Exception as error:  # noqa: BLE001 (a fault of m2m, or of writing the rows)
            return f"fault: {type(error).__name__}: {error}"


def configurations() -> list[list[str]]:
    """Return the files of the tasks of each configuration, most tasks first."""
    found: dict[str, list[str]] = {}
    for entry in Catalogue(TASKS):
        if entry.kind != "task" or entry.path is None:
            continue
        keys = {k: _meant(v, k) for k, v in entry.keys.items() if k not in _NAMES}
        if "{" not in str(keys.get("description")):
            keys["description"] = bool(keys.get("description"))
        mark = json.dumps(keys, sort_keys=True, default=str)
        found.setdefault(mark, []).append(entry.path.relative_to(TASKS).as_posix())
    return sorted(found.values(), key=len, reverse=True)


def _meant(value: Any, key: str = "") -> Any:
    """Return a value; of a function the text of its module, since subjects have their own names."""
    if isinstance(value, Tagged):
        module, _, name = value.text.rpartition(".")
        place = Path(value.source).parent / f"{module.replace('.', '/')}.py"
        text = place.read_text("utf-8") if place.is_file() else str(place)
        return [text, "" if key == "process_docs" else name]
    if isinstance(value, dict):
        return {k: _meant(v, k) for k, v in value.items()}
    return list(map(_meant, value)) if isinstance(value, list) else value


def printed(results: dict[str, str], groups: list[list[str]]) -> None:
    """Print the counts, and the first task of each reason."""
    for title, start in (("all", ("",)), ("African", AFRICAN)):
        counts: collections.Counter[str] = collections.Counter()
        tasks: collections.Counter[str] = collections.Counter()
        first: dict[str, str] = {}
        for group in groups:
            known = [name for name in group if name in results and name.startswith(start)]
            own = [name for name in group if name.startswith(start)]
            for name in known:
                kind = _PARTS.sub("_", results[name])[:120]
                counts[kind] += 1
                tasks[kind] += len(own) / len(known)
                first.setdefault(kind, f"{name}: {results[name][:260]}")
        total = sum(len([name for name in group if name.startswith(start)]) for group in groups)
        rows = sum(n for kind, n in counts.items() if not kind.startswith("lm-eval:"))
        print(
            f"{title}: {sum(counts.values())} tasks compared, which stand for "
            f"{sum(tasks.values()):.0f} of {total}; {rows} have rows, {counts['equal']} are equal"
        )
        for kind, count in counts.most_common():
            print(f"{count:6} ({tasks[kind]:.0f} tasks) {kind}\n         {first[kind]}")


def main() -> None:
    """Go on with the census."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path, nargs="+")
    parser.add_argument("--first", type=int, default=10**6)
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--parts", type=int, default=1)
    options = parser.parse_args()
    groups = configurations()
    lines = [json.loads(line) for out in options.out if out.exists() for line in out.open()]
    results = {line["file"]: line["result"] for line in lines}
    names = [name for group in groups if not any(n in results for n in group) for name in group[:1]]
    names += [name for group in groups for name in group if name not in {*results, *names}]
    known: Known = collections.defaultdict(list)
    with only_requests(), options.out[0].open("a", encoding="utf-8") as sink:
        for name in names[options.part :: options.parts][: options.first]:
            if result := result_of(TASKS / name, known):
                results[name] = result
                sink.write(json.dumps({"file": name, "result": result}, ensure_ascii=False) + "\n")
                sink.flush()
    printed(results, groups)


if __name__ == "__main__":
    main()
