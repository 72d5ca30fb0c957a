"""The sizes of a run's questions and of its models, which its settings hardly change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from m2m.evaluate.evaluator import Evaluator
from m2m.formats.gguf import plan_gguf
from m2m.llamacpp.filetypes import file_type, quantized_layout
from m2m.pipeline.inputs import Inputs
from m2m.planning.calibration import count_tokens


@dataclass(frozen=True)
class Sizes:
    """The sizes that `--hours` cannot change when it cuts a recipe; slow to compute.

    Attributes:
        examples: number of examples of all dev sets; each window of a text counts as one.
        dev: the tokens of each dev set, as `count_tokens` returns them.
        test: the same of each test set.
        scratch: bytes of the scratch model.
        exported: bytes of the exported model.
    """

    examples: int
    dev: Sequence[tuple[int, int]]
    test: Sequence[tuple[int, int]]
    scratch: int
    exported: int

    @classmethod
    def of(cls, inputs: Inputs) -> Sizes:
        """Measure the sizes; tokenises all examples."""
        form, seed, quantize = inputs.formatter, inputs.recipe.search.seed, inputs.recipe.quantize
        kind = "f16" if quantize.type == "auto" else quantize.type  # auto never takes a larger type
        return cls(
            sum(len(Evaluator(task, form, seed)) for task in inputs.dev.values()),
            [count_tokens(task, form) for task in inputs.dev.values()],
            [count_tokens(task, form) for task in inputs.test.values()],
            *(
                plan_gguf(*quantized_layout(inputs.base.gguf, file_type(type_name)))[2]
                for type_name in (kind, quantize.export)
            ),
        )
