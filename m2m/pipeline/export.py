"""The export stage: the winner as GGUF, as a GGUF LoRA, with a Modelfile and a model card."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from m2m import __version__
from m2m.adapter import load_adapter
from m2m.checkpoint import BaseModel
from m2m.counted import counted
from m2m.dataset import load_dataset
from m2m.dataset.mapping import RowMapping
from m2m.dataset.normal_form import AS_IS, normalised_rows
from m2m.dataset.row_source import open_source, options_of
from m2m.dataset.rows import Row
from m2m.errors import InputError, Interrupted, M2MError, WarningText
from m2m.evaluate.overlap import answer_match
from m2m.evaluate.same import in_words, question_keys
from m2m.export.lora_gguf import export_lora
from m2m.export.merged_gguf import Provenance, export_gguf, remedy
from m2m.export.modelfile import modelfile
from m2m.export.selftest import SelfTest
from m2m.export.serving import as_trained, ollama_remarks, serving_remarks
from m2m.formats.atomic import write_text
from m2m.llamacpp.asking import Answer, Question, ask, own_template
from m2m.llamacpp.filetypes import file_type
from m2m.llamacpp.model import build_info
from m2m.merge.merger import Merger
from m2m.mix.mixture import Mixture
from m2m.mix.verdict import LEAST
from m2m.pipeline.inputs import Inputs
from m2m.pipeline.scorer import threads
from m2m.pipeline.trained_run import TrainedRun
from m2m.report.card import Card, write_card
from m2m.report.words import COMPARED
from m2m.results.confirmation import HOW, Confirmation, Model
from m2m.results.export import Exported
from m2m.results.facts import DatasetFacts
from m2m.results.folder import JUDGED, RunFolder
from m2m.results.judging import Judged
from m2m.results.ranking import NOT_SEARCHED, Ranking
from m2m.tokenizer import Formatter, Message, plain_source

# The keys in which a GGUF names the hub page that it was made from (gguf-py, `Keys.General`).
_HUB_KEYS = ("general.repo_url", "general.source.repo_url", "general.source.url", "general.url")
_HUB_NAME = re.compile(r"https?://[^/]+/([\w.-]+/[\w.-]+?)/?")
# Of the self-test.
_QUESTIONS = 8
_MOST_TOKENS = 640  # of all answers together: some seconds for 135 M parameters
_LONGEST_PROMPT = 1024
_SLACK = 32  # tokens, in addition to twice the trained answer's
_SECONDS = 600.0
Asked = tuple[Question, list[str]]  # with the answers that count as trained


def export(run: TrainedRun, ranking: Ranking, confirmation: Confirmation) -> Exported:
    """Write the winner into `export/` of the run's folder; one bar over its files.

    Raises:
        ResourceError: the disk is full.
    """
    inputs, progress, winner = run.inputs, run.progress, confirmation.winner
    base, recipe = inputs.base, inputs.recipe
    if winner.adapter is None:
        raise AssertionError("a fine-tuned winner has an adapter")
    adapter, kind = load_adapter(winner.adapter), recipe.quantize.export
    merger, target = Merger(base, {"winner": adapter}), file_type(kind)
    verdict = confirmation.verdict
    name = "-".join(filter(None, (base.name, recipe.path.stem, verdict.tag)))
    # Ollama skips characters that cannot be printed, and would not find the file.
    name = "".join(c if c.isprintable() and c != '"' else "_" for c in name)
    gguf = run.files.exports / f"{name}-{kind.upper()}.gguf"
    data = _sources(inputs, winner)
    described = tuple(
        (one.name, f"weight {one.weight:z.3f}, licence {one.licence or 'not given'}")
        for one in data
    )
    tokenizer, trained = inputs.formatter.tokenizer, inputs.formatter.template
    own = None if trained else plain_source(tokenizer.adds_bos)
    if trained and trained.fixed:
        own = own_template(as_trained(trained.source))
    provenance = Provenance(name, base.name, described, own)
    progress.start("exporting", 5, "files")
    types, survival = export_gguf(merger, {"winner": 1.0}, target, gguf, provenance)
    progress.advance(detail=gguf.name)
    lora = gguf.with_name(f"{name}-LoRA.gguf")
    export_lora(adapter, base, lora, recipe.base.template, recipe.base.template_variables)
    progress.advance(detail=lora.name)
    put_on = f"`m2m chat {recipe.base.model} --lora {shlex.quote(str(lora))}`"
    advice = remedy(merger, {"winner": 1.0}, target, survival, put_on)
    text = modelfile(
        gguf,
        inputs.formatter,
        base.config.max_position_embeddings,
        {
            base.name: base.info.licence or "not given",
            **{source.name: source.licence or "not given" for source in data},
        },
        _instruction(inputs),
    )
    for_ollama = gguf.with_name("Modelfile")
    write_text(for_ollama, text)
    progress.advance(detail=for_ollama.name)
    serving = [*serving_remarks(inputs.formatter), *ollama_remarks(inputs.formatter)]
    tested = self_test(inputs, winner.mixture, gguf)
    progress.advance(detail="self-test")
    kept = survival.as_json()
    card = Card(
        name=name,
        base=recipe.base.hub or _hub_name(base) or base.name,
        base_licence=base.info.licence or "",
        sources=data,
        confirmation=confirmation,
        made=[*_made(inputs, ranking, confirmation, kept), tested.sentence],
        files=[
            (gguf.name, f"the model in {kind}, for llama.cpp and programs that use it"),
            (for_ollama.name, "for Ollama: ollama create NAME -f Modelfile"),
            (lora.name, f"the fine-tune alone, for the unchanged {base.name}"),
        ],
        warnings=sorted(
            [*inputs.warnings, *ranking.warnings, *confirmation.warnings, *tested.warnings],
            key=lambda text: WarningText(text).gravity,
        ),
        serving=serving,
        compared=_compared(confirmation, inputs),
        judged=_judged(run.files),
    )
    path = write_card(card, gguf.parent)
    progress.advance(detail=path.name)
    progress.finish()
    files = (gguf, for_ollama, lora, kind, types, kept, advice, path)
    return Exported(*files, tuple(card.remarks), tested, tuple(serving))


def _instruction(inputs: Inputs) -> str:
    """Return the system message of all targets; "" if they differ, or have none."""
    texts = {task.form.instruction for task in inputs.dev.values()}
    return texts.pop() if len(texts) == 1 else ""


def _judged(files: RunFolder) -> list[str]:
    """Return whose answers people preferred, if they judged the models of this confirmation."""
    judged = files.read(JUDGED, Judged.from_json) if files.is_fresh(JUDGED) else None
    return judged.sentences if judged else []


def _sources(inputs: Inputs, winner: Model) -> list[DatasetFacts]:
    weights = winner.mixture.weight_by_dataset
    return [
        DatasetFacts(
            name=dataset.name,
            rows=len(inputs.corpora[dataset.name].samples),
            weight=weights[dataset.name],
            languages=dataset.languages,
            licence=dataset.licence,
            source=dataset.source,
            notes=dataset.notes,
        )
        for dataset in inputs.recipe.datasets
        if dataset.name in weights
    ]


def _hub_name(base: BaseModel) -> str | None:
    """Return the base's identifier on a hub, or None if its file names no page there."""
    for key in _HUB_KEYS:
        page = _HUB_NAME.fullmatch(str(base.gguf.value(key) or ""))
        if page:
            return page[1]
    return None


