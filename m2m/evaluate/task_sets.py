"""Find the files of a set of the Hugging Face hub on this machine, by configuration and split.

The rules are those of `datasets.load_dataset` (datasets/load.py and datasets/data_files.py): the
set's card may name the files of each configuration; `save_to_disk` and the cache of `load_dataset`
have folders of their own; otherwise the names of files and folders say it. Nothing is fetched.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m2m.errors import InputError
from m2m.evaluate.set_features import Features, features_of
from m2m.evaluate.task_files import TaskFiles
from m2m.formats.archives import has_rows
from m2m.formats.yaml import front_matter
from m2m.opening import SETTINGS, read_text, refuse_outside

# What `load_dataset` takes from a card's configuration and m2m knows: the form of a table.
FORM = {"sep", "delimiter", "header", "column_names", "names", "field"}
# Names of splits in files, by the split that they mean (datasets/data_files.py).
_ALIASES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_OTHERS = {"README.md", "config.json", "state.json", "dataset_dict.json"}
_OTHERS |= {"dataset_info.json", "dataset_infos.json", "dummy_data.zip"}
_SHARD = re.compile(r"-\d{5}-of-\d{5}(-[0-9a-f]{16})?$")
_SHARDED = re.compile(r"data/(?>(.*?)-\d{5}-of-\d{5}).*\..*", re.DOTALL)
_SIGNS = "-_. /"
_SIGN = "[-._ 0-9]"  # NON_WORDS_CHARS
_DEPTH = 6  # folders below each other
_MOST_FILES = 10_000
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


@dataclass(frozen=True)
class SplitFiles:
    """The files of a split.

    Attributes:
        paths: in the order of their rows; a folder that `save_to_disk` wrote counts as a file.
        form: settings of tables that the set's card gives.
        features: the types of columns that it gives.
    """

    paths: list[Path]
    form: dict[str, Any] = field(default_factory=dict)
    features: Features = field(default_factory=dict)


def folder_of(path: Path, name: str, roots: Sequence[Path], revision: str = "main") -> Path:
    """Return the folder of a set of the hub.

    Args:
        path: the task file, for messages.
        name: ORG/NAME, or NAME.
        roots: folders in which sets may be; each may be a cache of the hub or of `datasets`.
        revision: of the set, which counts in a cache of the hub only.

    Raises:
        InputError: there is none; the message names the folder that m2m expects.
    """
    flat, last = name.replace("/", "--"), name.rpartition("/")[2]
    cached = f"{name.rpartition('/')[0]}___{_snake(last)}" if "/" in name else _snake(last)
    for root in roots:
        for place in (root / name, root / flat, root / cached, root / last):
            if place.is_dir() and not _has_tasks(place):
                return place
        for home in (root / f"datasets--{flat}", root / "hub" / f"datasets--{flat}"):
            if home.is_dir():
                return _snapshot(home, revision)
    where = roots[0] / name
    raise InputError(
        f"{path}: the set {name} is not on this machine: {where} is missing",
        f"on a machine with internet: `hf download {name} --repo-type dataset --local-dir "
        f"{name}`; copy the folder, and name the folder above it with `--data-root`",
    )


def files_of(
    reader: TaskFiles, folder: Path, config: str, split: str, named: Sequence[str] = ()
) -> SplitFiles:
    """Return the files of a split in the folder of a set.

    Args:
        reader: reads the set's card.
        folder: of the set.
        config: name of the configuration; "" for the default one.
        split: its name.
        named: patterns of `data_files`; with these the card does not count.

    Raises:
        InputError: the folder has no such configuration or split, or it has several.
    """
    if named:
        return SplitFiles([file for name in named for file in matching(reader, folder, name)])
    if saved := _saved(folder, config, split):
        return SplitFiles([saved])
    if "___" in folder.name and (cached := _in_cache(folder, config, split)):
        return SplitFiles(cached)
    card = _configs(reader, folder)
    if not card:
        paths = _by_name(reader.path, folder, config, split)
        return SplitFiles(paths, features=features_of(reader, folder, config or "default"))
    if config in card or not config:
        config = config or _default(reader.path, folder, card)
        settings, features = card[config], features_of(reader, folder, config)
        base = folder / str(settings.get("data_dir") or "")
        form = {key: value for key, value in settings.items() if key in FORM}
        patterns = settings.get("data_files")
        if patterns is None:
            return SplitFiles(_by_name(reader.path, base, "", split), form, features)
        named = _of_split(reader.path, folder, patterns, split)
        paths = [file for name in named for file in matching(reader, base, name)]
        return SplitFiles(paths, form, features)
    if any(config in file.relative_to(folder).parts for file in _listing(reader.path, folder)):
        return SplitFiles(_by_name(reader.path, folder, config, split))
    raise InputError(
        f"{reader.path}: {folder / 'README.md'} has no configuration {config!r:.60}; it has "
        f"{', '.join(card):.200}",
        "correct `dataset_name` in a child file, or download the newest version of the set",
    )


def matching(reader: TaskFiles, folder: Path, name: str) -> list[Path]:
    """Return the files that a name or a pattern of `data_files` means: `data/test-*.parquet`.

    Raises:
        InputError: no file has such a name.
    """
    if not re.search(r"[*?\[]", name):
        return [folder / name]
    refuse_outside(folder, reader.path.parent, reader.roots)
    pattern = _regex(name)
    chosen = [
        file
        for file in _listing(reader.path, folder)
        if pattern.fullmatch(file.relative_to(folder).as_posix())
    ]
    if not chosen:
        raise InputError(
            f"{reader.path}: {folder} has no file like {name:.100}",
            "download the whole set again",
        )
    return chosen


def _has_tasks(folder: Path) -> bool:
    """Return whether a folder is one of task files: these are often called as their set is."""
    return any(next(folder.glob("*/" * up + "*.yaml"), None) for up in range(3))


def _snake(name: str) -> str:
    """Return a set's name as `datasets` writes it in its cache (`camelcase_to_snakecase`)."""
    name = re.sub(r"(?<![A-Z])([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return re.sub(r"([a-z\d])([A-Z])", r"\1_\2", name).lower()


def _snapshot(home: Path, revision: str) -> Path:
    """Return the folder of a revision in the hub's cache.

    Raises:
        InputError: it is not there, or none is named and there are several.
    """
    saved = sorted((home / "snapshots").glob("*"))
    reference = home / "refs" / revision
    commit = read_text(reference, SETTINGS).strip() if reference.is_file() else revision
    if _COMMIT.fullmatch(commit) and (home / "snapshots" / commit).is_dir():
        return home / "snapshots" / commit
    if len(saved) == 1 and revision == "main":
        return saved[0]
    shown = ", ".join(place.name[:12] for place in saved[:4]) or "none"
    raise InputError(
        f"{home}: has no snapshot of the revision {revision!r:.60}; it has {shown}",
        f"write the wanted name of a snapshot to {home / 'refs' / 'main'}, or download it again",
    )


def _saved(folder: Path, config: str, split: str) -> Path | None:
    """Return the folder of a split that `save_to_disk` wrote."""
    for base in [folder / config, folder] if config else [folder]:
        if (base / "dataset_dict.json").is_file():
            if (base / split / "state.json").is_file():
                return base / split
            splits = sorted(place.parent.name for place in base.glob("*/state.json"))
            raise InputError(
                f"{base}: has no split {split!r:.60}; it has {', '.join(splits):.200}",
                "name a split that it has",
            )
        if (base / "state.json").is_file():
            own = _object(base / "state.json").get("_split")
            if own in (None, split):
                return base
            raise InputError(
                f"{base}: is the split {own!r:.60}, and {split!r:.60} is needed",
                "save the whole set: `load_dataset(...).save_to_disk(...)`",
            )
    return None


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_text(path, SETTINGS))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InputError(f"{path}: is not a JSON object", "save the set again")
    return value


