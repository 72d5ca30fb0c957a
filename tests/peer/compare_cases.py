"""Compare how m2m asks the tasks of lm-evaluation-harness with the requests that it recorded.

    python tests/peer/compare_cases.py TASKS CASES.jsonl... [--show N] [--record FILE]

TASKS is the folder lm_eval/tasks, CASES come from lm_eval_cases.py. It prints how many task files
load, how many of these are equal to the letter, and the reasons of the others. FILE gets a small
case of each folder of tasks with the task files that it needs, for tests/evaluate/test_requests.py.
Without CASES it reads the keys and functions of all tasks, and no rows.
"""


# ruff: noqa: C901, PLR0915, T201

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from m2m.errors import M2MError
from m2m.evaluate.harness import load_harness
from m2m.evaluate.harness_results import requests
from m2m.evaluate.task_config import read_config
from m2m.evaluate.task_data import TaskData
from m2m.evaluate.task_files import TaskFiles
from m2m.evaluate.task_functions import TaskFunctions
from m2m.formats.yaml import Tagged

AFRICAN = ("afrobench/", "afrimmlu/", "afrixnli/", "afrimgsm/")


def write_rows(root: Path, keys: dict[str, Any], rows: dict[str, list[dict[str, Any]]]) -> None:
    """Write the rows of each split to the place in which the task expects them."""
    options = keys.get("dataset_kwargs") or {}
    files = options.get("data_files")
    folder = root / str(keys.get("dataset_path"))
    if isinstance(files, dict):
        for split, name in files.items():
            name = name if isinstance(name, str) else name[0]
            place = folder / name.split("*")[0]
            if name.startswith("hf://datasets/"):
                place = root / name.removeprefix("hf://datasets/")
            place.parent.mkdir(parents=True, exist_ok=True)
            if split not in rows:
                continue
            if place.suffix == ".csv":
                import csv

                with place.open("w", encoding="utf-8", newline="") as sink:
                    writer = csv.writer(sink)
                    columns = options.get("column_names") or list(rows[split][0])
                    if "header" not in options:
                        writer.writerow(columns)
                    for row in rows[split]:
                        writer.writerow([row.get(name, "") for name in columns])
            else:
                write_jsonl(place.with_suffix(".jsonl"), rows[split])
        return
    if options.get("data_dir"):
        folder /= options["data_dir"]
    if name := keys.get("dataset_name") or options.get("name"):
        folder /= str(name)
    for split, made in rows.items():
        write_jsonl(folder / f"{split}.jsonl", made)


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


def asked_by_m2m(task: Any) -> tuple[list[Any], list[Any]]:
    """Return m2m's requests and golds in the harness's form."""
    kind = task.harness.kind
    asked, golds = [], []
    for example in task.examples:
        arguments = requests(task, example)
        asked.append([[part for part in each if isinstance(part, str)] for each in arguments])
        right = list(example.references) if kind == "generate_until" else example.choices[0]
        golds.append(example.gold if kind == "multiple_choice" else right)
    return asked, golds


def same_golds(kind: str, ours: list[Any], theirs: list[Any]) -> bool:
    """Compare golds; texts of answers are lists here."""
    if kind != "generate_until":
        theirs = [t[0] if isinstance(t, list) and len(t) == 1 else t for t in theirs]
        return ours == theirs
    theirs = [
        [str(t) for t in theirs] if isinstance(theirs, list) else [str(theirs)] for theirs in theirs
    ]
    return ours == theirs


def files_of(case: dict[str, Any], tasks: Path) -> dict[str, str]:
    """Return the texts of all task files and modules that a case needs."""
    waiting, texts = [tasks / case["file"]], dict[str, str]()
    while waiting:
        path = waiting.pop()
        name = Path(os.path.relpath(path, tasks)).as_posix()
        if name in texts or not path.is_file():
            continue
        texts[name] = text = path.read_text(encoding="utf-8")
        for include in re.findall(r"^['\"]?include['\"]?: *['\"]?([^'\"\n]+)", text, re.MULTILINE):
            waiting.append(path.parent / include.strip())
        for module in re.findall(r"!function ([\w.]+)\.\w+", text):
            waiting.append(path.parent / f"{module.replace('.', '/')}.py")
        for module in re.findall(r"^from \.(\w+) import", text, re.MULTILINE):
            waiting.append(path.parent / f"{module}.py")
        if path.suffix == ".py":
            for data in re.findall(r"[\"'](\w+\.json)[\"']", text):
                waiting += [path.parent / data, path.parent.parent / data]
    return texts


