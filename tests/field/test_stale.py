"""Nothing old is reused where it could matter: over every field of the recipe, and every input."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from m2m.errors import InputError, M2MError
from m2m.mix.mixture import BASE, Mixture
from m2m.pipeline.inputs import expert_corpus, read_inputs
from m2m.pipeline.run import Run
from m2m.pipeline.scorer import open_scorer
from m2m.progress import Silent
from m2m.recipe import LISTS, SECTIONS, Recipe, load_recipe
from m2m.tuner.result import Origin, identity
from tests.field.places import outcome
from tests.tiers import sampled
from tests.tiny import dataset_rows, pico_dataset, pico_model, pico_target

# What a field decides. Where nothing is said here, a field of [train] decides adapters, one of
# [merge], [quantize] and [[targets]] scores, one of [base] and [[datasets]] both, and one of the
# other sections only which mixtures are asked for, what is confirmed, or how fast it goes.
DECIDES = {
    "train": {"adapters"},
    "merge": {"scores"},
    "quantize": {"scores"},
    "targets": {"scores"},
    "base": {"adapters", "scores"},
    "datasets": {"adapters"},
}
EXCEPTIONS: dict[str, set[str]] = {
    # Words for the reader, carried into the export, which is written anew each time.
    "datasets.licence": set(),
    "datasets.source": set(),
    "datasets.notes": set(),
    # A name is where results lie; rankings are computed anew from kept scores each time.
    "datasets.name": {"adapters"},
    "datasets.control": set(),  # which mixtures are confirmed
    # The expert is not trained here, and its bytes are in the keys of scores.
    "datasets.adapter": set(),
    "targets.name": {"scores"},
    "targets.metric": set(),
    "targets.weight": set(),
    "targets.test": set(),  # scored by confirm alone
    "targets.test_where": set(),
    "quantize.export": set(),  # written anew each time
    # They act on datasets of 200 rows and more, or with what such datasets hold out.
    "train.holdout": set(),
    "train.patience": set(),
    "train.checkpoint_every": set(),
    # Only with [train] replay.
    "train.replay_from": set(),
    "base.hub": set(),
    "confirm.budget": {"scores"},  # the regime decides how far merges reach
    "datasets.languages": set(),
    # They act on targets of other kinds than the scenario's: solved examples, written answers.
    "targets.shots_from": set(),
    "targets.shots_seed": set(),
    "targets.stop": set(),
    "targets.max_tokens": set(),
    "targets.answer_suffix": set(),  # in solved examples and written answers
    # The scenario's texts are ASCII, its files JSON lines without bad rows, and no mapping is named
    # that is not the default one. More of these in tests/field/test_stale_rows.py.
    "data.normalise": {"adapters"},
    "datasets.like": set(),
    "datasets.bad_rows": set(),
    "targets.like": set(),
    "targets.encoding": set(),
    "targets.header": set(),
    "targets.quotes": set(),
    "targets.bad_rows": set(),
}
# Other threads add in another order: adapters are kept, and are not those of a run from nothing.
SPEED = {"limits.threads"}
# What another strategy scored in full is not forgotten: a race then ends with more than it asked.
KNOWING = {"search.strategy"}
# What does not fit the scenario's rows, or this machine: it is refused, so nothing is reused.
REFUSED = {
    "targets.answer",
    "targets.answers",
    "targets.choices",
    "targets.window",
    "targets.data_root",  # of task files only
    "limits.gpu_layers",
    "limits.device",
    "report.tensorboard",  # its package is not installed
    "search.weights",
    "base.template_variables",
    "datasets.messages",
    "targets.messages",
}
EITHER = {"train.epochs", "train.tokens"}  # other ways to say `steps`
# Where the next value that the rules allow would be no valid recipe here.
_UPPER = dataset_rows("upper", 32)  # the last of the datasets, whose section is changed
VALUES: dict[str, Any] = {
    "base.template_variables": {"enable_thinking": False},
    "train.schedule": "linear",
    "datasets.messages": "{messages}",
    "datasets.choices": tuple(dict.fromkeys(row["completion"] for row in _UPPER)),
    "datasets.labels": {row["completion"]: f"{row['completion']}!" for row in _UPPER},
    "datasets.where": {"prompt": [row["prompt"] for row in _UPPER[:9]]},
    "datasets.like": "copy",
    "datasets.encoding": "cp1252",
    "targets.text": "{question}",
    "targets.messages": "{messages}",
    "targets.labels": {"0": "a", "1": "b", "2": "c", "3": "d"},
    "targets.where": {"answer": [0, 1]},
    "targets.test_where": {"answer": [0, 1]},
    "targets.like": "copy",
    "targets.encoding": "cp1252",
    "train.epochs": 3.0,
    "train.tokens": 4000,
    "train.target_modules": ("q_proj", "v_proj"),
    "confirm.baselines": ("all",),
    "merge.method": "ties",
    "merge.growth": 0.75,
    "base.model": "other",
    "datasets.path": "other.jsonl",
    "datasets.adapter": "given",
    "targets.dev": "other-target.jsonl",
    "targets.test": "other-target.jsonl",
    "targets.data_root": "models",
    "train.replay_from": "other.jsonl",
    "targets.metric": "accuracy",
    "targets.choices": ("a", "b"),
    "targets.shots_from": "other-target.jsonl",
    "targets.stop": ("x",),
    "targets.max_tokens": 9,
    "datasets.languages": ("sw",),
    "limits.memory": 8.0,
    "limits.threads": 2,
    "search.strategy": "racing",
    "search.max_tokens": 100_000,
    "search.required": ("copy",),
    "search.excluded": ("upper",),
    "search.licences": ("CC0-1.0",),
}


def fields() -> Iterator[tuple[str, str, Any]]:
    """Every field of the recipe: section, name and what the dataclass says of it."""
    for section, kind in {**SECTIONS, **LISTS}.items():
        for spec in dataclasses.fields(kind):
            if "hidden" not in spec.metadata:
                yield section, spec.name, spec


def other_value(section: str, spec: Any, hints: dict[str, Any]) -> Any:
    """A value that the field allows and does not have in the scenario."""
    name = f"{section}.{spec.name}"
    if name in VALUES:
        return VALUES[name]
    rules, default = spec.metadata, spec.default
    if "choices" in rules and isinstance(default, str):
        return next(choice for choice in reversed(rules["choices"]) if choice != default)
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return default + 7
    if isinstance(default, float):
        high = rules.get("high", 1e9)
        return default / 2 if default else min(0.25, high)
    return "changed"


FIELDS = {f"{section}.{name}": spec for section, name, spec in fields()}


def toml(value: Any) -> str:
    """A value as TOML writes it on one line."""
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items())
            + "}"
        )
    return json.dumps(value)


def changed(recipe: Path, field: str) -> None:
    """Write the recipe with another value for one field (of the last of several sections)."""
    section, name = field.split(".")
    kind = {**SECTIONS, **LISTS}[section]
    value = other_value(section, FIELDS[field], get_type_hints(kind))
    text = recipe.read_text(encoding="utf-8")
    lines = text.splitlines()
    heads = [
        i for i, line in enumerate(lines) if line.strip() in (f"[{section}]", f"[[{section}]]")
    ]
    if not heads:
        lines += [f"[{section}]"]
        heads = [len(lines) - 1]
    start = heads[-1]
    end = next((i for i in range(start + 1, len(lines)) if lines[i].startswith("[")), len(lines))
    gone = {name} | ({"steps"} if name in ("epochs", "tokens") else set())
    kept = [x for x in lines[start + 1 : end] if x.partition("=")[0].strip() not in gone]
    lines[start + 1 : end] = [f"{name} = {toml(value)}", *kept]
    recipe.write_text("\n".join(lines) + "\n", encoding="utf-8")


def with_others(recipe: Path) -> Path:
    """The scenario with the other files that fields may name."""
    pico_dataset(recipe.parent / "other.jsonl", "first")
    pico_target(recipe.parent / "other-target.jsonl", "copy", seed=77)
    pico_model(recipe.parent / "models", seed=5, name="other")
    return recipe


def marks(recipe: Recipe, experts: dict[str, Path]) -> dict[str, set[str]]:
    """The fingerprints under which this recipe would look for adapters and for scores."""
    inputs = read_inputs(recipe)
    adapters = set()
    for corpus in inputs.corpora.values():
        rows = expert_corpus(inputs, corpus)
        origin = Origin(corpus.name, inputs.base.name, inputs.base.fingerprint, rows.fingerprint)
        count, held = len(rows.samples), len(rows.held_out)
        adapters.add(identity(inputs.recipe.train, origin, count, held))
    one, pair = (Mixture.uniform(sorted(experts)[:count]) for count in (1, 2))
    try:
        with open_scorer(inputs, experts, inputs.dev) as scorer:
            scores = {scorer.key(BASE), scorer.key(one), scorer.key(pair)}
    except InputError as error:  # adapters of another base
        assert "does not fit the model" in error.message
        scores = set()
    return {"adapters": adapters, "scores": scores}


@pytest.fixture(scope="module")
def finished_here(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stale") / "scenario"
    recipe = with_others(Path(shutil.copytree(finished.parent, folder)) / "recipe.toml")
    shutil.copytree(experts_of(recipe)["copy"], folder / "given")
    return recipe


@pytest.fixture(scope="module")
def before(finished_here: Path) -> dict[str, set[str]]:
    return marks(load_recipe(finished_here), experts_of(finished_here))


def experts_of(recipe: Path) -> dict[str, Path]:
    folder = recipe.parent / "m2m-runs" / recipe.stem / "adapters"
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_dir()}


@pytest.mark.parametrize("field", sampled(FIELDS, every=3))
def test_a_changed_field_changes_the_marks_of_what_it_decides_and_no_others(
    finished_here: Path, before: dict[str, set[str]], field: str
) -> None:
    recipe = finished_here.with_name(f"{field}.toml")
    shutil.copyfile(finished_here, recipe)
    changed(recipe, field)

    def load() -> Recipe:
        return dataclasses.replace(load_recipe(recipe), path=finished_here)

    if field in REFUSED:
        with pytest.raises(M2MError):
            marks(load(), experts_of(finished_here))
        return
    loaded = load()
    assert load_recipe(finished_here) != loaded
    after = marks(loaded, experts_of(finished_here))
    moved = {kind for kind in before if before[kind] != after[kind]}
    section = field.partition(".")[0]
    expected = EXCEPTIONS.get(field, DECIDES.get(section, set()))
    assert moved == ({"adapters"} if field in EITHER else expected)


def test_nothing_changed_leaves_every_mark(
    finished_here: Path, before: dict[str, set[str]], tmp_path: Path
) -> None:
    again = Path(shutil.copytree(finished_here.parent, tmp_path / "elsewhere")) / "recipe.toml"
    assert marks(load_recipe(again), experts_of(again)) == before


def test_trainings_that_end_are_not_taken_for_those_that_go_on(
    finished_here: Path, before: dict[str, set[str]]
) -> None:
    """`budget = "until"` trains with another schedule; under that schedule the budget is none."""
    text = finished_here.read_text(encoding="utf-8")
    found = []
    for old, new in (
        ('budget = "fixed"', 'budget = "until"'),
        ("[train]", '[train]\nschedule = "anytime"'),
    ):
        recipe = finished_here.with_name("until.toml")
        recipe.write_text(text.replace(old, new), encoding="utf-8")
        loaded = dataclasses.replace(load_recipe(recipe), path=finished_here)
        found.append(marks(loaded, experts_of(finished_here)))
    assert found[0] == found[1]
    assert not found[0]["adapters"] & before["adapters"]
    assert found[0]["scores"] == before["scores"]


def flip(path: Path, at: int, bit: int = 1) -> None:
    """Change one byte and put the file's time back, as a careless copy or a bad stick would."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[at] ^= bit
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


