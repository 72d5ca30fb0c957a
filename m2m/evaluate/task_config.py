"""The keys of a task file of lm-evaluation-harness, with the harness's defaults.

See lm_eval/config/task.py for the keys and lm_eval/api/task.py for their use. A key that needs more
than m2m has is refused by name, and the message says what to write instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m2m.errors import InputError, Problems
from m2m.evaluate.answer_filters import WHOLE, Pipeline, holds_tag, pipelines_of
from m2m.evaluate.task_files import names
from m2m.formats.yaml import Tagged

KINDS = ("multiple_choice", "generate_until", "loglikelihood", "loglikelihood_rolling")
SPLITS = ("test_split", "validation_split", "training_split", "fewshot_split")
DELIMITER, SEPARATOR = " ", "\n\n"
LONGEST_ANSWER = 256  # tokens: max_gen_toks of the harness's models, for a task without a limit
_FUNCTIONS = ("process_docs", "doc_to_text", "doc_to_target", "doc_to_choice")
_USED = {
    *(*SPLITS, *_FUNCTIONS, "dataset_path", "dataset_name", "dataset_kwargs", "output_type"),
    *("generation_kwargs", "description", "target_delimiter", "fewshot_delimiter"),
    *("num_fewshot", "fewshot_config", "repeats", "filter_list", "metric_list", "gen_prefix"),
    "process_results",
}
# Names and notes do not change a number.
_NO_MATTER = {
    *("task", "task_alias", "tag", "group", "group_alias", "metadata", "task_list"),
    *("should_decontaminate", "doc_to_decontamination_query", "unsafe_code"),
}
# Keys of the harness that need code or a network: why, and the lines of a child file without them.
_NEEDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "process_results": ("m2m has its own metrics", ("process_results: null",)),
    "custom_dataset": (
        "it is a program that makes the rows",
        ("custom_dataset: null", "dataset_path: ORG/NAME"),
    ),
    "use_prompt": (
        "the prompt is in another package",
        ("use_prompt: null", 'doc_to_text: "{{FIELD}}"'),
    ),
    "doc_to_image": ("m2m evaluates texts only", ()),
    "doc_to_audio": ("m2m evaluates texts only", ()),
    "class": ("this task is a program", ()),
}
# The types of each value; null counts as a missing key.
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys((*SPLITS, "dataset_path", "dataset_name", "output_type"), (str,)),
    **dict.fromkeys(("target_delimiter", "fewshot_delimiter", "gen_prefix"), (str,)),
    **dict.fromkeys(("dataset_kwargs", "generation_kwargs", "fewshot_config"), (dict,)),
    **dict.fromkeys(("num_fewshot", "repeats"), (int,)),
    "filter_list": (list,),
    "description": (str,),
    "process_docs": (Tagged,),
    "doc_to_text": (str, int, Tagged),
    "doc_to_target": (str, int, list, Tagged),
    "doc_to_choice": (str, list, dict, Tagged),
}
_NEEDED = {
    "dataset_path": "dataset_path: ORG/NAME",
    "doc_to_text": 'doc_to_text: "{{FIELD}}"',
    "doc_to_target": 'doc_to_target: "{{FIELD}}"',
}
_WORDS = {
    **{str: "a text", int: "a whole number", list: "a list", dict: "keys and values"},
    Tagged: "!function",
}
_GREEDY = ("do_sample", "temperature", "top_p", "top_k", "num_beams", "min_p", "seed")
_EXACT = ("regexes_to_ignore", "ignore_case", "ignore_punctuation", "ignore_numbers")
_SHOTS = {
    *("sampler", "split", "samples", "process_docs", "doc_to_text", "doc_to_choice"),
    *("doc_to_target", "gen_prefix", "fewshot_delimiter", "target_delimiter", "fewshot_indices"),
}


class GroupFound(InputError):
    """The file is a group of tasks."""


@dataclass(frozen=True)
class Side:
    """How a row is asked: the tested rows and the solved examples may differ."""

    text: Any
    target: Any
    choice: Any
    prefix: str | None
    delimiter: str
    separator: str


@dataclass(frozen=True)
class Config:
    """A task file's keys after its includes, with defaults.

    Attributes:
        path: the task file.
        keys: all keys that are not null.
        kind: the `output_type`.
        asked: how the tested rows are asked.
        solved: how solved examples are asked.
        shots: `num_fewshot`; None if the file leaves it open.
        sampler: "default" or "first_n".
        samples: solved examples that the file lists itself.
        stop: texts that end a written answer.
        longest: tokens of a written answer.
        notes: what m2m does otherwise than the file says, in sentences.
        pipelines: the lists of filters of written answers.
    """

    path: Path
    keys: Mapping[str, Any]
    kind: str
    asked: Side
    solved: Side
    shots: int | None
    sampler: str = "default"
    samples: tuple[Mapping[str, Any], ...] | None = None
    stop: tuple[str, ...] = ()
    longest: int = LONGEST_ANSWER
    notes: tuple[str, ...] = field(default=())
    pipelines: tuple[Pipeline, ...] = (WHOLE,)

    @property
    def exact(self) -> Mapping[str, Any]:
        """Return the options of `exact_match`, such as ignore_case; the last one counts."""
        listed = reversed(self.keys.get("metric_list") or [])
        found: Mapping[str, Any] = next(
            (each for each in listed if each.get("metric") == "exact_match"), {}
        )
        return {key: found[key] for key in _EXACT if found.get(key)}

    @property
    def name(self) -> str:
        """Return the task's name."""
        return str(self.keys.get("task") or self.path.stem)