def _in_cache(folder: Path, config: str, split: str) -> list[Path]:
    """Return the files of a split in the cache of `load_dataset`.

    A file there is CONFIGURATION/VERSION/HASH/NAME-SPLIT.arrow, or has several parts.
    """
    ending = re.compile(rf"-{re.escape(split)}(-\d{{5}}-of-\d{{5}})?\.arrow")
    homes: dict[Path, list[Path]] = {}
    for file in sorted(folder.glob(f"{config or 'default'}/*/*/*.arrow")):
        start = folder.name.rpartition("___")[2]
        if file.name.startswith(start) and ending.fullmatch(file.name[len(start) :]):
            homes.setdefault(file.parent, []).append(file)
    if len(homes) > 1:
        raise InputError(
            f"{folder}: the cache has {len(homes)} versions: {', '.join(map(str, homes)):.300}",
            "remove those that are old",
        )
    return next(iter(homes.values()), [])


def _configs(reader: TaskFiles, folder: Path) -> dict[str, Mapping[str, Any]]:
    """Return the configurations that a set's card names, with their settings."""
    card = folder / "README.md"
    if not card.is_file():
        return {}
    head = front_matter(reader.text(card).text, str(card), "configs")
    configs = head.get("configs") if isinstance(head, Mapping) else None
    if configs is None:
        return {}
    if not isinstance(configs, list) or not all(isinstance(item, Mapping) for item in configs):
        raise InputError(f"{card}: `configs` is not a list of configurations", "download it again")
    return {str(item.get("config_name", "default")): item for item in configs}


