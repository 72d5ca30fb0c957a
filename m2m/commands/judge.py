"""`m2m judge`: a page of answers that people compare without knowing the models, and its result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from m2m.adapter import load_adapter
from m2m.checkpoint import BaseModel, find_model
from m2m.commands.models import open_model
from m2m.counted import counted
from m2m.errors import InputError, Interrupted, Problems
from m2m.evaluate.evaluator import Evaluator
from m2m.evaluate.harness import Side
from m2m.evaluate.metrics import METRICS
from m2m.evaluate.normalised import normalised_task
from m2m.evaluate.same import question_keys
from m2m.evaluate.targets import asked_to_write, load_target
from m2m.export.lora_gguf import export_lora
from m2m.formats.atomic import write_json, write_text
from m2m.formats.json_values import as_object, as_text
from m2m.formats.records import read_object
from m2m.llamacpp.model import LlamaModel
from m2m.mix.preference import krippendorff_alpha, win_rate
from m2m.opening import read_text
from m2m.pipeline.inputs import make_formatter, model_folders
from m2m.progress import Progress
from m2m.recipe import Recipe, Target, load_recipe
from m2m.report import write_report
from m2m.report.card import with_judged
from m2m.report.judge_page import ShownPair, judge_page
from m2m.results import judging
from m2m.results.confirmation import Confirmation, Model
from m2m.results.facts import read_facts
from m2m.results.folder import CONFIRMED, EXPORTED, JUDGED, RECIPE, RunFolder, parsed
from m2m.results.judging import BASE, RUNNER_UP, WINNER, Judged, JudgeKey, Pair, Preference
from m2m.store import fingerprint

_GROUP = 32  # answers between two looks at the request to stop
Models = Mapping[str, Model | None]  # by role; None is the base
Drawn = Sequence[tuple[int, str]]  # a question's place, and the role that the winner is shown with


class Answers(NamedTuple):
    """One judge's choices, by the id of the pair."""

    path: Path
    page: str
    judge: str
    choices: Mapping[str, str]


def make_page(
    folder: Path,
    pairs: int,
    seed: int,
    progress: Progress,
    *,
    recipe: Path | None = None,
    target: str = "",
    title: str = "Which answer is better?",
) -> JudgeKey:
    """Let base, runner-up and winner of a run answer, and write a page of shuffled pairs.

    Each answer is greedy, by the base's own GGUF with the fine-tune as LoRA.

    Args:
        folder: the run's folder.
        pairs: how many pairs to draw: half against the base, half against the runner-up.
        seed: draws the questions, and shuffles pairs and sides.
        progress: shows a bar over the answers.
        recipe: the run's recipe; None for the one that the folder names.
        target: name of a target of the recipe; "" for its first.
        title: the question to the judges.

    Raises:
        InputError: the run is not confirmed, or there is nothing to judge.
        Interrupted: the user asked to stop.
    """
    files = RunFolder(folder)
    confirmation = files.read(CONFIRMED, Confirmation.from_json)
    if confirmation is None:
        raise InputError(f"{folder}: nothing is confirmed yet", "run `m2m confirm RECIPE` first")
    loaded = load_recipe(recipe) if recipe else _recipe(folder)
    base, wanted = (
        find_model(loaded.base.model, model_folders(loaded.path)),
        _target(loaded, target),
    )
    part: Side = "test" if wanted.test else "dev"
    evaluator, models = _questions(loaded, base, wanted, part), _models(confirmation)
    drawn = _draw(evaluator, [role for role in models if role != WINNER], pairs, seed)
    written = _write(_opener(base, loaded, files), evaluator, models, drawn, progress)
    made = _shuffled(evaluator, drawn, written, seed)
    shown = [pair for _, pair in made if pair]
    if not shown:
        raise InputError(
            f"all {len(made)} pairs of answers are word for word the same",
            "there is nothing to judge: the models do not differ in what they write",
        )
    page = fingerprint(title=title, pairs=[[vars(pair), pair_shown] for pair, pair_shown in made])
    key = JudgeKey(
        page=page[:12],
        seed=seed,
        target=wanted.name,
        part=part,
        models={
            role: described(model, len(loaded.datasets), confirmation.winner)
            for role, model in models.items()
        },
        confirmed=files.state(CONFIRMED),
        pairs=[pair for pair, _ in made],
    )
    files.refuse_links()
    write_json(files.judge_key(key.page), key.as_json())
    write_text(files.judge_page(key.page), judge_page(key.page, title, shown))
    return key


