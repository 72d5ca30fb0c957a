"""The facts as tables for people, which the page and the terminal show alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from m2m.progress import duration
from m2m.report.charts import shown
from m2m.report.facts import (
    Breakdown,
    Confirmation,
    Cost,
    Curve,
    Facts,
    Ranking,
    Source,
    Validation,
)
from m2m.report.words import energy, how, plus_minus

GIB = 2**30
_METRICS = 2  # of the confirmed models, the recipe's own first; all are in the CSV


@dataclass(frozen=True)
class Table:
    """Text in rows; `numeric` columns are set to the right, `strong` rows stand out."""

    name: str
    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()
    strong: frozenset[int] = frozenset()


def tables(facts: Facts) -> list[Table]:
    """All tables that there are facts for."""
    found: list[Table] = []
    if facts.confirmation:
        found.append(confirmed_table(facts))
    if facts.ranking:
        found += [ranking_table(facts.ranking), worth_table(facts.ranking)]
    found += [facet_table(each, facts) for each in facts.breakdowns]
    if facts.validation:
        found += [agreement_table(facts.validation), regret_table(facts.validation)]
    if facts.curves:
        found.append(training_table(facts.curves))
    if facts.sources:
        found.append(source_table(facts.sources))
    if facts.costs:
        found.append(cost_table(facts))
    return [table for table in found if table.rows]


def confirmed_table(facts: Facts) -> Table:
    """Every confirmed model on dev and test, and how far the winner is ahead."""
    found, datasets = _confirmation(facts), len(facts.sources)
    present = [m for model in found.models for m in (*model.dev, *model.test)]
    metrics = sorted(dict.fromkeys(present), key=lambda name: name != found.metric)[:_METRICS]
    parts = [(part, metric) for metric in metrics for part in ("dev", "test")]
    parts = [p for p in parts if any(p[1] in getattr(model, p[0]) for model in found.models)]
    only = "" if found.metric in metrics else "; scores are of the first target"
    ahead = any(model.ahead for model in found.models)
    heads = ("mixture", "model", "rows seen", *(f"{part} {metric}" for part, metric in parts))
    rows = []
    for model in found.models:
        name = model.mixture.short(datasets)
        scores = [plus_minus(getattr(model, part).get(metric)) for part, metric in parts]
        behind = "the winner" if model.winner else model.ahead.signed if model.ahead else "-"
        rows.append((name, how(model), model.rows or "-", *scores, *([behind] if ahead else [])))
    return Table(
        "confirmed",
        "Models really fine-tuned, with the base and the best merge: value ± standard error. "
        "The winner is the best of the fine-tuned on dev; how far it is ahead is measured on test"
        + only,
        (*heads, *(["winner ahead (95 %)"] if ahead else [])),
        tuple(rows),
        frozenset(range(2, len(heads) + ahead)),
        frozenset(i for i, model in enumerate(found.models) if model.winner),
    )


def ranking_table(found: Ranking) -> Table:
    """The top and the bottom of the ranking."""
    rows, last = [], 0
    for place in shown(found):
        if place.rank > last + 1:
            rows.append(("...", "", "", "", ""))
        last = place.rank
        rows.append((
            f"{place.rank}{' =' if place.tied_with_best else ''}",
            place.mixture.label,
            plus_minus((place.score, place.stderr)),
            "{:.3f} to {:.3f}".format(*place.ci95),
            place.behind.signed,
        ))  # fmt: skip
    base = "" if found.base_score is None else f"; the base has {found.base_score:.3f}"
    return Table(
        "ranking",
        f"Top and bottom of {len(found.places)} mixtures by their surrogates' {found.metric} on "
        f"{found.examples} dev questions of {found.target}{base}. =: too close to the best to "
        "decide",
        ("rank", "mixture", found.metric, "95 % interval", "behind the best (95 %)"),
        tuple(rows),
        frozenset({2, 3, 4}),
    )


def worth_table(found: Ranking) -> Table:
    """What each dataset adds on average."""
    ordered = sorted(found.worth.items(), key=lambda each: -each[1].estimate)
    return Table(
        "worth",
        f"Change of {found.metric} when a dataset joins, on average over mixtures without it",
        ("dataset", "worth (95 %)", "it is"),
        tuple((name, span.signed, found.verdicts.get(name, "-")) for name, span in ordered),
        frozenset({1}),
    )


def facet_table(found: Breakdown, facts: Facts) -> Table:
    """A metric by facet: one row per model, one column per facet."""
    models = _confirmation(facts).models
    heads = tuple(f"{facet.name} ({facet.examples})" for facet in found.facets)
    rows = tuple(
        (
            model.mixture.short(len(facts.sources)),
            how(model),
            *(plus_minus(facet.values[i]) for facet in found.facets),
        )
        for i, model in enumerate(models)
    )
    return Table(
        f"facets-{found.target}-{found.part}",
        f"{found.metric} on the {found.part} examples of {found.target}, by facet "
        "(number of examples); value ± standard error",
        ("mixture", "model", *heads),
        rows,
        frozenset(range(2, 2 + len(heads))),
        frozenset(i for i, model in enumerate(models) if model.winner),
    )


def _confirmation(facts: Facts) -> Confirmation:
    """The confirmation; one without models where there is none."""
    return facts.confirmation or Confirmation("", "", ())


_CHOICES = {
    "merge_to_mix": "Merge to Mix: the best surrogate",
    "all": "all datasets in equal shares",
    "union": "all rows of all datasets",
    "best_single": "the best single dataset",
    "similarity": "the mixture most like the target",
    "random": "a random mixture",
}
_PREDICTORS = {
    "surrogate": "surrogate (base + merge of the deltas)",
    "mean_of_singles": "mean of the experts' own scores",
    "similarity": "likeness of the tokens to the target's",
    "repeatability": "the fine-tunes' own scores on dev: about the most that is possible",
}


def agreement_table(found: Validation) -> Table:
    """How well each predictor foretold the real fine-tunes."""
    return Table(
        "agreement",
        f"Correlation with the fine-tunes' {found.metric} on {found.judged_on}, mixtures of two "
        f"datasets or more (95 % intervals); budget of the fine-tunes: {found.budget}",
        ("foretold by", "Spearman", "Pearson"),
        tuple(
            (_PREDICTORS.get(name, name), str(spearman), str(pearson))
            for name, (spearman, pearson) in found.agreement.items()
        ),
        frozenset({1, 2}),
        frozenset({0}),
    )


def regret_table(found: Validation) -> Table:
    """What choosing by each rule would have cost."""
    return Table(
        "regret",
        f"Regret: how far the pick of each way of choosing is behind the best that was fine-tuned, "
        f"in {found.metric} on {found.judged_on} (95 %)",
        ("chosen by", "regret"),
        tuple((_CHOICES.get(rule, rule), str(span)) for rule, span in found.regret.items()),
        frozenset({1}),
    )


def training_table(curves: Sequence[Curve]) -> Table:
    """One line per training."""
    rows = []
    for curve in curves:
        tenth = max(1, len(curve.losses) // 10)
        first, last = curve.losses[:tenth], curve.losses[-tenth:]
        held_out = f"{min(loss for _, loss in curve.held_out):.3f}" if curve.held_out else "-"
        rows.append((
            curve.name,
            f"{len(curve.losses)}",
            "-" if curve.passes is None else f"{curve.passes:.3g}",
            f"{curve.tokens:,}",
            f"{sum(first) / len(first):.3f}" if first else "-",
            f"{sum(last) / len(last):.3f}" if last else "-",
            held_out,
            f"{curve.kept_step}",
        ))  # fmt: skip
    return Table(
        "training",
        "Trainings; passes over the rows; losses in nats per trained token, mean of the first and "
        "last tenth",
        (
            "trained on",
            "steps",
            "passes",
            "tokens",
            "first loss",
            "last loss",
            "best held-out",
            "kept step",
        ),
        tuple(rows),
        frozenset(range(1, 8)),
    )


def source_table(sources: Sequence[Source]) -> Table:
    """Where the data comes from."""
    return Table(
        "data",
        "Datasets as the recipe describes them, with their share in the winner",
        ("dataset", "share", "rows", "languages", "licence", "source", "notes"),
        tuple(
            (
                each.name,
                f"{100 * each.share:.0f} %" if each.share else "-",
                "-" if each.rows is None else f"{each.rows:,}",
                ", ".join(each.languages) or "-",
                each.licence or "not given",
                each.source or "not given",
                each.notes,
            )
            for each in sources
        ),
        frozenset({1, 2}),
        frozenset(i for i, each in enumerate(sources) if each.share),
    )


def cost_table(facts: Facts) -> Table:
    """Time, memory and energy of each step."""

    def row(name: str, seconds: float, costs: Sequence[Cost]) -> tuple[str, ...]:
        memory = max((cost.peak_rss_bytes for cost in costs), default=0)
        peak = f"{memory / GIB:.2f} GiB" if memory else "-"
        return name, duration(seconds), peak, energy(facts.energy_kwh(seconds))

    rows = [row(cost.step, cost.seconds, [cost]) for cost in facts.costs]
    return Table(
        "cost",
        "Time over all calls, with the largest peak of memory; energy if the whole machine draws "
        f"{facts.watts:g} W while it works (an assumption, not a measurement)",
        ("step", "time", "peak memory", "energy"),
        (*rows, row("all", facts.seconds, facts.costs)),
        frozenset({1, 2, 3}),
        frozenset({len(rows)}),
    )