def read_config(path: Path, merged: Mapping[str, Any]) -> Config:
    """Check the keys of a task file and fill in the harness's defaults.

    Raises:
        InputError: lists all keys that m2m cannot use, with the next step for each.
    """
    keys = {key: value for key, value in merged.items() if value is not None}
    _refuse_group(path, keys)
    _refuse_unknown(path, keys)
    kind = keys.get("output_type", "generate_until")
    if kind not in KINDS:
        hint = f"choose one of {', '.join(KINDS)}"
        raise InputError(f"{path}: output_type is {kind!r:.60}", hint)
    if kind == "multiple_choice" and keys.get("doc_to_choice") is None:
        raise InputError(f"{path}: multiple_choice without `doc_to_choice`", "add it")
    shown = dict(keys.get("fewshot_config") or {})
    _refuse_shots(path, shown)
    asked = Side(
        keys["doc_to_text"],
        keys["doc_to_target"],
        keys.get("doc_to_choice"),
        keys.get("gen_prefix"),
        keys.get("target_delimiter", DELIMITER),
        keys.get("fewshot_delimiter", SEPARATOR),
    )
    # A key that the solved examples do not set, or set to null, is the tested rows' own one only if
    # it is missing (lm_eval/config/task.py, FewshotConfig.from_dict).
    solved = Side(
        _own(shown, "doc_to_text", asked.text),
        _own(shown, "doc_to_target", asked.target),
        shown.get("doc_to_choice", asked.choice),
        shown.get("gen_prefix", asked.prefix),
        shown.get("target_delimiter", asked.delimiter),
        shown.get("fewshot_delimiter", asked.separator),
    )
    samples = shown.get("samples")
    stop, longest, notes = _generation(path, keys, asked.separator)
    pipelines, left_out = pipelines_of(keys)
    if kind == "generate_until":
        notes = (*notes, *left_out)
    return Config(
        path,
        keys,
        kind,
        asked,
        solved,
        keys.get("num_fewshot"),
        shown.get("sampler", "default"),
        None if samples is None else tuple(samples),
        stop,
        longest,
        notes,
        tuple(pipelines),
    )


def _own(shown: Mapping[str, Any], key: str, other: Any) -> Any:
    value = shown.get(key)
    return other if value is None else value


def _refuse_group(path: Path, keys: Mapping[str, Any]) -> None:
    if "group" not in keys or isinstance(keys.get("task"), str):
        return
    raise GroupFound(
        f"{path}: is the group {keys['group']!r:.60}, no task",
        "`m2m eval` takes a group; elsewhere give the files of its tasks",
    )


