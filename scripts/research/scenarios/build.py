#!/usr/bin/env python3
"""Build a scenario's data from published packages, the same bytes every time.

    scripts/research/scenarios/fetch-packages FOLDER
    scripts/research/scenarios/build.py SCENARIO... --packages FOLDER [--freeze]

Writes `SCENARIO/data/`: datasets, target and the sources' licences. The files must have the sums
in `SCENARIO/SHA256SUMS`; `--freeze` writes these, once. No text of a target is in a dataset.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from english import english
from labels import labels
from redundancy import redundancy
from sources import Data, Rows, Sources, rules
from translation import complement, hausa, yoruba

HERE = Path(__file__).resolve().parent


def _normal(form: Any) -> Callable[[Data], Data]:
    """Return what brings all texts of some data into a Unicode normal form."""

    def text(value: Any) -> Any:
        if isinstance(value, str):
            return unicodedata.normalize(form, value)
        return [text(item) for item in value] if isinstance(value, list) else value

    def rows(some: Rows) -> Rows:
        return [{name: text(value) for name, value in row.items()} for row in some]

    return lambda data: Data(
        rows(data.dev), rows(data.test), {name: rows(some) for name, some in data.datasets.items()}
    )


BUILDERS: dict[str, Callable[[Sources], Data]] = {
    "hausa": hausa,
    "yoruba-nfc": lambda sources: _normal("NFC")(yoruba(sources)),
    "yoruba-nfd": lambda sources: _normal("NFD")(yoruba(sources)),
    "complement": complement,
    "redundancy": redundancy,
    "english": english,
    "labels": labels,
}


def check(data: Data) -> None:
    """Refuse data whose datasets hold a question of the target, or the answer to one."""
    target = [*data.dev, *data.test]
    texts = {rules.key(row["question"].split(": ", 1)[1]) for row in target}
    if len(texts) < len(target):
        sys.exit("build: a question is asked twice")
    answers = {rules.key(row["choices"][row["answer"]]) for row in target if "choices" in row}
    for name, rows in data.datasets.items():
        for row in rows:
            text, answer = row["prompt"].split(": ", 1)[1], row["completion"]
            if rules.key(text) in texts or rules.key(answer) in answers:
                sys.exit(f"build: {name} has a text of the target: {row}")


def write(data: Data, sources: Sources, folder: Path) -> None:
    """Write datasets, target and licences."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, rows in data.datasets.items():
        rules.dump(str(folder / f"datasets/{name}.jsonl"), rows)
    for part, rows in (("dev", data.dev), ("test", data.test)):
        rules.dump(str(folder / f"target/{part}.jsonl"), rows)
    (folder / "LICENSES").mkdir()
    for name, path in sources.licences().items():
        shutil.copyfile(path, folder / "LICENSES" / name)


def sums(folder: Path) -> str:
    """Return the SHA-256 of all datasets and questions, as `sha256sum` prints them."""
    paths = sorted(folder.glob("data/*/*.jsonl"))
    digests = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    return "".join(f"{digest}  {path.relative_to(folder)}\n" for path, digest in digests.items())


def main() -> None:
    """Build the scenarios that were asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scenarios", nargs="+", choices=BUILDERS)
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--freeze", action="store_true", help="write SHA256SUMS")
    options = parser.parse_args()
    for name in options.scenarios:
        sources, folder = Sources(options.packages), HERE / name
        data = BUILDERS[name](sources)
        check(data)
        write(data, sources, folder / "data")
        sizes = {dataset: len(rows) for dataset, rows in data.datasets.items()}
        print(name, "dev", len(data.dev), "test", len(data.test), sizes)
        frozen = folder / "SHA256SUMS"
        if options.freeze and not frozen.exists():
            frozen.write_text(sums(folder), encoding="utf-8")
        if frozen.read_text(encoding="utf-8") != sums(folder):
            sys.exit(
                f"build: {name} differs from its SHA256SUMS: other packages, or a changed builder"
            )


if __name__ == "__main__":
    main()
