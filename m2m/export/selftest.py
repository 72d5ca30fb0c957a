"""The result of the export's self-test, in sentences for the terminal, the card and the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from m2m.counted import counted
from m2m.formats.json_fields import JsonFields, Key


@dataclass(frozen=True)
class SelfTest(JsonFields):
    """How the exported file answers questions from its training.

    Attributes:
        questions: how many questions were asked; if it is 0, `trouble` says why.
        exact: how many answers are as trained, with the file's own chat template.
        stops: how many answers ended by themselves.
        own_exact: how many are as trained, with the prompt that m2m trains and scores with.
        own_stops: how many answers to that prompt ended by themselves.
        trouble: why nothing was asked, or that llama.cpp failed.
        failed: whether llama.cpp failed.
    """

    questions: int = 0
    exact: int = 0
    stops: int = 0
    own_exact: Annotated[int, Key("exact_with_m2m_prompt")] = 0
    own_stops: Annotated[int, Key("stops_with_m2m_prompt")] = 0
    trouble: str = ""
    failed: bool = False

    @property
    def sentence(self) -> str:
        """The result in one or two sentences."""
        if not self.questions:
            return f"Self-test: not made; {self.trouble}."
        count = self.questions
        stops = f"stops by itself in {self.stops} of {count}"
        if self.exact or self.own_exact:
            return (
                f"Self-test: the model answers {self.exact} of "
                f"{counted(count, 'training question')} as trained, and {stops}."
            )
        normal = ", which is normal after short training" if self.stops == count else ""
        return (
            f"Self-test: the model {stops} answers to training questions. None is word for word "
            f"as trained{normal}."
        )

    @property
    def warnings(self) -> list[str]:
        """The problems, each with its remedy."""
        if self.failed:
            return ["The self-test failed. Try the file with `m2m chat` before you pass it on."]
        problems = []
        if self.own_exact > self.exact:
            problems.append(
                f"With m2m's prompt the model answers {self.own_exact} of "
                f"{counted(self.questions, 'training question')} as trained, with the file's own "
                f"chat template {self.exact}. Programs that use this template "
                "send another prompt than was trained. Use `m2m chat`, or try Ollama with the "
                "Modelfile."
            )
        if self.stops < self.questions:
            problems.append(
                f"{self.questions - self.stops} of {counted(self.questions, 'answer')} in the "
                "self-test did not stop by themselves. Train longer. If there is a warning about "
                "the end token, follow its advice first."
            )
        return problems

    def as_json(self) -> dict[str, Any]:
        """The fields of `self_test` in `m2m export --json`."""
        return {**super().as_json(), "sentence": self.sentence, "warnings": self.warnings}