def judge(folder: Path, paths: Sequence[Path]) -> Judged:
    """Read files of answers; write the result, the report and the card of the export.

    Raises:
        InputError: a file is damaged, from another page, or twice there; lists all mistakes.
    """
    files = RunFolder(folder)
    given = _read_all(paths)
    key = _key(files, given[0])
    known = {pair.id for pair in key.pairs if not pair.same}
    problems = Problems()
    for answers in given:
        if unknown := sorted(answers.choices.keys() - known):
            problems.add(f"{answers.path}: the page has no pair {unknown[0]!r:.40}")
    problems.raise_if_any(InputError, "answers", "ask the judge to save the file again")
    judged = _judged(key, given)
    files.refuse_links()
    files.keep(JUDGED, judged.as_json())
    write_report(read_facts(folder), folder)
    card = files.exports / "README.md"
    if files.is_fresh(EXPORTED) and card.is_file():
        write_text(card, with_judged(read_text(card), judged.sentences))
    return judged


def _recipe(folder: Path) -> Recipe:
    """Read the recipe that a run's folder names, with the values that the run had instead."""
    stored = read_object(folder / RECIPE)
    path = Path(parsed(folder / RECIPE, lambda: as_text(stored.get("recipe"), "recipe")))
    if not path.is_file():
        raise InputError(
            f"{path}: the recipe of this run is not here",
            "make the page on the machine that has the recipe, the base and the questions",
        )
    return load_recipe(path, (), as_object(stored.get("overrides", {}), "overrides"))


def _target(recipe: Recipe, name: str) -> Target:
    known = {target.name: target for target in recipe.targets}
    if name and name not in known:
        raise InputError(f"the recipe has no target {name!r}", f"targets: {', '.join(known)}")
    return known[name or recipe.targets[0].name]


def _questions(recipe: Recipe, base: BaseModel, target: Target, part: Side) -> Evaluator:
    task = load_target(target, part, recipe.roots)
    if task.kind == "text":
        raise InputError(
            f"{task.path}: holds texts, so there are no answers to compare",
            "choose a target with questions: --target NAME",
        )
    task = normalised_task(asked_to_write(task), recipe.data.normalise)
    variables = recipe.base.template_variables
    formatter = make_formatter(base.gguf, recipe.base.template, variables)
    return Evaluator(task, formatter, recipe.search.seed)


def _models(confirmation: Confirmation) -> Models:
    """Return the model of each role; the runner-up is the second best fine-tune on dev."""

    def on_dev(model: Model) -> float:
        name = confirmation.metric if confirmation.metric in model.dev else next(iter(model.dev))
        return METRICS[name].sign * model.dev[name].value

    winner = confirmation.winner
    others = [m for m in confirmation.models if m.how == "finetuned" and m is not winner]
    second = {RUNNER_UP: max(others, key=on_dev)} if others else {}
    return {BASE: None, **second, WINNER: winner}


def described(model: Model | None, datasets: int, winner: Model) -> str:
    """Name a model, with its steps, and the winner's if these are others."""
    if model is None:
        return "the base model"
    steps = f", {counted(model.steps, 'step')}" if model.steps else ""
    steps += (
        f", the winner {winner.steps:,}" if winner.steps and winner.steps != model.steps else ""
    )
    return f"{model.mixture.short(datasets)} ({model.label}{steps})"


