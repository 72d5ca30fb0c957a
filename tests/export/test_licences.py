from __future__ import annotations

import pytest

from m2m.export.licences import (
    NO_DERIVATIVES,
    NON_COMMERCIAL,
    RESTRICTED,
    SHARE_ALIKE,
    hub_licence,
    remarks,
    terms,
)


@pytest.mark.parametrize(
    ("licence", "asked"),
    [
        ("MIT", ()),
        ("Apache 2.0", ()),
        ("Unicode-3.0 and MIT", ()),
        ("CC-BY-4.0", ()),
        ("CC0", ()),
        ("CC BY-NC 4.0", (NON_COMMERCIAL,)),
        ("cc-by-nc-sa-3.0", (NON_COMMERCIAL, SHARE_ALIKE)),
        ("CC-BY-ND-4.0", (NO_DERIVATIVES,)),
        ("CC_BY_NC_ND 4.0 International", (NON_COMMERCIAL, NO_DERIVATIVES)),
        ("GPL-2.0-or-later", (SHARE_ALIKE,)),
        ("GPLv3+", (SHARE_ALIKE,)),
        ("AGPL-3.0-only", (SHARE_ALIKE,)),
        ("MIT OR GPL-3.0-only", ()),
        ("CC-BY-NC-4.0 or CC-BY-NC-SA-4.0", (NON_COMMERCIAL,)),
        ("MIT, CC-BY-SA-4.0", (SHARE_ALIKE,)),
        ("llama3.2", (RESTRICTED,)),
        ("gemma", (RESTRICTED,)),
        ("my own", None),
        ("MIT and my own", None),
        ("cc-by-nc-maybe", None),
    ],
)
def test_what_a_licence_asks(licence: str, asked: tuple[str, ...] | None) -> None:
    assert terms(licence) == asked


def test_remarks_name_what_forbids_and_what_is_not_known() -> None:
    said = remarks(
        [("base", "Apache-2.0"), ("a", "CC-BY-NC-4.0"), ("b", ""), ("c", "odd"),
         ("d", "GPL-2.0"), ("e", "CC-BY-SA-4.0")]
    )  # fmt: skip
    assert said[0] == f"a: CC-BY-NC-4.0 {NON_COMMERCIAL}"
    assert said[1].startswith("b: no licence is given")
    assert said[2].startswith("c: m2m does not know the licence 'odd'")
    assert said[3:5] == [f"d: GPL-2.0 {SHARE_ALIKE}", f"e: CC-BY-SA-4.0 {SHARE_ALIKE}"]
    assert said[5].startswith("each of GPL-2.0, CC-BY-SA-4.0 asks for itself")
    assert remarks([("base", "MIT"), ("a", "CC0-1.0")]) == []
    assert len(remarks([("a", "GPL-3.0-only"), ("b", "GPL-3.0-or-later")])) == 2


@pytest.mark.parametrize(
    ("base", "data", "hub"),
    [
        ("Apache-2.0", ["MIT", "CC-BY-4.0"], "apache-2.0"),
        ("Apache-2.0", ["MIT", ""], "other"),
        ("Apache-2.0", ["CC-BY-NC-4.0"], "other"),
        ("llama3.2", ["MIT"], "llama3.2"),
        ("unknown", ["MIT"], "other"),
        ("", ["MIT"], "other"),
        ("CC-BY-NC-4.0", [], "cc-by-nc-4.0"),
        ("CC-BY-NC-1.0", [], "other"),
    ],
)
def test_the_hubs_name_for_it(base: str, data: list[str], hub: str) -> None:
    assert hub_licence(base, data) == hub
