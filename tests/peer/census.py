"""Count how many tasks that lm-eval ships m2m asks to the letter; a run that was stopped goes on.

    python tests/peer/census.py OUT.jsonl [--first N] [--seed S] [--part I --parts N] [--only WORD]

Needs lm-eval and m2m. OUT gets a line for each task file: the file and the result, which is
"equal", "refused: WHY", what differs, or why there are no rows for it. At the end, or with
--first 0, it prints the counts of all that OUT has.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import collections
import json
import random
import re
import tempfile
from pathlib import Path

from m2m.evaluate import task_files
from m2m.formats.yaml import parse_yaml_quickly
from tests.peer.compare_cases import AFRICAN, compare
from tests.peer.lm_eval_cases import TASKS, Known, case_of

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


def counted(lines: list[dict[str, str]]) -> None:
    """Print the counts, and the first task of each reason."""
    for title, start in (("all", ""), ("African", AFRICAN)):
        of = [line for line in lines if line["file"].startswith(start)]
        counts: collections.Counter[str] = collections.Counter()
        first: dict[str, dict[str, str]] = {}
        for line in of:
            kind = re.sub(r"'[^']*'|\"[^\"]*\"|`?\d+`?|!function [\w.]+|/\S+", "_", line["result"])
            counts[kind[:120]] += 1
            first.setdefault(kind[:120], line)
        made = [line for line in of if not line["result"].startswith("lm-eval:")]
        print(f"{title}: {len(of)} tasks, {len(made)} with rows, {counts['equal']} equal")
        for kind, count in counts.most_common():
            print(f"{count:6} {kind}\n         {first[kind]['file']}: {first[kind]['result'][:260]}")


def main() -> None:
    """Go on with the census."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--first", type=int, default=10**6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    lines = [json.loads(line) for line in options.out.open()] if options.out.exists() else []
    done = {line["file"] for line in lines}
    paths = sorted(TASKS.glob("**/*.yaml"))
    random.Random(options.seed).shuffle(paths)
    known: Known = collections.defaultdict(list)
    with options.out.open("a", encoding="utf-8") as sink:
        for path in paths[: options.first][options.part :: options.parts]:
            name = path.relative_to(TASKS).as_posix()
            if name in done or options.only not in name:
                continue
            line = {"file": name, "result": result_of(path, known) or ""}
            sink.write(json.dumps(line, ensure_ascii=False) + "\n")
            sink.flush()
            lines.append(line)
    counted([line for line in lines if line["result"]])


if __name__ == "__main__":
    main()
