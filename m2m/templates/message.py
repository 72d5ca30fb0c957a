"""Messages between parent and child: a length in bytes, then that many bytes of JSON."""

from __future__ import annotations

import json
import struct
from typing import Any

LENGTH = struct.Struct(">I")

# The exit code of a child that got no more memory from the system.
OUT_OF_MEMORY = 70

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def packed(value: Any) -> bytes:
    """Return a value as a message.

    Raises:
        TypeError, ValueError, RecursionError: JSON cannot hold it.
    """
    data = _encode(value).encode("utf-8", "surrogatepass")
    return LENGTH.pack(len(data)) + data


def unpacked(data: bytes) -> Any:
    """Return the value of a message; `data` has no length in front."""
    return json.loads(data.decode("utf-8", "surrogatepass"))
