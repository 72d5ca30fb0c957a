"""Results as tables for people, or as JSON for programs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2m.cli.console import Table, make_table, print_json, print_table, say

if TYPE_CHECKING:
    from m2m.checkpoint import ModelInfo
    from m2m.mix.agreement import Agreement
    from m2m.mix.tables import Proposals
    from m2m.mix.validate import Validation
    from m2m.mix.verdict import Verdict
    from m2m.pipeline.evaluating import Comparison, Difference
    from m2m.pipeline.results import Confirmation, Exported, RunResult, Searched, Trained
    from m2m.pipeline.tools import Merged
    from m2m.report import Facts, Written

TOP, BOTTOM = 10, 3
AHEAD = {1: "better", -1: "worse", 0: "no clear difference"}


def result(as_data: Any, as_json: bool, table: Callable[[], None]) -> None:
    """Print JSON where it was asked for, otherwise the table."""
    if as_json:
        print_json(as_data)
    else:
        table()


def models(infos: Sequence[ModelInfo], as_json: bool) -> None:
    """The models of this machine."""

    def show() -> None:
        table = make_table("name", "architecture", "parameters", "dtype", "size", "licence")
        for info in infos:
            table.add_row(
                info.name,
                info.architecture,
                f"{info.parameters / 1e6:.1f} M",
                info.dtype,
                f"{info.bytes / 1e6:.0f} MB",
                info.licence or "unknown",
            )
        print_table(table)
        model_warnings(infos)

    fields = ("name", "path", "architecture", "parameters", "dtype", "bytes", "licence")
    as_data = [
        {**{f: _plain(getattr(i, f)) for f in fields}, "warnings": list(i.warnings)} for i in infos
    ]
    result(as_data, as_json, show)


def model_warnings(infos: Sequence[ModelInfo]) -> None:
    """Why models may not stop, or read text otherwise than their makers meant."""
    for info in infos:
        for warning in info.warnings:
            say(f"Warning: {info.name}: {warning}", err=True)


def adapters(trained: Sequence[Trained]) -> None:
    """One line per adapter."""
    table = make_table(
        "dataset", "steps", "passes", "tokens", "first loss", "last loss", "tokens/s", "adapter"
    )
    for each in trained:
        table.add_row(
            each.dataset,
            f"{each.steps}",
            f"{each.passes:.3g}",
            f"{each.tokens:,}",
            f"{each.loss_first:.3f}",
            f"{each.loss_last:.3f}",
            f"{each.tokens_per_second:.0f}" if each.tokens_per_second else "kept",
            str(each.path),
        )
    print_table(table)


def ranking(found: Searched) -> None:
    """The top and the bottom of the ranking, and what each dataset is worth."""
    from m2m.evaluate.same import in_words
    from m2m.report.words import plus_minus

    tied = sum(each.tied_with_best for each in found.ranking)
    heads = ("rank", found.metric, "95 % interval", "behind the best", "examples", "mixture")
    table = make_table(*heads)
    shown = [*found.ranking[:TOP]]
    rest = found.ranking[TOP:]
    shown += rest[-BOTTOM:]
    for each in shown:
        if rest and each.rank == max(TOP + 1, len(found.ranking) - BOTTOM + 1):
            table.add_row("...", *[""] * (len(heads) - 1))
        table.add_row(
            f"{each.rank}" + (" =" if each.tied_with_best else ""),
            plus_minus((each.score, each.stderr)),
            f"{each.ci95[0]:.3f} to {each.ci95[1]:.3f}",
            str(each.behind),
            f"{each.examples}",
            each.mixture.label,
        )
    print_table(table)
    say(
        f"{len(found.ranking)} mixtures of {found.candidates} on up to "
        f"{in_words(found.examples, found.different)} of {found.target}; "
        f"base model {found.base_score:.3f}.",
        f"{tied} marked =: {'the best' if tied == 1 else 'too close to the best to decide'}.",
    )
    for note in found.notes:
        say(note)
    say(
        f"Lowest score: {found.worst.mixture.label} ({found.worst.score:.3f})."
        if found.higher_is_better
        else f"Worst score: {found.worst.mixture.label} ({found.worst.score:.3f})."
    )
    for point in found.pareto:
        scores = ", ".join(f"{name} {value:.3f}" for name, value in point.scores.items())
        say(f"On the Pareto front: {point.mixture.label} ({scores})")
    worth = make_table("dataset", "worth", "95 % interval", "it is")
    for name, value in sorted(found.dataset_worth.items(), key=lambda item: -item[1].estimate):
        interval = f"{value.low:+.3f} to {value.high:+.3f}"
        worth.add_row(name, f"{value.estimate:+.3f}", interval, found.verdicts[name])
    print_table(worth)
    say(f"An effect below {found.smallest_effect:.3f} counts as neutral.")
    for pair in found.interactions:
        say(pair.words)
    if found.pairs_left_out:
        say(
            f"{found.pairs_left_out} pairs of datasets are not judged: one alone is no better than "
            "guessing, or the two would be expected beyond the best possible score."
        )
    for warning in found.warnings:
        say(f"Warning: {warning}", err=True)


def proposals(found: Proposals) -> None:
    """What a model of a table expects most of."""
    table = make_table("expected", "scored", "mixture")
    for each in found.proposals:
        scored = "-" if each.scored is None else f"{each.scored:.3f}"
        table.add_row(f"{each.expected:.3f} ± {each.stderr:.3f}", scored, each.mixture.label)
    print_table(table)
    direction = "higher" if found.higher_is_better else "lower"
    say(f"From {found.runs} runs, by {found.metric} ({direction} is better).")


def confirmed(found: Confirmation) -> None:
    """The verdict, then the really fine-tuned models, the base and the best merge."""
    from m2m.report.facts import rows_seen
    from m2m.report.words import HOW, chosen_by

    verdict(found.verdict)

    measured = found.confirmed[0].dev
    metrics = sorted(measured, key=lambda name: name != found.metric)[:2]  # as in the report
    heads = [f"{part} {metric}" for metric in metrics for part in ("dev", "test")]
    table = make_table("model", "how", *heads, "mixture")
    for each in found.confirmed:
        cells = [_value(part.get(metric)) for metric in metrics for part in (each.dev, each.test)]
        mark = " *" if each == found.winner else ""
        table.add_row(each.label + mark, HOW[each.how], *cells, each.mixture.label)
    print_table(table)
    seen = (
        f"{each.label} {rows_seen(each.as_json()['seen'])}" for each in found.confirmed if each.seen
    )
    say(f"Rows seen in training: {'; '.join(seen)}.")
    first = "" if found.metric in measured else " Scores are of the first target."
    say(f"* {chosen_by(found.ahead is not None, found.shared)}{first}")


def verdict(found: Verdict) -> None:
    """The answer of a run, before everything else."""
    say(f"Verdict: {found.kind}")
    for line in found.lines:
        say(f"  {line}")


def validation(found: Validation) -> None:
    """Every validated mixture, how well predictions and fine-tunes agree, and what choices cost."""
    splits = [split for split, count in found.examples.items() if count]
    table = make_table(
        "rank", "surrogate", *(f"fine-tuned, {split}" for split in splits), "mixture"
    )
    sign = -1.0 if found.higher_is_better else 1.0
    for each in sorted(found.validated, key=lambda each: sign * each.real[found.judged_on][0]):
        real = (f"{value:.3f} ± {error:.3f}" for value, error in each.real.values())
        surrogate = f"{each.predicted['surrogate']:.3f} ± {each.stderr:.3f}"
        table.add_row(f"{each.rank or '-'}", surrogate, *real, each.mixture.label)
    print_table(table)
    shown = make_table("predictor", "against", "mixtures", "Spearman", "Pearson")
    for predictor, against in found.agreements.items():
        for split, groups in against.items():
            _agreements(shown, predictor.replace("_", " "), f"fine-tunes on {split}", groups)
    if found.repeatability:
        _agreements(shown, "fine-tunes on dev", "fine-tunes on test", found.repeatability)
    print_table(shown)
    cost = make_table("choice", f"regret ({found.judged_on})", "95 % interval", "mixture")
    for choice, lost in found.regret.items():
        pick = found.picks[choice].label if choice in found.picks else "mean of two or more"
        interval = f"{lost.low:.3f} to {lost.high:.3f}"
        cost.add_row(choice.replace("_", " "), f"{lost.estimate:.3f}", interval, pick)
    print_table(cost)
    say(
        f"Scores are {found.metric} on {found.target}; budget {found.budget}. For a single dataset "
        "at an expert's budget surrogate and fine-tune are the same model."
    )


def _agreements(
    table: Table, predictor: str, against: str, groups: Mapping[str, Agreement | None]
) -> None:
    """A row of correlations for each group of mixtures that is large enough for them."""
    for group, found in groups.items():
        if found:
            kind = "with singles" if group == "with_singles" else "of two or more"
            values = (
                f"{each.estimate:.2f} ({each.low:.2f} to {each.high:.2f})"
                for each in (found.spearman, found.pearson)
            )
            table.add_row(predictor, against, f"{found.mixtures} {kind}", *values)


def exported(found: Exported) -> None:
    """Where the files are."""
    written = ", ".join(f"{count} {name}" for name, count in found.types_written.items())
    say(f"GGUF       {found.gguf} ({written})")
    say(f"Modelfile  {found.modelfile}")
    say(f"LoRA       {found.lora} (for the unchanged base)")
    say(f"Card       {found.card}")
    _survival(found.type, found.delta_survival, found.remedy)
    say(found.self_test.sentence)
    for warning in found.self_test.warnings:
        say(f"Warning: {warning}", err=True)
    for remark in found.serving:
        say(f"Note: {remark}", err=True)
    for remark in found.remarks:
        say(f"Licence: {remark}", err=True)


def merged(found: Merged) -> None:
    """What was written, and what is left of the deltas."""
    say(f"{found.out}: {found.type}, {found.seconds:.1f} s")
    _survival(found.type, found.delta_survival, found.remedy)
    for warning in found.warnings:
        say(f"Warning: {warning}", err=True)


def _survival(kind: str, survival: Mapping[str, float] | None, remedy: str | None) -> None:
    """What is left of a delta, with a warning where that is too little."""
    if survival is None:
        return
    gain, cosine = survival["gain"], survival["cosine"]
    say(f"Delta kept by {kind}: gain {gain:.2f}, cosine {cosine:.2f}")
    if remedy:
        say(f"Warning: {kind} keeps too little of the fine-tune; {remedy}", err=True)


def run(found: RunResult) -> None:
    """The verdict, how it came about, and the names of the files."""
    confirmed(found.confirmation)
    ranking(found.searched)
    table = make_table("step", "minutes", "peak memory")
    for step in found.steps:
        memory = f"{step.peak_rss_bytes / 2**30:.2f} GiB"
        table.add_row(step.name, f"{step.seconds / 60:.1f}", memory)
    print_table(table)
    sure = found.confirmation.verdict.kind in ("clear", "tie inside")
    label = "Winner    " if sure else "Best tried"
    say(f"{label} {found.confirmation.winner.mixture.label}")
    say(f"Ranking    {found.folder / 'ranking.json'} (all {len(found.searched.ranking)})")
    say(f"Report     {found.report}")
    say(f"Results    {found.folder}")
    if found.exported is None:
        say("GGUF       not made, because of the verdict; `--anyway` makes it all the same")
        return
    exported(found.exported)
    say(f"Try it     m2m chat {shlex.quote(str(found.exported.gguf))}")


def report(facts: Facts, written: Written) -> None:
    """The report's sentences and tables, and where it lies."""
    from m2m.report.tables import tables
    from m2m.report.words import findings

    if facts.confirmation and facts.confirmation.verdict:
        say(f"Verdict: {facts.confirmation.verdict.kind}")
    for sentence in findings(facts):
        say(sentence)
    for table in tables(facts):
        say("", f"{table.caption}.")
        drawn = make_table(*table.heads, right=[table.heads[i] for i in table.numeric])
        for i, row in enumerate(table.rows):
            drawn.add_row(*row, bold=i in table.strong)
        print_table(drawn)
    for warning in facts.warnings:
        say(f"Warning: {warning}", err=True)
    for remark in facts.remarks:
        say(f"Licence: {remark}", err=True)
    say(f"Report     {written.html}")
    say(f"Data       {written.json}, {written.html.with_suffix('')}{os.sep}*.csv")


