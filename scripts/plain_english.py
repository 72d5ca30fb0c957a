#!/usr/bin/env python3
"""Count words that make docstrings and comments hard to read, and fail over their limits.

Most readers speak English as a second language. Each count is per 10,000 words of docstrings and
comments: "where" (usually for "if"), "what" (usually a clause used as a noun), "told", "lie" for
"is stored", and "beside". `scripts/plain_english.py FOLDER...` lists the places in these folders.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Counts per 10,000 words, at most.
LIMITS = {
    r"\bwhere\b": 5.0,
    r"\bwhat\b": 5.0,
    r"\b(is|are|was|were) told\b": 0.0,
    r"\blies?\b|\blay\b|\blying\b": 0.0,
    r"\bbeside\b": 1.0,
}


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each docstring and comment of a module."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text:
                yield node.body[0].lineno, text
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def main(folders: list[Path]) -> int:
    """Print the counts; return 1 if one is over its limit."""
    passages = [
        (path, line, text)
        for folder in folders or [ROOT / "m2m"]
        for path in sorted(folder.rglob("*.py"))
        for line, text in texts(path)
    ]
    words = sum(len(re.findall(r"[A-Za-z']+", text)) for _, _, text in passages)
    over = False
    for pattern, most in LIMITS.items():
        places = [
            (path, line + text[: match.start()].count("\n"), text)
            for path, line, text in passages
            for match in re.finditer(pattern, text, re.IGNORECASE)
        ]
        rate = 1e4 * len(places) / max(1, words)
        print(f"{rate:6.1f} of {most:g} per 10,000 words: {pattern}")
        over = over or rate > most
        for path, line, _ in places if folders else []:
            source = path.read_text(encoding="utf-8").splitlines()[line - 1].strip()
            print(f"       {path}:{line}: {source}")
    return int(over)


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]]))