INPUTS: list[tuple[str, Callable[[bytes], int], set[str]]] = [
    ("models/pico/base.gguf", lambda data: len(data) - 4, {"adapters", "scores"}),
    ("models/pico/config.json", lambda data: data.index(b"float16") + 6, {"adapters", "scores"}),
    ("copy.jsonl", lambda data: data.index(b"copy ") + 6, {"adapters"}),
    ("dev.jsonl", lambda data: data.index(b"copy ") + 6, {"scores"}),
    ("m2m-runs/recipe/adapters/copy/adapter_model.safetensors", lambda d: len(d) - 4, {"scores"}),
]


@pytest.mark.parametrize(("name", "place", "expected"), INPUTS, ids=[each[0] for each in INPUTS])
def test_one_changed_byte_of_an_input_is_seen_though_size_and_time_are_the_same(
    finished_here: Path,
    before: dict[str, set[str]],
    tmp_path: Path,
    name: str,
    place: Callable[[bytes], int],
    expected: set[str],
) -> None:
    recipe = Path(shutil.copytree(finished_here.parent, tmp_path / "copy")) / "recipe.toml"
    load_recipe(recipe)
    assert marks(load_recipe(recipe), experts_of(recipe)) == before
    path = recipe.parent / name
    flip(path, place(path.read_bytes()))
    after = marks(load_recipe(recipe), experts_of(recipe))
    assert {kind for kind in before if before[kind] != after[kind]} == expected