def _default(path: Path, folder: Path, configs: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the name of the configuration that counts if a task names none."""
    marked = [name for name, settings in configs.items() if settings.get("default") is True]
    named = marked or (["default"] if "default" in configs else list(configs))
    if len(named) == 1:
        return named[0]
    raise InputError(
        f"{path}: {folder} has {len(configs)} configurations: {', '.join(configs):.200}",
        "name one in a child file: `dataset_name: NAME`",
    )


def _of_split(path: Path, folder: Path, given: Any, split: str) -> list[str]:
    """Return the patterns of a split in a card's `data_files` (`sanitize_patterns`)."""
    items = given if isinstance(given, list) else [given]
    splits: dict[str, list[str]] = {}
    for item in items:
        is_pair = isinstance(item, Mapping)
        name, paths = (item.get("split"), item.get("path")) if is_pair else ("train", item)
        for text in paths if isinstance(paths, list) else [paths]:
            if not isinstance(text, str):
                raise InputError(f"{folder}/README.md: data_files has {item!r:.60}", "correct it")
            splits.setdefault(str(name), []).append(text)
    if split not in splits:
        raise InputError(
            f"{path}: {folder / 'README.md'} names no files of the split {split!r:.60}; it names "
            f"{', '.join(splits):.200}",
            "name a split that it has",
        )
    return splits[split]


def _regex(pattern: str) -> re.Pattern[str]:
    """Return a pattern of names as `fsspec` reads it: `*` stays in a folder, `**` does not."""
    parts = []
    for part in re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]/]{1,255}\])", pattern.removeprefix("./")):
        meant = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(part)
        if meant is None and part.startswith("[") and len(part) > 2:
            inner = part[1:-1].replace("\\", "\\\\").replace("[", "\\[")
            meant = f"[^{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"
        parts.append(re.escape(part) if meant is None else meant)
    return re.compile("".join(parts))


def _listing(path: Path, folder: Path) -> list[Path]:
    """Return all files of a set but hidden ones, by name; links to folders are not followed."""
    files: list[Path] = []
    for place, folders, names in os.walk(folder):
        deep = len(Path(place).relative_to(folder).parts)
        folders[:] = [f for f in folders if f[0] != "." and not f.startswith("__")]
        if deep >= _DEPTH:
            folders.clear()
        files += [Path(place, n) for n in names if n[0] != "." and n not in _OTHERS]
        if len(files) > _MOST_FILES:
            raise InputError(
                f"{path}: {folder} has more than {_MOST_FILES:,} files",
                "copy the files of this configuration to a folder of their own",
            )
    return sorted(files)


