"""Print results as tables for people, or as JSON for programs."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2m.cli.console import make_table, print_json, print_table, say, say_next, warn
from m2m.counted import counted

if TYPE_CHECKING:
    from m2m.checkpoint import ModelInfo
    from m2m.commands.eval import Comparison, Difference
    from m2m.commands.merge import Merged
    from m2m.mix.tables import Proposals
    from m2m.mix.verdict import Verdict
    from m2m.pipeline.shares import ShareResult
    from m2m.report import Written
    from m2m.results.answers import Answers
    from m2m.results.confirmation import Confirmation
    from m2m.results.export import Exported
    from m2m.results.facts import Facts
    from m2m.results.more_rows import MoreRows
    from m2m.results.outcome import RunResult
    from m2m.results.ranking import Ranking
    from m2m.results.table import Table as ResultTable
    from m2m.results.training import Trained
    from m2m.results.validation import Validation

_SAMPLED, _LONG = 3, 160  # questions that are printed, and characters of each of their texts
AHEAD = {1: "better", -1: "worse", 0: "no clear difference"}


def result(as_data: Any, as_json: bool, table: Callable[[], None], then: str = "") -> None:
    """Print JSON if the user asked for it, otherwise the table and the command to type next."""
    if as_json:
        print_json(as_data)
        return
    table()
    if then:
        say_next(then)


def models(infos: Sequence[ModelInfo], as_json: bool, then: str) -> None:
    """Print models of this machine, and the command to type next."""
    from m2m.formats.json_fields import plain

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
        {**{f: plain(getattr(i, f)) for f in fields}, "warnings": list(i.warnings)} for i in infos
    ]
    result(as_data, as_json, show, then)


def model_warnings(infos: Sequence[ModelInfo]) -> None:
    """Warn of models that may not stop, or that read text differently than intended."""
    for info in infos:
        for warning in info.warnings:
            say(f"Warning: {info.name}: {warning}", err=True)


def adapters(trained: Sequence[Trained]) -> None:
    """Print one line per adapter."""
    from m2m.results.training import adapter_table

    print_result(adapter_table(trained))


def ranking(result: Ranking) -> None:
    """Print the top and the bottom of the ranking, each dataset's worth, and pairs of datasets."""
    from m2m.evaluate.same import in_words
    from m2m.results.ranking import ranking_tables

    if not result.places:
        say(*result.notes)
        warn(result.warnings)
        return
    best, *others = ranking_tables(result, [])
    print_result(best)
    tied = sum(place.tied_with_best for place in result.places)
    say(
        f"{result.strategy}: {len(result.places)} of {counted(result.candidates, 'mixture')} "
        f"on up to {in_words(result.examples, result.different)} of {result.target}.",
        f"{tied} marked =: {'the best' if tied == 1 else 'too close to the best to decide'}.",
    )
    for note in result.notes:
        say(note)
    for table in others:
        print_result(table)
    warn(result.warnings)


def proposals(result: Proposals) -> None:
    """Print the mixtures from which a model of a table expects most."""
    table = make_table("expected", "scored", "mixture")
    for proposal in result.proposals:
        scored = "-" if proposal.scored is None else f"{proposal.scored:z.3f}"
        table.add_row(
            f"{proposal.expected:z.3f} ± {proposal.stderr:z.3f}", scored, proposal.mixture.label
        )
    print_table(table)
    direction = "higher" if result.higher_is_better else "lower"
    say(f"From {counted(result.runs, 'run')}, by {result.metric} ({direction} is better).")


def confirmed(result: Confirmation, datasets: int) -> None:
    """Print the verdict, then the really fine-tuned models, the base and the best merge."""
    from m2m.results.confirmation import confirmed_table

    verdict(result.verdict)
    print_result(confirmed_table(result, datasets))
    say(result.chosen_by, *(result.courses.sentences if result.courses else ()))
    warn(result.warnings)


def verdict(answer: Verdict) -> None:
    """Print the answer of a run, before everything else."""
    say(f"Verdict: {answer.kind}")
    for line in answer.lines:
        say(f"  {line}")


