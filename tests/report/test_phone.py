"""On the screen of a phone every number of every table is visible without scrolling sideways."""

from __future__ import annotations

from pathlib import Path

import pytest

from m2m.report.page import page
from tests.browser import CHROMIUM, browser
from tests.report import samples

_WIDE = """[...document.querySelectorAll('td, dd, p, li, caption')]
    .filter(e => e.offsetParent && e.getBoundingClientRect().right > innerWidth + 1)
    .map(e => e.textContent).join('|')"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_nothing_but_charts_is_wider_than_the_screen(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(samples.facts(("aa", "b" * 60, "cc"))), encoding="utf-8")
    with browser(tmp_path) as phone:
        phone.open(path)
        phone.js("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert phone.js("document.querySelectorAll('td').length") > 50
        assert phone.js(_WIDE) == ""
        assert phone.js("document.documentElement.scrollWidth") == 390
        assert phone.js("getComputedStyle(document.querySelector('td'), '::before').content")