@pytest.mark.slow
def test_a_renamed_dataset_and_a_twin_are_ranked_under_their_own_names(done: Path) -> None:
    """Scores are kept by the bytes of adapters, and these are the same; the names are not."""
    text = done.read_text(encoding="utf-8")
    renamed = text.replace('name = "upper"', 'name = "shouted"')
    twin = '[[datasets]]\nname = "twin"\npath = "copy.jsonl"\n\n[[targets]]'
    done.write_text(renamed.replace("[[targets]]", twin, 1), encoding="utf-8")
    ranking = Run(load_recipe(done), Silent()).search().places
    found = {each.mixture.datasets: each.score for each in ranking}
    assert len(found) == len(ranking) == 15
    assert {name for names in found for name in names} == {"copy", "reverse", "shouted", "twin"}
    assert found["copy",] == found["twin",]


@pytest.mark.slow
def test_a_race_after_all_was_scored_scores_nothing_and_ranks_by_all_of_it(done: Path) -> None:
    def search() -> tuple[dict[tuple[str, ...], float], bytes]:
        ranking = Run(load_recipe(done), Silent()).search().places
        journal = load_recipe(done).folder / "study.jsonl"
        return {each.mixture.datasets: each.score for each in ranking}, journal.read_bytes()

    before = search()
    changed(done, "search.strategy")
    assert search() == before