def validation(result: Validation) -> None:
    """Print how well predictions and fine-tunes agree, each choice's regret, and every mixture."""
    from m2m.results.validation import validation_tables

    for table in validation_tables(result):
        print_result(table)


def more_rows(result: MoreRows) -> None:
    """Print the scores of halves and of all rows, and the gain of more rows."""
    from m2m.results.more_rows import more_rows_table

    print_result(more_rows_table(result))
    say(*result.sentences)


def exported(export: Exported) -> None:
    """Print the paths of the files, and warnings about them."""
    written = ", ".join(f"{count} {name}" for name, count in export.types_written.items())
    say(f"GGUF       {export.gguf} ({written})")
    say(f"Modelfile  {export.modelfile}")
    say(f"LoRA       {export.lora} (for the unchanged base)")
    say(f"Card       {export.card}")
    _survival(f"Rounding to {export.type}", export.delta_survival)
    say(export.self_test.sentence)
    warn(export.warnings)
    for remark in export.serving:
        say(f"Note: {remark}", err=True)
    for remark in export.remarks:
        say(f"Licence: {remark}", err=True)


def merged(result: Merged) -> None:
    """Print the file that was written, and how much of the deltas it keeps."""
    say(f"{result.out}: {result.type}, {result.seconds:.1f} s")
    cut = "This rank" if result.type == "lora" else f"Rounding to {result.type}"
    _survival(cut, result.delta_survival)
    warn(result.warnings)


def _survival(cut: str, survival: Mapping[str, float] | None) -> None:
    """Print how much of a delta is left."""
    if survival is None:
        return
    gain, cosine = survival["gain"], survival["cosine"]
    kept = f"kept the fine-tune with gain {gain:z.2f} and cosine {cosine:z.2f} (1.00 is all of it)"
    say(f"{cut} {kept}")


def run(result: RunResult, datasets: int) -> None:
    """Print the verdict, its reasons, and the names of the files."""
    from m2m.results.folder import RANKING
    from m2m.results.stage import stage_table

    confirmed(result.confirmation, datasets)
    ranking(result.ranking)
    print_result(stage_table(result.stages))
    sure = result.confirmation.verdict.kind in ("clear", "tie inside")
    label = "Winner    " if sure else "Best tried"
    say(f"{label} {result.confirmation.winner.mixture.label}")
    if result.ranking.places:
        say(f"Ranking    {result.folder / RANKING} (all {len(result.ranking.places)})")
    if answers := result.confirmation.answers:
        sampled(answers)
    say(f"Report     {result.report} (open it in a browser)")
    say(f"Results    {result.folder}")
    if result.exported is None:
        say(
            "GGUF       not made, because of the verdict; `m2m export RECIPE --anyway` makes it "
            "all the same"
        )
        return
    exported(result.exported)
    say(f"Try it     m2m chat {shlex.quote(str(result.exported.gguf))}", copied=True)


def sampled(answers: Answers) -> None:
    """Print some questions with the answers of the base and of the winner."""
    few = dataclasses.replace(answers, rows=answers.rows[:_SAMPLED])
    more = " (more in the report)" if len(answers.rows) > _SAMPLED else ""
    say("", f"{few.caption}{more}:")
    for row in few.rows:
        say(
            f"  question  {_short(row.question)}",
            f"    right   {_short(row.right)}",
            f"    base    {_short(row.base)} ({'right' if row.base_right else 'wrong'})",
            f"    winner  {_short(row.winner)} ({'right' if row.winner_right else 'wrong'})",
        )
    say("")


def _short(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]} ..."


def part(made: ShareResult) -> None:
    """Print the fine-tunes that a share has made."""
    rung = f" of the rung of {counted(made.rung, 'step')}" if made.rung else ""
    say(f"{counted(len(made.trained), 'fine-tune')}{rung} made: m2m run goes on from them")
    if made.more:
        say("When all shares have ended, start them again for the next rung.")