def _compared(confirmation: Confirmation, inputs: Inputs) -> list[str]:
    """How the winner does on test against the others; nothing on fewer than `LEAST` questions."""
    different = [len({*question_keys(task)}) for task in inputs.test.values()]
    if confirmation.ahead is None or min(different, default=0) < LEAST:
        return []
    return [
        f"On test it {COMPARED[ahead.sign]} {model.label} ({_how(model, confirmation)}): "
        f"ahead by {ahead.in_full}"
        for model, ahead in zip(confirmation.models, confirmation.ahead, strict=True)
        if model.mixture != confirmation.winner.mixture
    ]


def _how(model: Model, confirmation: Confirmation) -> str:
    """Say how a model was made, and after how many steps it is compared."""
    if not model.steps:
        return HOW[model.how]
    both = confirmation.courses and model.how == "finetuned"
    return f"{HOW[model.how]}, {'both after ' if both else ''}{counted(model.steps, 'step')}"


def _made(
    inputs: Inputs, ranking: Ranking, confirmation: Confirmation, kept: dict[str, float] | None
) -> list[str]:
    """Say how the model was made, in one sentence per fact."""
    rounded = (
        f"of the fine-tune's change this keeps a gain of {kept['gain']:.2f} at cosine "
        f"{kept['cosine']:.2f}"
        if kept
        else "the fine-tune changed nothing"
    )
    train, recipe = inputs.recipe.train, inputs.recipe
    form = recipe.data.normalise
    tuned = sum(model.how == "finetuned" for model in confirmation.models)
    seen = ", ".join(
        f"{rows.rows} of {counted(rows.of, 'row')} of {name} ({rows.passes:.3g} passes)"
        for name, rows in confirmation.winner.seen.items()
    )
    searched = (
        f"Merge to Mix (arXiv 2505.16066): one LoRA expert per dataset for "
        f"{counted(len(inputs.expert_names), 'dataset')}, {len(ranking.places)} of "
        f"{counted(ranking.candidates, 'mixture')} scored as merged models on "
        f"{in_words(ranking.examples, ranking.different, 'dev questions')}, "
        f"{tuned} really fine-tuned; this one was the best of these on dev"
    )
    return [
        searched if ranking.places else NOT_SEARCHED.removesuffix("."),
        f"LoRA of rank {train.rank}, alpha {train.alpha:g}, on {', '.join(train.target_modules)}",
        f"An expert had {train.steps} steps of at most {train.batch_tokens * train.accumulate} "
        f"tokens, learning rate {train.learning_rate:g}, {train.schedule}; budget of "
        f"the fine-tunes: {recipe.confirm.budget}",
        f"It was trained for {counted(confirmation.winner.steps or 0, 'step')} on {seen}",
        *([f"All texts were in Unicode {form}: give it texts in {form}"] if form != AS_IS else []),
        f"Seeds: training {train.seed}, merging {recipe.merge.seed}, search {recipe.search.seed}",
        f"Quantised to {recipe.quantize.export}; {rounded}",
        f"m2m {__version__}, {build_info()}",
    ]


