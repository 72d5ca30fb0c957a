"""JSON that other programs can read: RFC 8259 has no NaN and no Infinity, so both become null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from m2m.escaping import escape_json


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return `value` as JSON, on one line unless `indent` is given; see `finite`.

    Everything that m2m prints or writes as JSON for a user comes from here. `allow_nan=False` is
    a second check after `finite`. Letters stay readable; control characters are escaped.
    """
    compact = None if indent else (",", ":")
    return escape_json(
        json.dumps(
            finite(value), ensure_ascii=False, allow_nan=False, indent=indent, separators=compact
        )
    )


def finite(value: Any) -> Any:
    """Return JSON values; numbers that are not finite (the error of one example) become null."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
