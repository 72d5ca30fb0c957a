"""Small models that fit, for people who have none yet; m2m itself downloads nothing."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("known.toml")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
FILES = ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json",
         "tokenizer_config.json")  # fmt: skip


@dataclass(frozen=True)
class KnownModel:
    """A model that m2m can fine-tune.

    Attributes:
        hub: its name on the Hugging Face hub.
        parameters: in millions.
        licence: as its page gives it.
        languages: as its page gives them.
        memory: GiB that training takes with the defaults, and the least with everything saved.
        note: a reason to take it.
    """

    hub: str
    parameters: int
    licence: str
    languages: str
    memory: Sequence[float]
    note: str = ""

    @property
    def name(self) -> str:
        """Return the name that `m2m models add` gives to its folder."""
        return self.hub.partition("/")[2].lower()

    def as_json(self) -> dict[str, Any]:
        """Return one entry of `m2m models known --json`."""
        return {**vars(self), "name": self.name, "files": list(FILES), "get": way(self.hub)}


def known_models() -> list[KnownModel]:
    """Return the models, smallest first."""
    with _FILE.open("rb") as file:
        return [KnownModel(**entry) for entry in tomllib.load(file)["models"]]


def way(hub: str) -> str:
    """Say how to bring a model of the hub to this machine."""
    folder = hub.partition("/")[2]
    return (
        f"m2m downloads nothing. On a machine with a connection, open the page {hub} of the "
        f"Hugging Face hub and save {', '.join(FILES)}, and chat_template.jinja if it is there, in "
        f"a folder {folder}; of a larger model save all parts "
        f"model-0000N-of-0000M.safetensors and their index. Bring the folder here and type "
        f"`m2m models add {folder}`"
    )


def advice(name: str) -> str | None:
    """Return how to get the model that a name of the hub means; None if it is no such name."""
    models = known_models()
    hubs = {model.hub.lower(): model.hub for model in models}
    hubs |= {model.name: model.hub for model in models}
    if name.lower() in hubs:
        return way(hubs[name.lower()])
    if not _HUB_NAME.fullmatch(name) or Path(name).parent.exists():
        return None
    if near := difflib.get_close_matches(name.lower(), hubs, 1, 0.8):
        return f"did you mean {hubs[near[0]]}? {way(hubs[near[0]])}"
    return f"{way(name)}; `m2m models known` lists models that fit"
