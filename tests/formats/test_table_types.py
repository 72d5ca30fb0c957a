"""Types of CSV columns; the expected values are those of pandas 2 and 3, by `datasets`' way."""

from __future__ import annotations

import math
from typing import Any

import pytest

from m2m.formats.table_types import typed


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["01", " 1", "-1"], [1, 1, -1]),
        (["1", "", "NA"], [1.0, None, None]),
        (["1", "1e3", ".5", "nan"], [1.0, 1000.0, 0.5, None]),
        (["inf", "-Infinity", "1"], [math.inf, -math.inf, 1.0]),
        (["True", "FALSE", "tRUE"], [True, False, True]),
        (["true", "", "null"], [True, None, None]),
        (["True", "1"], ["True", "1"]),
        (["1,000", "1_000", "None"], ["1,000", "1_000", None]),
        (["", "N/A"], [None, None]),
        (["9223372036854775807", "-9223372036854775808"], [2**63 - 1, -(2**63)]),
        (["18446744073709551615", "0"], [2**64 - 1, 0]),
        (["18446744073709551615", "-1"], ["18446744073709551615", "-1"]),
        (["18446744073709551615", ""], ["18446744073709551615", ""]),
        (["9" * 5000], ["9" * 5000]),
        (["\u0661", "\u00b2"], ["\u0661", "\u00b2"]),
    ],
)
def test_a_column_has_the_type_that_pandas_gives_it(cells: list[str], values: list[Any]) -> None:
    found = typed(cells)
    assert list(map(type, found)) == list(map(type, values))
    assert found == values
