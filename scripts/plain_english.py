#!/usr/bin/env python3
"""Count words that make docstrings, comments and pages hard to read, and fail over their limits.

Most readers speak English as a second language. Each count is per 10,000 words, first of docstrings
and comments, then of pages: "where" (usually for "if"), "what" (usually a clause used as a noun),
"told", "lie" for "is stored", and "beside". `scripts/plain_english.py FOLDER|PAGE...` lists the
places in these.
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
FOR_PAGES = 2  # times these in pages, which also answer "what" and "where"
PAGES = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md")
OTHER = (
    "log.md",
    "fr.md",
    "pt.md",
    "sw.md",
    "gguf-keys.md",
)  # a history, another language, a table


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


def page_texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each line of prose of a Markdown page: no code, no headings."""
    fenced = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith(("    ", "#")):
            yield number, re.sub(r"`[^`]*`", "", line)


def count(passages: list[tuple[Path, int, str]], factor: float, *, show: bool) -> bool:
    """Print the counts of these passages; return if one is over `factor` times its limit."""
    words = sum(len(re.findall(r"[A-Za-z']+", text)) for _, _, text in passages)
    over = False
    for pattern, most in LIMITS.items():
        places = [
            (path, line + text[: match.start()].count("\n"))
            for path, line, text in passages
            for match in re.finditer(pattern, text, re.IGNORECASE)
        ]
        rate = 1e4 * len(places) / max(1, words)
        print(f"{rate:6.1f} of {factor * most:g} per 10,000 words: {pattern}")
        over = over or rate > factor * most
        for path, line in places if show else []:
            source = path.read_text(encoding="utf-8").splitlines()[line - 1].strip()
            print(f"       {path}:{line}: {source}")
    return over


def main(names: list[Path]) -> int:
    """Print the counts; return 1 if one is over its limit."""
    modules = [path for name in names or [ROOT / "m2m"] for path in sorted(name.rglob("*.py"))]
    pages = [name for name in names if name.suffix == ".md"] or (
        [] if names else [ROOT / name for name in PAGES] + sorted((ROOT / "docs").glob("*.md"))
    )
    pages = [page for page in pages if page.name not in OTHER]
    over = False
    for kind, factor, passages in (
        ("docstrings and comments", 1, [(p, *text) for p in modules for text in texts(p)]),
        ("pages", FOR_PAGES, [(p, *text) for p in pages for text in page_texts(p)]),
    ):
        if passages:
            print(f"{kind}:")
            over = count(passages, factor, show=bool(names)) or over
    return int(over)


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]]))