def without_settings(files: dict[str, str | bytes]) -> dict[str, Any]:
    """Without the [train] that an adapter's folder remembers.

    A kept adapter was trained under a recipe that differed in what decides nothing of it.
    """
    kept: dict[str, Any] = dict(files)
    for name in files:
        if name.endswith("m2m.json"):
            kept[name] = {**json.loads(files[name]), "train": None}
    return kept


@pytest.mark.soak
@pytest.mark.parametrize("field", [f for f in FIELDS if f not in REFUSED | SPEED | KNOWING])
def test_a_run_that_goes_on_after_a_change_equals_one_from_nothing(
    finished_here: Path, tmp_path: Path, field: str
) -> None:
    """The point of it all: whatever is reused, the files are those of a run that reused nothing."""
    found = []
    for name in ("old", "fresh"):
        # One place for both, one after the other: paths are part of what is written.
        folder = tmp_path / "scenario"
        shutil.copytree(finished_here.parent, folder)
        if name == "fresh":
            shutil.rmtree(folder / "m2m-runs")
        changed(folder / "recipe.toml", field)
        Run(load_recipe(folder / "recipe.toml"), Silent()).run()
        found.append(outcome(folder / "recipe.toml"))
        shutil.rmtree(folder)
    old, fresh = (without_settings(files) for files in found)
    # Journals keep the lines of before, and so does the folder of earlier fine-tunes.
    results = [name for name in fresh if not name.endswith(".jsonl")]
    assert [name for name in results if old.get(name) != fresh[name]] == []
