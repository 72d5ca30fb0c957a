"""The members of a packed file; sizes, names and links are checked before anything is unpacked."""

from __future__ import annotations

import bz2
import io
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from m2m.counted import counted
from m2m.formats.byte_parts import ByteSource
from m2m.formats.extra import imported
from m2m.formats.rowfile import Fault
from m2m.opening import ROWS

# Texts become 3 to 20 times as small; a file of one letter 1,000 times (deflate) or 10,000 times.
_RATIO, _FREE = 200, 64 << 20
_PART = 1 << 20
_MOST_MEMBERS = 10_000
_ENDINGS = (".gz", ".bz2", ".xz", ".zst", ".zip")
_DATA = (
    *(".jsonl", ".json", ".ndjson", ".jsonlines", ".csv", ".tsv", ".tab", ".psv", ".txt"),
    *(".parquet", ".arrow", ".feather", ".xlsx", ".xls", ".ods", ".po", ".tmx", ".xlf", ".xliff"),
)
_BESIDE = ("readme", "license", "licence", "citation", "metadata", "dataset_info", "changelog")


def most_bytes(packed: int) -> int:
    """Return how many bytes may come out of a packed file of `packed` bytes."""
    return min(ROWS, max(_FREE, _RATIO * packed))


def unpacked(source: ByteSource, kind: str, packed: int) -> ByteSource:
    """Return the file inside a .gz, .bz2, .xz or .zst, unpacked a part at a time.

    Args:
        source: the packed bytes.
        kind: "gzip", "bzip2", "xz" or "zstd".
        packed: how many bytes they are.

    Raises:
        Fault: also later, while the parts are read: they are damaged, or too many.
    """
    name = source.name
    inside = next((name[: -len(end)] for end in _ENDINGS if name.lower().endswith(end)), name)
    return ByteSource(inside, _limited(_parts(source, kind), most_bytes(packed)))


def _limited(parts: Iterator[bytes], most: int) -> Iterator[bytes]:
    size = 0
    for part in parts:
        size += len(part)
        if size > most:
            raise Fault(
                f"unpacks to more than {most:,} bytes, m2m stops there", "unpack it yourself"
            )
        yield part


def _decoder(kind: str) -> Any:
    if kind == "gzip":
        return zlib.decompressobj(wbits=31)
    if kind == "bzip2":
        return bz2.BZ2Decompressor()
    if kind == "xz":
        return lzma.LZMADecompressor(memlimit=256 << 20)
    return imported("zstandard").ZstdDecompressor(max_window_size=1 << 27).decompressobj()


def _parts(source: ByteSource, kind: str) -> Iterator[bytes]:
    """Unpack streams that may follow each other, as `cat a.gz b.gz` writes them."""
    decoder, fresh = _decoder(kind), True
    try:
        for packed in _pieces(source, kind):
            while packed:
                if decoder.eof:
                    if not packed.strip(b"\0"):  # padding
                        break
                    decoder = _decoder(kind)
                yield from _some(decoder, kind, packed)
                fresh, packed = False, decoder.unused_data if decoder.eof else b""
    except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError) as error:
        raise Fault(f"is damaged: {error}", "get the file again") from None
    if not (decoder.eof or fresh):
        raise Fault("is cut off: its end is missing", "get the file again")


def _pieces(source: ByteSource, kind: str) -> Iterator[bytes]:
    """Yield packed bytes, of which one piece does not give too much at once."""
    for part in source:
        if kind != "zstd":
            yield part
            continue
        # zstandard takes no bound for the output of one call: 1 KiB gives 32 MiB at most.
        for start in range(0, len(part), 1 << 10):
            yield part[start : start + (1 << 10)]


def _some(decoder: Any, kind: str, packed: bytes) -> Iterator[bytes]:
    """Yield the unpacked bytes of some packed ones, in parts of a bounded size."""
    if kind == "zstd":
        try:
            yield decoder.decompress(packed)
        except imported("zstandard").ZstdError as error:
            raise ValueError(error) from None
    elif kind == "gzip":
        while packed:
            yield decoder.decompress(packed, _PART)
            packed = decoder.unconsumed_tail
    else:
        yield decoder.decompress(packed, _PART)
        while not (decoder.needs_input or decoder.eof):
            yield decoder.decompress(b"", _PART)


