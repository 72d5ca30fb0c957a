"""What the golden file of llama-perplexity was recorded on."""

from __future__ import annotations

from pathlib import Path

from m2m.evaluate.evaluator import Evaluator
from m2m.evaluate.metrics import METRICS
from m2m.evaluate.targets import load_target
from m2m.formats.gguf import GGUFFile
from m2m.llamacpp.model import LlamaModel
from m2m.recipe import Target
from m2m.tokenizer import Formatter, Tokenizer

FOLDER = Path(__file__).parent.parent / "golden"
SENTENCES, GOLDEN = FOLDER / "sentences.txt", FOLDER / "perplexity.json"
CASES = [(64, False), (127, False), (512, False), (127, True)]


def measured(path: Path, window: int) -> float:
    """Our perplexity of the golden sentences in windows."""
    task = load_target(Target("text", SENTENCES, window=window, metric="perplexity"), "dev")
    formatter = Formatter(Tokenizer.from_metadata(GGUFFile(path).value))
    with LlamaModel(path, threads=1, exact_cache=True) as model:
        scores = Evaluator(task, formatter).evaluate(model)
    assert len(scores) > 1
    return float(METRICS["perplexity"].value(scores, None)[0])