def comparison(found: Comparison) -> None:
    """Scores of models on tasks: a table per task, by facet too, and the paired differences."""
    from m2m.evaluate.same import in_words

    for task in dict.fromkeys(str(each.task.path) for each in found.results):
        columns = [each.as_json() for each in found.results if str(each.task.path) == task]
        names = [Path(each["name"]).name for each in columns]
        count = in_words(columns[0]["examples"], columns[0]["different"])
        read = next(each.task.reading for each in found.results if str(each.task.path) == task)
        say(f"{count} of {task}" + (f"; {read}" if read else ""))
        _columns("metric", names, [each["metrics"] for each in columns])
        main = next(iter(columns[0]["metrics"]))
        facets = [
            {f"{k} ({v['examples']})": v["metrics"][main] for k, v in each["facets"].items()}
            for each in columns
            if each["facets"]
        ]
        _columns(f"{main} by facet", names, facets)
        _differences([each for each in found.differences if each.task == task])


def _columns(head: str, names: Sequence[str], columns: Sequence[Mapping[str, Any]]) -> None:
    """Values with standard errors, a row per key and a column per model."""
    if not columns:
        return
    table = make_table(head, *names)
    for key in columns[0]:
        table.add_row(key, *(_value(column.get(key), digits=4) for column in columns))
    print_table(table)


def _differences(found: Sequence[Difference]) -> None:
    if not found:
        return
    say(f"Ahead of {Path(found[0].against).name}, on the same examples:")
    table = make_table("metric", "model", "by", "95 % interval", "it is")
    for each in found:
        cells = ("-", "-", f"not comparable: {each.reason}")
        if ahead := each.ahead:
            interval = f"{ahead.low:+.4f} to {ahead.high:+.4f}"
            cells = (f"{ahead.estimate:+.4f}", interval, AHEAD[ahead.sign])
        table.add_row(each.metric, Path(each.model).name, *cells)
    print_table(table)


def _value(measured: Mapping[str, float] | None, digits: int = 3) -> str:
    from m2m.report.words import plus_minus

    if not measured:
        return "-"
    return plus_minus((measured["value"], measured["stderr"]), digits)


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str | None) else str(value)
