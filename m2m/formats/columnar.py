"""Rows of Parquet and Arrow files, by pyarrow."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from m2m.counted import counted
from m2m.formats.archives import most_bytes
from m2m.formats.byte_parts import ByteSource
from m2m.formats.cells import index_notes
from m2m.formats.extra import imported
from m2m.formats.large_text import HELD
from m2m.formats.rowfile import Fault, Options, Record
from m2m.formats.spooled import collected, made

_BATCH = 1024  # rows that are unpacked at once
_INDEX = "__index_level_"  # a column that pandas adds
Names = dict[str, tuple[str, ...]]


def read_columns(
    source: ByteSource, kind: str, options: Options, first: int = 0
) -> tuple[Sequence[Record], Names, tuple[str, ...]]:
    """Return the rows of a file, numbered from 1; dates are texts, and NaN is null.

    The rows of a large file are not held in memory (`m2m.formats.spooled`).

    Args:
        source: the file's bytes.
        kind: "parquet", "arrow" (an IPC file, such as Feather) or "arrow stream".
        options: how it is read.
        first: how many rows are read; 0: all.

    Returns:
        The rows, the names of `ClassLabel` columns, and notes about columns that are left out.

    Raises:
        Fault: pyarrow is not installed or refuses the file, or it unpacks to too much.
    """
    arrow = imported("pyarrow")
    with tempfile.SpooledTemporaryFile(HELD) as file:
        for part in source:
            file.write(part)
        most = most_bytes(file.tell())
        file.seek(0)
        try:
            schema, batches = _opened(arrow, file, kind, most)
            dropped = [column.name for column in schema if _has_bytes(arrow, column.type)]
            names = [name for name in schema.names if name not in dropped]
            plain = all(_is_plain(arrow, schema.field(name).type) for name in names)
            rows = (
                row
                if plain
                else {key: _value(item, key, options.exact) for key, item in row.items()}
                for batch in _checked(batches, first, most)
                for row in batch.select(names).to_pylist()
            )
            records = collected(Record(row, number) for number, row in enumerate(rows, 1))
        except (arrow.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
            raise Fault(f"is damaged: {str(error) or type(error).__name__:.200}") from None
    notes = tuple(f"the column {name} has bytes and is left out" for name in dropped)
    for name in (name for name in names if name.startswith(_INDEX)):
        records, note = _without_index(records, name)
        notes += (note,) * bool(note)
    return records, _label_names(schema.metadata or {}), notes


def _checked(batches: Iterator[Any], first: int, most: int) -> Iterator[Any]:
    """Yield batches of rows until there are `first` (0: all), none of them damaged.

    Raises:
        Fault: they are more than `most` bytes.
    """
    size = rows = 0
    for batch in batches:
        part = batch.slice(0, first - rows) if first else batch
        part.validate(full=True)
        size += part.nbytes
        rows += len(part)
        if size > most:
            raise Fault(f"unpacks to more than {counted(most, 'byte')}, m2m stops there")
        yield part
        if first and rows >= first:
            return


def _without_index(records: Sequence[Record], name: str) -> tuple[Sequence[Record], str]:
    """Drop a pandas index that numbers the rows; rename any other, which has data of the user."""
    values = [record.fields[name] for record in records]
    if all(type(value) is int for value in values) and len({*values}) == len(values):
        (note,) = index_notes(values, "the index of pandas") if values else ("",)
        new = ""
    else:
        new = f"pandas_index_{name.removeprefix(_INDEX).strip('_')}"  # one by name is not read
        note = f"the index of pandas has data: it is read as the column {new}"

    def without(record: Record) -> Record:
        fields = {key: value for key, value in record.fields.items() if key != name}
        return Record({**fields, new: record.fields[name]} if new else fields, record.line)

    return made(records, without), note


def _opened(arrow: Any, file: Any, kind: str, most: int) -> tuple[Any, Iterator[Any]]:
    """Return the schema and the batches of rows."""
    opened = arrow.PythonFile(file, mode="r")
    if kind == "parquet":
        parquet = imported("pyarrow", "pyarrow.parquet").ParquetFile(opened)
        about = parquet.metadata
        size = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
        if size > most:
            raise Fault(f"unpacks to {counted(size, 'byte')}, m2m unpacks at most {most:,} here")
        return parquet.schema_arrow, parquet.iter_batches(batch_size=_BATCH)
    if kind == "arrow stream":
        reader = imported("pyarrow", "pyarrow.ipc").open_stream(opened)
        return reader.schema, iter(reader)
    reader = imported("pyarrow", "pyarrow.ipc").open_file(opened)
    return reader.schema, (reader.get_batch(i) for i in range(reader.num_record_batches))


def _parts(arrow: Any, kind: Any) -> list[Any]:
    """Return a type and the types inside it."""
    inside = [kind.field(i).type for i in range(kind.num_fields)]
    if arrow.types.is_dictionary(kind):
        inside.append(kind.value_type)
    return [kind, *(each for part in inside for each in _parts(arrow, part))]


def _has_bytes(arrow: Any, kind: Any) -> bool:
    """Return whether a column has sounds or pictures: bytes inside an object."""
    types = arrow.types
    return any(
        types.is_binary(part) or types.is_large_binary(part) or types.is_fixed_size_binary(part)
        for part in _parts(arrow, kind)[1:]
        if not types.is_dictionary(kind)
    )


def _is_plain(arrow: Any, kind: Any) -> bool:
    types = arrow.types
    simple = (types.is_string, types.is_large_string, types.is_integer, types.is_boolean)
    return any(test(kind) for test in simple)


def _value(value: Any, column: str, exact: bool) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, dict):
        return {str(key): _value(item, column, exact) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_value(item, column, exact) for item in value]
    if isinstance(value, float):
        return value if exact or math.isfinite(value) else None
    if isinstance(value, bytes) and not exact:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise Fault(f"the column {column} has bytes that are no text", "delete it") from None
    # Of dates and numbers that JSON lacks, as a template of Hugging Face's rows writes them.
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def _label_names(metadata: dict[bytes, bytes]) -> Names:
    """Return the names of the classes that Hugging Face's `datasets` wrote into the schema."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return class_labels(features)


def class_labels(features: Any) -> Names:
    """Return the names of each `ClassLabel` among the features of a dataset."""
    return {
        str(name): tuple(map(str, feature["names"]))
        for name, feature in (features.items() if isinstance(features, dict) else ())
        if isinstance(feature, dict)
        and feature.get("_type") == "ClassLabel"
        and isinstance(feature.get("names"), list)
    }