def self_test(inputs: Inputs, mixture: Mixture, gguf: Path) -> SelfTest:
    """Ask an exported file questions of its mixture's rows; a faulty file never raises."""
    try:
        asked = list(_questions(inputs, mixture))
        if not asked:
            longest = counted((_MOST_TOKENS - _SLACK) // 2, "token")
            why = f"the data has no question with a text answer of at most {longest}"
            return SelfTest(trouble=why)
        questions = [question for question, _ in asked]
        answers = ask(gguf, questions, threads=threads(inputs.recipe), seconds=_SECONDS)
    except Interrupted:
        raise
    except M2MError as error:
        return SelfTest(trouble=error.message, failed=True)
    answer_in = inputs.formatter.extract_answer
    right = [
        [answer_match(answer_in(answer.text), trained) > 0 for answer in both]
        for both, (_, trained) in zip(answers, asked, strict=True)
    ]
    return SelfTest(
        len(asked),
        exact=sum(own for own, _ in right),
        stops=_stopped(own for own, _ in answers),
        own_exact=sum(ours for _, ours in right),
        own_stops=_stopped(ours for _, ours in answers),
    )


def _stopped(answers: Iterator[Answer]) -> int:
    return sum(answer.stopped for answer in answers)


def _questions(inputs: Inputs, mixture: Mixture) -> Iterator[Asked]:
    """Yield some of the rows that were trained on, drawn by the training's seed."""
    rows: list[tuple[Sequence[Row], int]] = []
    for dataset in inputs.recipe.datasets:
        if dataset.name in mixture.datasets:
            corpus = inputs.corpora[dataset.name]
            trained = {sample.line for sample in corpus.samples}
            source = open_source(dataset.files, corpus.sha256, options_of(dataset))
            read = load_dataset(source, RowMapping.of(dataset))
            read = normalised_rows(read, inputs.recipe.data.normalise)
            rows += [(read, place) for place, row in enumerate(read) if row.line in trained]
    used = asked = 0
    for index in np.random.default_rng(inputs.recipe.train.seed).permutation(len(rows)):
        read, place = rows[index]
        question = question_of(read[place], inputs.formatter)
        if question is None or used + question[0].most > _MOST_TOKENS:
            continue
        yield question
        used, asked = used + question[0].most, asked + 1
        if asked == _QUESTIONS:
            return


def question_of(row: Row, formatter: Formatter) -> Asked | None:
    """Return a row's conversation up to its last answer; None if it cannot be asked."""
    messages = [*(row.messages or ())]
    while messages and messages[-1].get("role") != "assistant":
        messages.pop()
    if len(messages) < 2 or row.tools or not all(map(_is_text, messages)):
        return None
    try:
        trained = formatter.samples(messages)[-1][-1].ids
        prompt = formatter.prompt_ids(messages[:-1])
    except InputError:
        return None
    if len(prompt) > _LONGEST_PROMPT:
        return None
    ends = formatter.tokenizer.eog_ids
    written = formatter.tokenizer.decode(i for i in trained if i not in ends)
    asked: Sequence[Message] = messages[:-1]
    if formatter.template is not None:
        asked = formatter.template.placed(asked)
    question = Question(asked, prompt, 2 * len(trained) + _SLACK)
    return question, [str(messages[-1]["content"]), formatter.extract_answer(written)]


def _is_text(message: Mapping[str, Any]) -> bool:
    """Return whether a message has text and does not call a tool."""
    tool = message.get("tool_calls") or message["role"] == "tool"
    return not tool and bool(str(message["content"]).strip())