def _draw(evaluator: Evaluator, rivals: Sequence[str], pairs: int, seed: int) -> Drawn:
    """Draw questions with a rival for each; none comes twice before all have come once."""
    first = {key: place for place, key in reversed([*enumerate(question_keys(evaluator.task))])}
    places = np.random.default_rng(seed).permutation(sorted(first.values())).tolist()
    count = len(places)
    return [
        (places[i % count], rivals[(i % count + i // count) % len(rivals)])
        for i in range(min(pairs, count * len(rivals)))
    ]


def _opener(
    base: BaseModel, recipe: Recipe, files: RunFolder
) -> Callable[[Model | None, Path], LlamaModel]:
    """Return a function that opens a fine-tune as LoRA on the base's own GGUF; None is the base."""

    def opened(model: Model | None, scratch: Path) -> LlamaModel:
        if model is None or model.adapter is None:
            return open_model(base.gguf.path, None)
        adapter = load_adapter(files.adapter_here(model.adapter))
        lora, made = scratch / "lora.gguf", recipe.base
        export_lora(adapter, base, lora, made.template, made.template_variables)
        return open_model(base.gguf.path, lora)

    return opened


def _write(
    open_one: Callable[[Model | None, Path], LlamaModel],
    evaluator: Evaluator,
    models: Models,
    drawn: Drawn,
    progress: Progress,
) -> dict[str, dict[int, str]]:
    """Let each model answer the questions that it is compared on."""
    asked = {r: sorted({i for i, rival in drawn if r in (WINNER, rival)}) for r in models}
    written: dict[str, dict[int, str]] = {}
    progress.start("writing answers", sum(map(len, asked.values())), "answers")
    for role, model in models.items():
        written[role], places = {}, asked[role]
        with TemporaryDirectory() as scratch, open_one(model, Path(scratch)) as opened:
            for start in range(0, len(places), _GROUP):
                if progress.stop_requested():
                    raise Interrupted("stopped between two answers; nothing was kept")
                part = places[start : start + _GROUP]
                written[role] |= zip(part, evaluator.answers(opened, part), strict=True)
                progress.advance(len(part), role)
    progress.finish()
    return written


def _shuffled(
    evaluator: Evaluator, drawn: Drawn, written: Mapping[str, Mapping[int, str]], seed: int
) -> list[tuple[Pair, ShownPair | None]]:
    """Shuffle pairs and sides; a pair with the same answers is not shown."""
    rng = np.random.default_rng([seed, 1])
    made: list[tuple[Pair, ShownPair | None]] = []
    for number, index in enumerate(rng.permutation(len(drawn)), 1):
        place, rival = drawn[index]
        a, b = (WINNER, rival) if rng.random() < 0.5 else (rival, WINNER)
        left, right = written[a][place], written[b][place]
        example, same = evaluator.task.examples[place], left.strip() == right.strip()
        pair = Pair(f"p{number}", example.line, a, b, same)
        made.append((pair, None if same else ShownPair(pair.id, example.prompt, left, right)))
    return made


def _read_all(paths: Sequence[Path]) -> list[Answers]:
    """Read all files; refuse two of one judge, and two pages."""
    problems = Problems()
    given: list[Answers] = []
    by_judge: dict[str, Path] = {}
    for path in paths:
        try:
            answers = _read(path)
        except InputError as error:
            problems.add(error.message)
            continue
        if first := by_judge.get(answers.judge):
            problems.add(f"{path}: is of the same judge as {first}; give the newer one only")
        elif given and answers.page != given[0].page:
            problems.add(f"{path}: is about another page than {given[0].path}")
        by_judge[answers.judge] = path
        given.append(answers)
    hint = "give files that the page of `m2m judge` saved, one of each judge, all of one page"
    problems.raise_if_any(InputError, "answers", hint)
    return given


def _read(path: Path) -> Answers:
    data = read_object(path)
    try:
        as_text(data.get("m2m"), "m2m", ("judge answers",))
        choices = as_object(data.get("answers"), "answers")
        for name, choice in choices.items():
            as_text(choice, f"the answer to {name}", judging.CHOICES)
        if not choices:
            raise ValueError("it has no answers yet")
        page, judge_id = (as_text(data.get(key), key) for key in ("page", "judge"))
        return Answers(path, page, judge_id, choices)
    except ValueError as error:
        raise InputError(f"{path}: is not a file that a judge saved: {error}") from error


def _key(files: RunFolder, answers: Answers) -> JudgeKey:
    """Return the key of the page that was judged.

    Raises:
        InputError: the run did not make it, or its models are no longer the run's.
    """
    path = files.judge_key(answers.page)
    if not answers.page.isalnum() or not path.is_file():
        raise InputError(
            f"{answers.path}: is about the page {answers.page!r:.40}, which this run did not make",
            "give the folder of the run that made the page",
        )
    data = read_object(path)
    key = parsed(path, lambda: JudgeKey.from_json(data))
    if key.confirmed != files.state(CONFIRMED):
        raise InputError(
            f"{answers.path}: is about models that were replaced since: confirm.json has changed",
            "make a new page with `m2m judge RUN`, and have it judged",
        )
    return key


def _judged(key: JudgeKey, given: Sequence[Answers]) -> Judged:
    rng = np.random.default_rng(key.seed)
    by_pair = {
        pair.id: [a.choices[pair.id] for a in given if pair.id in a.choices] for pair in key.pairs
    }
    preferences = []
    for rival in [role for role in key.models if role != WINNER]:
        pairs = [p for p in key.pairs if p.rival == rival and (p.same or by_pair[p.id])]
        if pairs:
            preferences.append(_preference(key.models[rival], pairs, by_pair, rng))
    shared = [choices for choices in by_pair.values() if len(choices) > 1]
    alpha = krippendorff_alpha(shared, rng)
    return Judged(key.page, key.target, key.part, len(given), preferences, alpha, len(shared))


def _preference(
    model: str,
    pairs: Sequence[Pair],
    by_pair: Mapping[str, Sequence[str]],
    rng: np.random.Generator,
) -> Preference:
    """Compare the winner with one other model; each pair counts once, whoever judged it."""
    means = [
        0.5 if pair.same else np.mean([pair.outcome(choice) for choice in by_pair[pair.id]])
        for pair in pairs
    ]
    counts = Counter(pair.kind(choice) for pair in pairs for choice in by_pair[pair.id])
    lines = [pair.line for pair in pairs]
    return Preference(
        rival=pairs[0].rival,
        model=model,
        pairs=len(pairs),
        questions=len({*lines}),
        same=sum(pair.same for pair in pairs),
        counts={kind: counts[kind] for kind in judging.KINDS},
        rate=win_rate(np.array(means, float), lines, rng),
    )