def compare(case: dict[str, Any], tasks: Path, root: Path) -> str:
    """Return "equal", or why not."""
    path = tasks / case["file"]
    try:
        keys = TaskFiles(path, [tasks]).config()
        write_rows(root, keys, case["rows"])
        task = load_harness(path, "test", roots=[root, tasks])
    except M2MError as error:
        text = error.message.replace(str(tasks), "").replace(str(root), "")
        return "refused: " + re.sub(r"^\S+ ?\S*(.yaml|jsonl)(:\d+)?:? ", "", text)
    asked, golds = asked_by_m2m(task)
    if asked != case["asked"]:
        return "other requests"
    if not same_golds(case["kind"], golds, case["golds"]):
        return "other golds"
    return "equal"


def read_alone(path: Path, tasks: Path) -> str:
    """Return "loads" if m2m can use a task's keys and functions, "" for other files, or why not."""
    try:
        files = TaskFiles(path, [tasks])
        keys = files.config()
        if "task" not in keys or "group" in keys or "class" in keys:
            return ""
        config, functions = read_config(path, keys), TaskFunctions(files)
        TaskData(files, config.keys, [tasks])
        sides = [config.asked, *([config.solved] if config.shots else [])]
        marks = [("process_docs", keys.get("process_docs"))]
        for side in sides:
            marks += [("doc_to_text", side.text), ("doc_to_target", side.target)]
            marks += [("doc_to_choice", side.choice)]
        for key, mark in marks:
            if isinstance(mark, Tagged):
                functions.function(mark, key)
    except M2MError as error:
        return re.sub(r"^.*?yaml(:\d+)?: ", "", error.message.replace("\n", " "))
    return "loads"


def main() -> None:
    """Print the census."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tasks", type=Path)
    parser.add_argument("cases", type=Path, nargs="*")
    parser.add_argument("--show", type=int, default=40)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    counts: collections.Counter[str] = collections.Counter()
    african: collections.Counter[str] = collections.Counter()
    first: dict[str, str] = {}
    kept: dict[str, str] = {}
    for line in (line for path in options.cases for line in path.open(encoding="utf-8")):
        case = json.loads(line)
        if "lm_eval" in case:
            reason = "lm-eval: " + case["lm_eval"][:30]
        else:
            with tempfile.TemporaryDirectory() as folder:
                reason = compare(case, options.tasks.resolve(), Path(folder).resolve())
        short = re.sub(r"'[^']*'|\"[^\"]*\"|`?\d+`?", "_", reason)[:110]
        counts[short] += 1
        if reason == "equal" and len(line) < 6000:
            whole = json.dumps(case | {"files": files_of(case, options.tasks)}, ensure_ascii=False)
            folder = "/".join(case["file"].split("/")[: 1 + case["file"].startswith("afro")])
            if len(whole) < min(7000, len(kept.get(folder, "x" * 7000))):
                kept[folder] = whole
        first.setdefault(short, case["file"] + " | " + reason[:300].replace("\n", " "))
        if case["file"].startswith(AFRICAN):
            african[short] += 1
    if options.record:
        options.record.write_text("".join(f"{case}\n" for case in kept.values()), "utf-8")
    for path in [] if options.cases else sorted(options.tasks.resolve().glob("**/*.yaml")):
        if reason := read_alone(path, options.tasks.resolve()):
            short = re.sub(r"'[^']*'|!function [\w.]+", "_", reason)[:110]
            counts[short] += 1
            name = path.relative_to(options.tasks.resolve()).as_posix()
            first.setdefault(short, f"{name} | {reason[:300]}")
            if name.startswith(AFRICAN):
                african[short] += 1
    total = sum(counts.values())
    print(f"{total} tasks, {counts['equal']} equal ({100 * counts['equal'] / max(total, 1):.1f} %)")
    print(f"{sum(african.values())} African, {african['equal']} equal")
    for reason, count in counts.most_common(options.show):
        print(f"{count:6} {reason}\n         {first[reason]}")
    print("African:", african.most_common(12))


if __name__ == "__main__":
    main()
