"""lm-evaluation-harness still computes what was recorded for its filters and metrics.

Run as a program, this file records tests/golden/harness/metrics.json with the harness's own tasks,
filters and aggregations, and sacrebleu. It needs `pip install lm-eval`, without a model.
"""

from __future__ import annotations

import json
import os
import random
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
lm_eval = pytest.importorskip("lm_eval", reason="pip install lm-eval")
import sacrebleu  # noqa: E402
from lm_eval.api.metrics import mean_stderr  # noqa: E402
from lm_eval.api.task import ConfigurableTask  # noqa: E402
from lm_eval.filters import build_filter_ensemble  # noqa: E402
from lm_eval.tasks._yaml_loader import _import_func_in_yml as import_function  # noqa: E402
from lm_eval.utils import weighted_f1_score  # noqa: E402
from sklearn.metrics import f1_score  # noqa: E402

GOLDEN = Path(__file__).parent.parent / "golden" / "harness" / "metrics.json"
WORDS = re.findall(
    r"\S+",
    'the a cat\'s sat on mat, 3.5 1,000 -5 ẹ̀kọ́ ilé (the) "x" &amp; &quot; hello! U.S. 10-12 '
    "well-known $5 € — “q” <skipped> 日本語 The CAT i'm x^2 {b} [c] ~ nyumba kubwa; je?",
)
FILTERS: list[list[dict[str, Any]]] = [
    [{"function": "take_first"}],
    [{"function": "regex"}, {"function": "take_first"}],
    [{"function": "regex", "regex_pattern": r"(-?[$0-9.,]{2,})|(-?[0-9]+)", "group_select": -1}],
    [{"function": "regex", "regex_pattern": "answer is (\\w+)?", "fallback": "none"}],
    [{"function": "remove_whitespace"}, {"function": "lowercase"}, {"function": "take_first"}],
    [{"function": "uppercase"}, {"function": "majority_vote"}, {"function": "take_first"}],
    [{"function": "remove_whitespace"}, {"function": "take_first_k", "k": 1}],
    [{"function": "map", "mapping_dict": {"B": "second"}, "default_value": "other"}],
    [{"function": "multi_choice_regex"}],
    [{"function": "format_span"}],
    [
        {
            "function": "multi_choice_regex",
            "group_select": -1,
            "ignore_case": True,
            "ignore_punctuation": True,
            "regex_pattern": "(\\([A-Z]\\))",
            "regexes_to_ignore": ["\\bthe "],
        }
    ],
]
SPANS = [
    "Person: Ada $ LOCATION: Lagos, none $$ ORG: UN",
    "organization : The UN, places: Kano\nDATE: 3 May. per: Bọ́lá $$",
    "per: ada $ loc: lagos",
    "LOC: Kenya, Uganda $ LOC: none $$",
    "loc: kenya $$ loc: uganda $$ per: the ada",
    "none",
]
TEXTS = [
    "",
    " B\n",
    "B",
    "So #### 1,200. and #### 3",
    "The answer is 42",
    "answer is  x; answer is zebra",
    "It costs $12.50 or 13",
    "I choose (C), not (A)",
    "guilty of romance!",
    "Guilty",
    "I say: B",
    "the answer: the GUILTY one",
    "ọ̀nà (Éko)",
    *SPANS,
]
CHOICES = ["Guilty", "Guilty of Romance", "the ẹ̀kọ́!"]
EXACT: list[dict[str, Any]] = [
    {},
    {"ignore_case": True, "ignore_punctuation": True},
    {"ignore_numbers": True, "ignore_punctuation": ["."]},
    {"regexes_to_ignore": [",", "\\$", "(?s).*#### ", "\\.$"], "ignore_case": True},
]


def task(rows: list[dict[str, Any]], **config: Any) -> ConfigurableTask:
    """Lm-eval's own task over these rows."""

    class Rows(list):  # type: ignore[type-arg]
        features = dict.fromkeys(rows[0])

    class Task(ConfigurableTask):
        def download(self, *_: Any, **__: Any) -> None:
            self.dataset = {"test": Rows(rows)}

    return Task(config={"task": "t", "test_split": "test", "doc_to_text": "", **config})


