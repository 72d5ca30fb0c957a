"""Read task files of lm-evaluation-harness: the part of them that needs no code and no network.

`output_type` multiple_choice and generate_until over local JSON, JSONL, CSV and TSV files, with
`doc_to_text`, `doc_to_choice` and `doc_to_target` as Jinja templates or names of fields
(lm_eval/api/task.py, ConfigurableTask, and lm_eval/config/task.py for the defaults). Any other
setting is refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from m2m.dataset.examples import Example, Kind, facet
from m2m.dataset.sameness import normalize
from m2m.errors import InputError, Problems
from m2m.evaluate.prompts import SEPARATOR, Form
from m2m.evaluate.task_files import TaskFiles, names
from m2m.evaluate.tasks import Task, assembled
from m2m.formats.records import Record, read_records
from m2m.formats.yaml import Tagged
from m2m.store import fingerprint
from m2m.tokenizer import TextTemplate

SUFFIXES = (".yaml", ".yml")
_PLACE = re.compile(r"\d{1,20}")  # of a choice; int() takes no "²", and no 5,000 digits
_MOST_TEXT = 1 << 28  # characters of the examples of a split; up to 1 GiB of memory
Part = Literal["dev", "test"]

_SPLITS = ("test_split", "validation_split", "training_split", "fewshot_split")
_USED = {
    *(*_SPLITS, "dataset_path", "dataset_kwargs", "output_type", "generation_kwargs"),
    *("doc_to_text", "doc_to_choice", "doc_to_target", "description"),
    *("target_delimiter", "fewshot_delimiter", "num_fewshot", "fewshot_config", "repeats"),
}
# m2m reports all its own metrics that fit; names and notes do not change a number.
_NO_MATTER = {
    *("task", "task_alias", "tag", "group", "group_alias", "metadata", "metric_list"),
    *("should_decontaminate", "doc_to_decontamination_query"),
}
# The types of each value; null counts as a missing key.
_VALUES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys((*_SPLITS, "dataset_path", "output_type", "description"), (str,)),
    **dict.fromkeys(("target_delimiter", "fewshot_delimiter", "doc_to_text"), (str,)),
    **dict.fromkeys(("dataset_kwargs", "generation_kwargs", "fewshot_config"), (dict,)),
    **dict.fromkeys(("num_fewshot", "repeats"), (int,)),
    "doc_to_target": (str, int, list),
    "doc_to_choice": (str, list, dict),
}
_KINDS: dict[str, Kind] = {"multiple_choice": "choices", "generate_until": "answer"}
_WORDS = {str: "a text", int: "a whole number", list: "a list", dict: "keys and values"}
_LONGEST_ANSWER = 256  # tokens: max_gen_toks of the harness's models, for a task without a limit
_NO_TAG = (
    "m2m runs no code from a file and takes plain values only; write a template, text or number"
)


def load_harness(path: Path, part: Part, seed: int = 0, roots: Sequence[Path] = ()) -> Task:
    """Return a task file's examples, and the form in which the harness would ask them.

    Args:
        path: the YAML file; the files that it names are relative to its folder.
        part: "dev" takes the validation split and "test" the test split, if the file has both.
        seed: draws the solved examples, unless the file takes the first ones.
        roots: folders, besides its own, in which it may name files.

    Raises:
        InputError: unreadable, or more than the supported part; the message lists all problems.
    """
    path = Path(path)
    reader = TaskFiles(path, roots)
    config = reader.config()
    _refuse_unknown(config, path)
    kind = _kind(config, path)
    files = _files(config, path)
    rows = _Rows(config, kind, reader)
    scored = _split(config, files, part, path)
    examples, read = rows.read(scored), list(scored)
    pool: Sequence[Example] = ()
    if config.get("num_fewshot"):
        tested, solved = _split(config, files, "test", path), _shots(config, files, path)
        barred = {normalize(example.prompt) for example in rows.read(tested)}
        pool = [example for example in rows.read(solved) if normalize(example.prompt) not in barred]
        read += [*tested, *solved]
    # Use the merged keys, so that an included file's keys count as if they were written here; a tag
    # can remain only in a key that has no effect.
    plain = json.loads(json.dumps(config, default=str))
    mark = fingerprint(task=plain, rows=[reader.rows(file).sha256 for file in dict.fromkeys(read)])
    form = _form(config, tuple(pool), seed, path)
    task = Task(kind, tuple(examples), path, mark, form, sha256=reader.sha256)
    return assembled(task)


def _refuse_unknown(config: Mapping[str, Any], path: Path) -> None:
    problems = Problems()
    for key, value in config.items():
        if key not in _NO_MATTER and (tagged := _tagged(value)):
            problems.add(f"`{key}` has {str(tagged)!r:.60} ({tagged.place}): {_NO_TAG}")
            continue
        if key not in _USED | _NO_MATTER and value not in (None, [], {}, "", False):
            problems.add(f"`{key}` is not supported")
        kinds = _VALUES.get(key, (object,))
        if not isinstance(value, kinds) or (isinstance(value, bool) and key in _VALUES):
            expected = " or ".join(_WORDS[kind] for kind in kinds)
            problems.add(f"`{key}` is {value!r:.60}, expected {expected}")
    if config.get("dataset_path") not in ("json", "csv"):
        loader = config.get("dataset_path")
        problems.add(f"dataset_path is {loader!r:.60}, expected json or csv with local files")
    if config.get("repeats", 1) != 1:
        problems.add("`repeats` is not supported: answers are greedy, all would be the same")
    for key in ("doc_to_text", "doc_to_target", "output_type"):
        if config.get(key) is None:
            problems.add(f"`{key}` is missing")
    hint = "m2m reads the simple part of such task files: docs/targets.md says which"
    problems.raise_if_any(InputError, str(path), hint)


def _tagged(value: Any) -> Tagged | None:
    """Return the first value with a tag inside a value of YAML; None if there is none."""
    if isinstance(value, Tagged):
        return value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next(filter(None, map(_tagged, inner)), None)


def _kind(config: Mapping[str, Any], path: Path) -> Kind:
    kind = _KINDS.get(str(config["output_type"]))
    if kind is None:
        raise InputError(
            f"{path}: output_type {config['output_type']!r}, expected one of {', '.join(_KINDS)}",
            'texts are targets of their own: rows {"text"}, or a .txt file',
        )
    if kind == "choices" and config.get("doc_to_choice") is None:
        raise InputError(f"{path}: multiple_choice without `doc_to_choice`", "add it")
    return kind


def _files(config: Mapping[str, Any], path: Path) -> dict[str, list[Path]]:
    """Return the data files of each split; one without a split is `train`, as in `datasets`."""
    arguments = config.get("dataset_kwargs") or {}
    data_files = arguments.get("data_files") if isinstance(arguments, dict) else None
    others = [key for key in arguments if key != "data_files"]
    if not data_files or others:
        raise InputError(
            f"{path}: dataset_kwargs is {arguments!r:.60}, expected data_files and nothing else",
            "name local files: dataset_kwargs: {data_files: {test: test.jsonl}}",
        )
    splits = data_files if isinstance(data_files, dict) else {"train": data_files}
    return {
        name: [path.parent / file for file in names(value, f"data_files of {name!r:.40}", path)]
        for name, value in splits.items()
    }


def _split(
    config: Mapping[str, Any], files: Mapping[str, list[Path]], part: Part, path: Path
) -> list[Path]:
    order = ("test_split", "validation_split")
    return _first(config, files, order if part == "test" else order[::-1], path)


def _shots(config: Mapping[str, Any], files: Mapping[str, list[Path]], path: Path) -> list[Path]:
    return _first(config, files, ("fewshot_split", "training_split", "validation_split"), path)


def _first(
    config: Mapping[str, Any], files: Mapping[str, list[Path]], keys: Sequence[str], path: Path
) -> list[Path]:
    """Return the files of the first of these splits that the task names."""
    name = next((config[key] for key in keys if config.get(key)), None)
    if name is None or name not in files:
        raise InputError(
            f"{path}: {' or '.join(keys)} is {name!r}, data_files has {', '.join(files)}",
            "name a split that has a file",
        )
    return files[name]


def _form(config: Mapping[str, Any], pool: tuple[Example, ...], seed: int, path: Path) -> Form:
    shots = config.get("num_fewshot", 0)
    if shots < 0:
        raise InputError(f"{path}: num_fewshot is {shots}, expected 0 or more")
    sampler = (config.get("fewshot_config") or {}).get("sampler", "default")
    others = (config.get("fewshot_config") or {}).keys() - {"sampler"}
    if others or sampler not in ("default", "first_n"):
        raise InputError(
            f"{path}: fewshot_config {config['fewshot_config']!r:.60} is not supported",
            "use sampler: default (drawn with m2m's seed) or first_n",
        )
    separator = config.get("fewshot_delimiter", SEPARATOR)
    stop, longest = _generation(config, separator, path)
    return Form(
        style="raw",
        instruction=config.get("description") or "",
        shots=shots,
        pool=pool,
        seed=None if sampler == "first_n" else seed,
        delimiter=config.get("target_delimiter", " "),
        separator=separator,
        stop=stop,
        max_tokens=longest,
    )


def _generation(
    config: Mapping[str, Any], separator: str, path: Path
) -> tuple[tuple[str, ...], int]:
    """Return the texts that end a written answer, and its largest number of tokens."""
    options = dict(config.get("generation_kwargs") or {})
    until = options.pop("until", separator)
    longest = options.pop("max_gen_toks", _LONGEST_ANSWER)
    wrong = {
        key: value
        for key, value in options.items()
        if (key, bool(value)) not in (("do_sample", False), ("temperature", False))
    }
    if wrong:
        raise InputError(
            f"{path}: generation_kwargs {wrong!r:.60} is not supported",
            "answers are greedy: leave it out",
        )
    if type(longest) is not int or longest < 1:
        raise InputError(f"{path}: max_gen_toks is {longest!r:.40}, expected a number from 1")
    return tuple(names(until, "until", path)), longest


def _size(example: Example) -> int:
    """Return about how many characters an example takes; a short text takes 50 bytes, too."""
    return len(example.prompt) + sum(len(text) + 50 for text in example.choices)


class _Rows:
    """Turns rows into examples; compiles each template once."""

    def __init__(self, config: Mapping[str, Any], kind: Kind, reader: TaskFiles) -> None:
        self._kind, self._reader = kind, reader
        self._typed = config["dataset_path"] == "csv"
        self._say: dict[str, Any] = {}
        for key in ("doc_to_text", "doc_to_target", "doc_to_choice"):
            value = config.get(key)
            try:
                self._say[key] = (
                    TextTemplate(value, str(reader.path)) if isinstance(value, str) else value
                )
            except InputError as error:
                raise InputError(f"{reader.path}: {key}: {error.message}") from error

    def read(self, files: Sequence[Path]) -> list[Example]:
        """Read all rows of some files.

        Raises:
            InputError: lists all mistakes with their lines.
        """
        problems, examples, size = Problems(), list[Example](), 0
        for file in self._reader.split(files):
            records = read_records(file)
            for record in typed(records) if self._typed else records:
                try:
                    examples.append(self._example(record))
                    size += _size(examples[-1])
                except InputError as error:
                    problems.add(f"line {record.line}: {error.message}")
                if size > _MOST_TEXT:
                    raise InputError(
                        f"{file.path}:{record.line}: up to this row the templates of "
                        f"{self._reader.path} write more than {_MOST_TEXT:,} characters",
                        "correct the templates, or keep a part of the rows",
                    )
        problems.raise_if_any(InputError, ", ".join(map(str, files)))
        if not examples:
            raise InputError(f"{', '.join(map(str, files))}: no rows", "a task needs an example")
        return examples

    def _example(self, record: Record) -> Example:
        fields = record.fields
        prompt = self._value("doc_to_text", fields)
        if not isinstance(prompt, str):
            raise InputError(f"doc_to_text gives {prompt!r:.40}, expected a text")
        target = self._value("doc_to_target", fields)
        if self._kind == "answer":
            answers = tuple(
                str(answer) for answer in (target if isinstance(target, list) else [target])
            )
            if not answers or not answers[0].strip():
                raise InputError(f"doc_to_target gives {target!r:.40}, expected a text")
            return Example(prompt, answers[:1], 0, record.line, facet(fields), answers)
        if prompt.isdigit():
            raise InputError("doc_to_text gives a number: choices inside prompts are not supported")
        choices = self._choices(fields)
        gold = choices.index(target) if target in choices else target
        if not isinstance(gold, int) or isinstance(gold, bool) or not 0 <= gold < len(choices):
            raise InputError(f"doc_to_target gives {target!r:.40}, which is none of the choices")
        return Example(prompt, choices, gold, record.line, facet(fields))

    def _value(self, key: str, fields: Mapping[str, Any]) -> Any:
        """Return a field by its name, or a template's text; a number or list if it looks so."""
        rule = self._say[key]
        if not isinstance(rule, TextTemplate):
            return rule
        if rule.source in fields:
            return fields[rule.source]
        text = rule.render(fields)
        places = key == "doc_to_target" and self._say["doc_to_choice"] is not None
        if places and _PLACE.fullmatch(text):
            return int(text)
        if key == "doc_to_choice" or (key == "doc_to_target" and re.fullmatch(r"(?s)\[.*\]", text)):
            try:
                return rule.literal(text)
            except InputError:
                if key == "doc_to_choice":
                    raise InputError(f"doc_to_choice gives {text!r:.40}, no list") from None
        return text

    def _choices(self, fields: Mapping[str, Any]) -> tuple[str, ...]:
        choices = self._value("doc_to_choice", fields)
        choices = list(choices.values()) if isinstance(choices, dict) else choices
        if (
            not isinstance(choices, list)
            or len(choices) < 2
            or not all(isinstance(choice, str) and choice for choice in choices)
        ):
            raise InputError(f"doc_to_choice gives {choices!r:.40}, expected two texts or more")
        return tuple(choices)


def typed(records: Sequence[Record]) -> list[Record]:
    """Return CSV rows with numbers if a whole column consists of numbers, as pandas reads it."""
    kinds: dict[str, Any] = {}
    for name in records[0].fields if records else ():
        values = [record.fields[name] for record in records]
        if all(re.fullmatch(r"[-+]?[0-9]+", value) for value in values):
            kinds[name] = int
        elif all(re.fullmatch(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)", value) for value in values):
            kinds[name] = float
    return [
        Record({k: kinds.get(k, str)(v) for k, v in record.fields.items()}, record.line)
        for record in records
    ]