def member(source: ByteSource, inner: str) -> tuple[ByteSource, str]:
    """Return the file inside a zip archive, and the rest of `inner`.

    Args:
        source: the archive's bytes.
        inner: the name of the member, if the user gave one; more may follow it.

    Raises:
        Fault: the archive is damaged, is encrypted, has names or links that lead out of it, unpacks
            to too much, or has several files with rows.
    """
    data = source.rest()
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        infos = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise Fault(f"is damaged: {error}", "get the file again") from None
    check_members(infos, len(data))
    files = [info for info in infos if not info.is_dir() and not is_beside(info.filename)]
    info, left = _chosen(files, inner)
    return ByteSource(info.filename, _member_parts(archive, info)), left


def check_members(infos: list[zipfile.ZipInfo], packed: int) -> None:
    """Check what the archive says of its members, before any is unpacked.

    Raises:
        Fault: see `member`.
    """
    if len(infos) > _MOST_MEMBERS:
        raise Fault(f"has {len(infos):,} files, m2m reads archives of at most {_MOST_MEMBERS:,}")
    for info in infos:
        path, name = PurePosixPath(info.filename.replace("\\", "/")), f"{info.filename!r:.60}"
        if path.is_absolute() or ".." in path.parts or ":" in info.filename[:3]:
            raise Fault(f"has a file whose name leads out of it: {name}", "do not trust this file")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise Fault(f"has a link: {name}", "do not trust this file")
        if info.flag_bits & 1:
            raise Fault(f"is encrypted: {name}", "unpack it, and give the file that is inside")
    size, most = sum(info.file_size for info in infos), most_bytes(packed)
    if size > most:
        raise Fault(
            f"unpacks to {counted(size, 'byte')}, m2m unpacks at most {most:,} of {packed:,}",
            "unpack it yourself, and give the file that is inside",
        )


def _member_parts(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """Unpack one member: never more bytes than it says, and those have its checksum."""
    try:
        with archive.open(info) as file:
            while part := file.read(_PART):
                yield part
    except (
        *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError),
        *(ValueError, OverflowError, struct.error),  # places in the file that do not exist
    ) as error:
        raise Fault(f"is damaged: {error}", "get the file again") from None
    except (NotImplementedError, RuntimeError) as error:
        raise Fault(f"cannot be unpacked: {error}", "unpack it yourself") from None


def is_beside(name: str) -> bool:
    """Return whether a member is not data: what systems add, and what describes the data."""
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return hidden or path.stem.lower() in _BESIDE


def has_rows(name: str) -> bool:
    """Return whether a name ends as those of files with rows."""
    plain = name.lower()
    for end in _ENDINGS[:-1]:
        plain = plain.removesuffix(end)
    return plain.endswith(_DATA)


def _chosen(files: list[zipfile.ZipInfo], inner: str) -> tuple[zipfile.ZipInfo, str]:
    if inner:
        for info in files:
            if inner == info.filename or inner.startswith(f"{info.filename}/"):
                return info, inner[len(info.filename) + 1 :]
    likely = [info for info in files if has_rows(info.filename)] or files
    if len(likely) == 1 and not inner:
        return likely[0], ""
    if not likely:
        raise Fault("is an archive without files", "is it the right file?")
    shown = ", ".join(info.filename for info in likely[:8]) + (" ..." if len(likely) > 8 else "")
    wrong = f"has no file {inner!r:.60}" if inner else f"has {counted(len(likely), 'file')}"
    if not has_rows(likely[0].filename):  # such as train.en and train.sw: a path alone reads none
        raise Fault(
            f"{wrong}: {shown}",
            "unpack it; if each line of one file translates the same line of another, give both",
        )
    raise Fault(f"{wrong}: {shown}", members=[info.filename for info in likely])