def values(made: ConfigurableTask, rows: list[dict[str, Any]], results: list[Any]) -> dict:
    """The metrics of all rows, and the standard errors of means."""
    each = [made.process_results(row, result) for row, result in zip(rows, results, strict=True)]
    found: dict[str, Any] = {}
    for name in each[0]:
        items = [row[name] for row in each]
        found[name] = float(made.aggregation()[name](items))
        if made.aggregation()[name].__name__ == "mean":
            found[f"{name}_stderr"] = float(mean_stderr(items))
    return found


def listed(*names: str) -> list[dict[str, Any]]:
    return [{"metric": name} for name in names]


def choices(rng: random.Random, count: int, same: bool) -> dict[str, Any]:
    """Rows with choices, their log-likelihoods, and the metrics."""
    rows, results = [], []
    for _ in range(40):
        texts = [" ".join(rng.sample(WORDS, rng.randint(1, 3))) for _ in range(count)]
        texts = [f"label {place}" for place in range(count)] if same else texts
        gold = rng.choice([0, 0, *range(count)])
        rows.append({"choices": texts, "gold": gold})
        nats = [-rng.uniform(1, 9) * len(text) / 8 + (i == gold) for i, text in enumerate(texts)]
        results.append([(value, rng.random() < 0.3) for value in nats])
    common = {"output_type": "multiple_choice", "doc_to_choice": "choices", "doc_to_target": "gold"}
    names = ["acc", "acc_norm", "acc_bytes", "exact_match", "mcc", "brier_score"]
    found = values(task(rows, metric_list=listed(*names), **common), rows, results)
    averages = {
        "weighted_f1_score": weighted_f1_score,
        "macro_f1_score": lambda items: f1_score(*zip(*items, strict=True), average="macro"),
        "micro_f1_score": lambda items: f1_score(*zip(*items, strict=True), average="micro"),
        **({"f1": None} if count == 2 else {}),
    }
    for name, function in averages.items():
        metric = {"metric": "f1", "aggregation": function or "f1", "higher_is_better": True}
        made = task(rows, metric_list=[metric], **common)
        found[f"f1 {name}"] = values(made, rows, results)["f1"]
    return {"rows": rows, "results": results, "metrics": found}


def near(text: str, rng: random.Random) -> str:
    """A text with some words changed, dropped and moved."""
    words = text.split()
    for _ in range(rng.randint(0, 4)):
        place, part = rng.randrange(len(words) + 1), rng.randrange(4)
        moved = words[place : place + part]
        del words[place : place + part]
        target = rng.randrange(len(words) + 1)
        words[target:target] = moved if rng.random() < 0.7 else rng.sample(WORDS, 1)
    return " ".join(words)


def written(rng: random.Random, count: int, several: int) -> dict[str, Any]:
    """Answers, right answers, and what sacrebleu says."""
    right = [" ".join(rng.choices(WORDS, k=rng.randint(1, 15))) for _ in range(count)]
    predictions = [near(text, rng) for text in right]
    references = [[text, *(near(text, rng) for _ in range(several - 1))] for text in right]
    columns = [list(column) for column in zip(*references, strict=True)]
    rows = [{"answer": text} for text in right]
    found = {
        "bleu_intl": sacrebleu.corpus_bleu(predictions, columns, tokenize="intl").score,
        "bleu_char": sacrebleu.corpus_bleu(predictions, columns, tokenize="char").score,
        "bleu": sacrebleu.corpus_bleu(predictions, columns).score,
        "chrf": sacrebleu.corpus_chrf(predictions, columns).score,
        "chrf++": sacrebleu.corpus_chrf(predictions, columns, word_order=2).score,
        "ter": sacrebleu.corpus_ter(predictions, columns).score,
    }
    if several == 1:  # with a list of right answers the harness fails
        names = ("bleu", "chrf", "chrf++", "ter")
        made = task(rows, doc_to_target="answer", metric_list=listed(*names))
        assert values(made, rows, [[text] for text in predictions]).items() <= found.items()
    return {"predictions": predictions, "references": references, "metrics": found}