def _refuse_unknown(path: Path, keys: Mapping[str, Any]) -> None:
    problems, lines, hopeless = Problems(), [f"include: {path.name}"], False
    for key, value in keys.items():
        kinds = _TYPES.get(key, (object,))
        if key in _NEEDS and value and not (key == "process_results" and counts_sizes(keys)):
            why, instead = _NEEDS[key]
            problems.add(f"`{key}` is not supported; {why}")
            lines += instead
            hopeless = hopeless or not instead
        elif key not in _USED | _NO_MATTER and value not in ([], {}, "", False):
            problems.add(f"`{key}` is not supported")
            lines.append(f"{key}: null")
        elif key in _NO_MATTER or key == "metric_list":
            continue
        elif not isinstance(value, kinds) or (isinstance(value, bool) and key in _TYPES):
            tagged = f" ({value.place})" if isinstance(value, Tagged) else ""
            expected = " or ".join(_WORDS[kind] for kind in kinds)
            problems.add(f"`{key}` is {value!r:.60}{tagged}, expected {expected}")
            lines.append(f"{key}: ({expected})")
    if wrong := _metrics_fault(keys.get("metric_list", [])):
        problems.add(f"`metric_list` {wrong}")
        lines.append("metric_list: [{metric: acc}]")
    for key, line in _NEEDED.items():
        if not keys.get(key) if key == "dataset_path" else keys.get(key) is None:
            problems.add(f"`{key}` is missing")
            lines.append(line)
    hint = "write a child file next to it with the lines " + ", ".join(
        f"`{line}`" for line in dict.fromkeys(lines)
    )
    if keys.get("process_results") and not counts_sizes(keys):
        hint += "; its numbers are then of another kind than those that are published for the task"
    hint = "choose another task" if hopeless else hint
    problems.raise_if_any(InputError, str(path), hint)


def counts_sizes(keys: Mapping[str, Any]) -> bool:
    """Return whether `process_results` is a function that may count words and bytes of texts."""
    rolls = keys.get("output_type") == "loglikelihood_rolling"
    return rolls and isinstance(keys.get("process_results"), Tagged)


def _metrics_fault(listed: Any) -> str:
    if not _is_list(listed):
        return f"is {listed!r:.60}, expected a list of keys and values"
    tagged = any(holds_tag([each.get(key) for key in _EXACT]) for each in listed)
    return f"has a mark in {', '.join(_EXACT)}; write plain values" if tagged else ""


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _refuse_shots(path: Path, shown: Mapping[str, Any]) -> None:
    problems = Problems()
    for key, value in shown.items():
        if key not in _SHOTS:
            problems.add(f"fewshot_config has `{key}`, which the harness does not read")
        if key in ("samples", "sampler") and holds_tag(value):
            problems.add(f"fewshot_config: `{key}` is {value!s:.60}, expected plain values")
    samples = shown.get("samples")
    if samples is not None and not _is_list(samples) and not holds_tag(samples):
        problems.add(f"fewshot_config: `samples` is {samples!r:.40}, expected a list of rows")
    sampler = shown.get("sampler", "default")
    if sampler not in ("default", "first_n") and not holds_tag(sampler):
        problems.add(f"fewshot_config: `sampler` is {sampler!r:.40}, expected default or first_n")
    hint = (
        f"write a child file next to it with the lines `include: {path.name}`, `fewshot_config: "
        "{samples: [{FIELD: text}]}`; or with `fewshot_config: null`, `num_fewshot: 0`"
    )
    problems.raise_if_any(InputError, str(path), hint)


def _generation(
    path: Path, keys: Mapping[str, Any], separator: str
) -> tuple[tuple[str, ...], int, tuple[str, ...]]:
    """Return the texts that end a written answer, its largest number of tokens, and notes."""
    options = dict(keys.get("generation_kwargs") or {})
    until = options.pop("until", separator)
    limits = [options.pop(key, None) for key in ("max_gen_toks", "max_new_tokens", "max_tokens")]
    longest = next((limit for limit in limits if limit is not None), LONGEST_ANSWER)
    heat = options.get("temperature") or 0
    try:
        heat = float(heat)  # as lm_eval/config/task.py: it may be a text
    except (TypeError, ValueError):
        words = f"{path}: temperature is {heat!r:.40}, expected a number"
        raise InputError(words, "leave it out") from None
    samples = bool(options.get("do_sample")) or heat > 0
    notes: tuple[str, ...] = ()
    if samples and keys.get("output_type", "generate_until") == "generate_until":
        notes = ("the file asks for answers by chance; m2m takes the likeliest, which is greedy",)
    if (count := keys.get("repeats", 1)) != 1:
        notes += (
            f"the file asks for each answer {count} times; likeliest answers are all the same",
        )
    others = [key for key in options if key not in _GREEDY]
    if others:
        raise InputError(
            f"{path}: generation_kwargs has {', '.join(map(str, others))}",
            "answers are greedy: leave it out",
        )
    if type(longest) is not int or longest < 1:
        words = f"{path}: max_gen_toks is {longest!r:.40}, expected a number from 1"
        raise InputError(words, "write a whole number without quotes in a child file")
    ends = names([] if until is None else until, "until", path)
    return tuple(end for end in ends if end), longest, notes