def report(facts: Facts, written: Written) -> None:
    """Print the report's sentences and tables, and the path of the report."""
    from m2m.report.words import four_questions, warnings
    from m2m.results.facts import tables

    if facts.confirmation:
        say(f"Verdict: {facts.confirmation.verdict.kind}")
    for question, sentences in four_questions(facts):
        say(question, *(f"  {sentence}" for sentence in sentences))
    for table in tables(facts):
        print_result(table)
    warn(warnings(facts))
    say(f"Report     {written.html}")
    say(f"Data       {written.json}, {written.html.with_suffix('')}{os.sep}*.csv")


def print_result(table: ResultTable) -> None:
    """Print a result's table with its caption; nothing if it has no rows."""
    if not table.rows:
        return
    say("", f"{table.caption}.")
    heads = zip(table.heads, table.numeric, strict=True)
    drawn = make_table(*table.heads, right=[head for head, numeric in heads if numeric])
    for row, strong in table.shown():
        drawn.add_row(*row, bold=strong)
    print_table(drawn)


def comparison(compared: Comparison) -> None:
    """Print scores of models: a table per task, also by facet, and the paired differences."""
    from m2m.evaluate.same import in_words
    from m2m.mix.evidence import right_answers

    for task in dict.fromkeys(str(evaluated.task.path) for evaluated in compared.results):
        results = [one for one in compared.results if str(one.task.path) == task]
        columns = [one.as_json() for one in results]
        names = [Path(column["name"]).name for column in columns]
        count = in_words(columns[0]["examples"], columns[0]["different"])
        read = results[0].task.reading
        say(f"{count} of {task}" + (f"; {read}" if read else ""))
        types = [column["type"] for column in columns]
        say("Scored as: " + ", ".join(f"{n} {t}" for n, t in zip(names, types, strict=True)))
        counts = [[right_answers(one.scores, metric) for metric in one.metrics] for one in results]
        right = [next((n for n in each if n is not None), None) for each in counts]
        told = [f"{n} {r:.0f}" for n, r in zip(names, right, strict=True) if r is not None]
        if told:
            say(f"Right: {', '.join(told)} of {columns[0]['examples']:,}")
        _columns("metric", names, [column["metrics"] for column in columns])
        theirs = [column["harness"] for column in columns if "harness" in column]
        _columns("of the task file", names, theirs)
        main = next(iter(columns[0]["metrics"]))
        facets = [
            {f"{k} ({v['examples']})": v["metrics"][main] for k, v in column["facets"].items()}
            for column in columns
            if column["facets"]
        ]
        _columns(f"{main} by facet", names, facets)
        _differences([difference for difference in compared.differences if difference.task == task])
    for group in dict.fromkeys(result.group.name for result in compared.groups):
        of_group = [result for result in compared.groups if result.group.name == group]
        first = of_group[0].as_json()
        if first["metrics"]:
            tasks = counted(len(first["tasks"]), "task")
            say(f"the group {group}: {tasks}, {counted(first['examples'], 'example')}")
            names = [Path(result.model).name for result in of_group]
            _columns("metric", names, [result.as_json()["metrics"] for result in of_group])


def _columns(head: str, names: Sequence[str], columns: Sequence[Mapping[str, Any]]) -> None:
    """Print values with standard errors, a row per key and a column per model."""
    if not columns:
        return
    table = make_table(head, *names)
    for key in columns[0]:
        table.add_row(key, *(_value(column.get(key), digits=4) for column in columns))
    print_table(table)


def _differences(differences: Sequence[Difference]) -> None:
    if not differences:
        return
    say(f"Difference to {Path(differences[0].against).name}, on the same examples:")
    table = make_table("metric", "model", "difference", "95 % interval", "it is")
    for difference in differences:
        cells = ("-", "-", f"not comparable: {difference.reason}")
        if (ahead := difference.ahead) and (span := difference.difference):
            interval = f"{span.low:+z.4f} to {span.high:+z.4f}"
            cells = (f"{span.estimate:+z.4f}", interval, AHEAD[ahead.sign])
        table.add_row(difference.metric, Path(difference.model).name, *cells)
    print_table(table)


def _value(measured: Mapping[str, float] | None, digits: int = 3) -> str:
    from m2m.evaluate.score import Score

    return Score.from_json(measured).text(digits) if measured else "-"