def aggregated(folder: str, name: str, rng: random.Random) -> dict[str, Any]:
    """Answers, right answers, and F1 by a function of AfroBench itself."""
    place = Path(lm_eval.__file__).parent / "tasks" / "afrobench" / folder / "prompt_1"
    function = import_function(f"utils.{name}", place)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, 6))) for _ in range(12)]
    right = SPANS * 3 if name == "span_f1_agg" else [*texts, "the", "x"]
    given = (
        rng.sample(right, len(right)) if name == "span_f1_agg" else [near(t, rng) for t in right]
    )
    rows = [{"answer": text} for text in right]
    metric = {"metric": "f1", "aggregation": function, "higher_is_better": True}
    made = task(rows, doc_to_target="answer", metric_list=[metric])
    found = values(made, rows, [[text] for text in given])
    return {"name": name, "predictions": given, "references": right, "value": found["f1"]}


def one(kind: str, rng: random.Random) -> dict[str, Any]:
    """Rows of one text with log-likelihoods."""
    rows = [{"text": " ".join(rng.choices(WORDS, k=rng.randint(1, 9))) + " \n"} for _ in range(12)]
    nats = [-rng.uniform(1, 30) for _ in rows]
    greedy = [rng.random() < 0.4 for _ in rows]
    made = task(rows, output_type=kind, doc_to_target="text")
    rolling = kind == "loglikelihood_rolling"
    results = nats if rolling else zip(nats, greedy, strict=True)
    found = values(made, rows, [[result] for result in results])
    texts = [row["text"] for row in rows]
    return {"kind": kind, "texts": texts, "nats": nats, "greedy": greedy, "metrics": found}


def filter_case(steps: list[dict[str, Any]]) -> dict[str, Any]:
    """Texts after a list of filters."""
    ensemble = build_filter_ensemble(
        "f",
        [(step["function"], {k: v for k, v in step.items() if k != "function"}) for step in steps],
    )
    docs = [{"choices": CHOICES} for _ in TEXTS]
    resps: Any = [[text] for text in TEXTS]
    for made in ensemble.filters:
        resps = list(made().apply(resps, docs))
    filtered = [resp[0] if isinstance(resp, list) else resp for resp in resps]
    return {
        "filter": steps,
        "texts": TEXTS,
        "choices": [doc["choices"] for doc in docs],
        "filtered": filtered,
    }


def exact_case(options: dict[str, Any]) -> dict[str, Any]:
    """Answers with the harness's `exact_match`, one right answer or several."""
    predictions = ["Lagos", "lagos.", " Lagos", "1,200", "so #### $1200.", "12 a", "b 3", ""]
    references = [
        ["Lagos"],
        ["Lagos"],
        ["Lagos"],
        ["1200"],
        ["1200"],
        ["a", " a"],
        ["c", "b "],
        [""],
    ]
    found = []
    for text, right in zip(predictions, references, strict=True):
        rows = [{"answer": right if len(right) > 1 else right[0]}]
        metrics = [{"metric": "exact_match", **options}]
        made = task(rows, doc_to_target="answer", metric_list=metrics)
        found.append(float(made.process_results(rows[0], [text])["exact_match"]))
    return {
        "options": options,
        "predictions": predictions,
        "references": references,
        "values": found,
    }


def cases() -> dict[str, Any]:
    rng = random.Random(0)
    return {
        "about": f"lm-eval {lm_eval.__version__}, sacrebleu {sacrebleu.__version__}; by "
        "tests/peer/test_harness_metrics.py",
        "filters": [filter_case(steps) for steps in FILTERS],
        "exact_match": [exact_case(options) for options in EXACT],
        "choices": [
            choices(rng, count, same) for count, same in ((2, True), (4, True), (3, False))
        ],
        "written": [written(rng, *sizes) for sizes in ((12, 1), (1, 1), (8, 2))],
        "f1": [
            aggregated("afriqa", "f1", random.Random(1)),
            aggregated("masakhaner", "span_f1_agg", random.Random(1)),
        ],
        "texts": [one(kind, rng) for kind in ("loglikelihood", "loglikelihood_rolling")],
    }


def test_the_harness_computes_the_same() -> None:
    recorded = json.loads(GOLDEN.read_text(encoding="utf-8"))
    found = json.loads(json.dumps(cases()))
    assert found.pop("about").split(",")[0] == recorded.pop("about").split(",")[0]
    assert found == recorded


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(cases(), ensure_ascii=False) + "\n", encoding="utf-8")