def _by_name(path: Path, folder: Path, config: str, split: str) -> list[Path]:
    """Return the files whose names, or whose folders' names, are of a configuration and split."""
    files = [file for file in _listing(path, folder) if has_rows(file.name)]
    chosen = _fitting(folder, files, config, split)
    kinds = sorted({_kind(file) for file in chosen})
    if len(kinds) > 1:
        raise InputError(
            f"{path}: {folder} has the split {split!r:.60} as {' and as '.join(kinds)}: "
            f"{', '.join(f.relative_to(folder).as_posix() for f in chosen[:4])}",
            "keep the files of one kind",
        )
    if chosen:
        return chosen
    expected = folder / (f"{config}/" if config else "") / f"{split}.jsonl"
    shown = ", ".join(f.relative_to(folder).as_posix() for f in files[:4]) or "no rows"
    hint = f"put it there, for example as {expected}"
    if not files and any(folder.glob("*.py")):
        hint = "the set is a program, which m2m never runs: add `--revision refs/convert/parquet` "
        hint += "to the line that downloads it"
    raise InputError(
        f"{path}: {folder} has {shown}, and no file of the split {split!r:.60}"
        + (f" of {config!r:.60}" if config else ""),
        hint,
    )


def _kind(file: Path) -> str:
    return "".join(suffix for suffix in file.suffixes if len(suffix) <= 8).lower()


def _fitting(folder: Path, files: Sequence[Path], config: str, split: str) -> list[Path]:
    """Return the files of a configuration and split, by their names."""
    if config in ("", "default") and (chosen := _by_default(folder, files).get(split)):
        return chosen
    # A file with the split's own name goes before one with another name for it.
    words = next((alias for alias in _ALIASES.values() if split in alias), ())
    for given in [config] if config not in ("", "default") else [config, ""]:
        for meant in ((split,), words):
            if chosen := [f for f in files if _fits(f.relative_to(folder), given, meant)]:
                return chosen
    return []


def _by_default(folder: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the files of each split of a folder without a card (`get_data_patterns`)."""
    places = {file: file.relative_to(folder) for file in files}
    splits: dict[str, list[Path]] = {}
    for file, place in places.items():
        if len(place.parts) == 2 and (shard := _SHARDED.fullmatch(place.as_posix())):
            splits.setdefault(shard[1], []).append(file)
    if splits:
        return splits
    for in_folders in (True, False):
        for split, words in _ALIASES.items():
            for word in words:
                pattern = re.compile(rf"(.*{_SIGN})?{word}({_SIGN}.*){'?' if in_folders else ''}")
                for file, place in places.items():
                    parts = place.parts[:-1] if in_folders else place.parts[-1:]
                    chosen = splits.setdefault(split, [])
                    if file not in chosen and any(map(pattern.fullmatch, parts)):
                        chosen.append(file)
        if any(splits.values()):
            return splits
    return {"train": list(files)}


def _fits(place: Path, config: str, words: Sequence[str]) -> bool:
    """Return whether a file is of a configuration and has one of these names of a split."""
    stem = place.name
    while Path(stem).suffix and len(Path(stem).suffix) <= 8:
        stem = Path(stem).stem
    stem = _SHARD.sub("", stem)
    above = [part for part in place.parts[:-1] if part != "data"]
    if config:
        if config in above:
            above.remove(config)
        elif stem.startswith(config) and stem[len(config) :][:1] in (*_SIGNS, ""):
            stem = stem[len(config) :].strip(_SIGNS)
        elif stem.endswith(config) and stem[: -len(config)][-1:] in (*_SIGNS, ""):
            stem = stem[: -len(config)].strip(_SIGNS)
        else:
            return False
    if any(part in words for part in above):
        return True
    if stem in words or (stem == "" and "train" in words and not above):
        return True
    parts = re.split(r"[-_. ]", stem)
    return not above and bool(parts) and (parts[0] in words or parts[-1] in words)
