"""Build the page on which people compare answers: one file that works offline, also on a phone.

It runs one script, the one whose hash its Content-Security-Policy names. It knows no model.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import NamedTuple

from m2m.report.markup import Markup, element, escape, join

_FOLDER = Path(__file__).parent


class ShownPair(NamedTuple):
    """One pair of answers as people see it."""

    id: str
    question: str
    a: str
    b: str


def judge_page(page: str, title: str, pairs: Sequence[ShownPair]) -> str:
    """Return the page.

    Args:
        page: identity of the page, for the file of answers.
        title: the question to the judges.
        pairs: in the order in which they are shown.
    """
    html, script, *styles = (
        (_FOLDER / name).read_text(encoding="utf-8")
        for name in ("judge.html", "judge.js", "style.css", "judge.css")
    )
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return Template(html).substitute(
        digest=base64.b64encode(digest).decode("ascii"),
        title=escape(title),
        style="".join(styles),
        page=escape(page),
        count=len(pairs),
        pairs=join(map(_pair, pairs)),
        script=script,
    )


def _pair(pair: ShownPair) -> Markup:
    answers = (("A", pair.a), ("B", pair.b))
    both = [element("div", element("h2", name), _text(answer)) for name, answer in answers]
    asked = [element("h2", "Question"), _text(pair.question)]
    return element("article", asked, element("div", both, class_="answers"), id=pair.id, hidden="")


def _text(text: str) -> Markup:
    if not text.strip():
        return element("p", "(no text)", class_="text none")
    return element("p", text, class_="text", dir="auto")
