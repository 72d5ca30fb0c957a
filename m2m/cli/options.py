"""Arguments and options that several commands share."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import click
from click.shell_completion import CompletionItem

from m2m.recipe.data_fields import Dataset
from m2m.recipe.mappings import TABLES

Command = Callable[..., Any]


if TYPE_CHECKING:
    from m2m.commands.given import FileSettings
    from m2m.recipe import Recipe

    Text = click.ParamType[str]
    Pair = click.ParamType[tuple[int, int]]
else:
    Text = Pair = click.ParamType  # generic since click 8.5 only


class Model(Text):
    """A base model's name or folder; a shell completes the names under models/."""

    name = "model"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the models here whose names begin with the typed text, and folders."""
        root = Path(os.environ.get("M2M_MODELS", "models"))
        names = sorted(path.parent.name for path in root.glob("*/m2m-model.json"))
        items = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return [*items, CompletionItem(incomplete, type="dir")]


class Real(click.FloatRange):
    """A finite number in a range; click itself lets nan through every range."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        number = float(super().convert(value, param, ctx))
        return (
            number if math.isfinite(number) else self.fail(f"{value} is not a number.", param, ctx)
        )


MODEL = Model()
# Names in `click.Context.meta`.
ROOTS, OVERRIDES, OUT, RECIPES = "m2m.data_roots", "m2m.overrides", "m2m.out", "m2m.recipes"

RECIPE = click.Path(dir_okay=False, path_type=Path)


def keep_recipes(ctx: click.Context, _: click.Parameter, given: Any) -> Any:
    """Keep the recipes that the user named, for the lines to type next; folders are none."""
    paths = given if isinstance(given, tuple) else (given,)
    ctx.meta[RECIPES] = [path for path in paths if path is not None and not path.is_dir()]
    return given


def keep_if_recipe(ctx: click.Context, _: click.Parameter, given: tuple[Path, ...]) -> Any:
    """Keep a recipe that was given in place of bare files."""
    return keep_recipes(ctx, _, given) if [path.suffix for path in given] == [".toml"] else given


recipe_argument = click.argument("recipe", type=RECIPE, metavar="RECIPE", callback=keep_recipes)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
hours_option = click.option(
    "--hours",
    type=Real(min=0.0, min_open=True),
    help="Hours that a run may take.",
)
lora_option = click.option(
    "--lora", type=click.Path(path_type=Path), help="GGUF LoRA to put on the model."
)
data_root_option = click.option(
    "--data-root",
    "data_roots",
    type=click.Path(file_okay=False, path_type=Path),
    multiple=True,
    envvar="M2M_DATA_ROOT",
    expose_value=False,
    callback=lambda ctx, _, value: ctx.meta.__setitem__(ROOTS, value),
    help="Another folder in which a recipe or task file may name files. Repeatable.",
)


def _overrides(ctx: click.Context, _: click.Parameter, given: tuple[str, ...]) -> None:
    """Keep what `--set` gives: text by the name of the field."""
    texts: dict[str, str] = {}
    for item in given:
        key, sign, text = (part.strip() for part in item.partition("="))
        if not sign or "." not in key:
            raise click.BadParameter(f"{item!r} is not like train.seed=1")
        if key in texts:
            raise click.BadParameter(f"{key} is given twice")
        texts[key] = text
    ctx.meta[OVERRIDES] = texts


set_option = click.option(
    "--set",
    multiple=True,
    metavar="SECTION.FIELD=VALUE",
    expose_value=False,
    callback=_overrides,
    help="Another value for a field of the recipe, as train.seed=1. Repeatable. Its results have "
    "a folder of their own.",
)
out_option = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    expose_value=False,
    callback=lambda ctx, _, value: ctx.meta.__setitem__(OUT, value),
    help="Folder for the results; else m2m-runs/NAME in the recipe's folder.",
)


def refuse_out() -> None:
    """Raise click.UsageError if several recipes would share the folder of --out."""
    if click.get_current_context().meta.get(OUT):
        raise click.UsageError("--out is the folder of one run; give one recipe with it.")


def given_overrides() -> dict[str, Any]:
    """Return the values of the running command's `--set`, as TOML reads them, by field."""
    from m2m.recipe.overrides import Typed, read_value

    context = click.get_current_context(silent=True)
    texts = context.meta.get(OVERRIDES, {}) if context else {}
    return {key: read_value(Typed(text)) for key, text in texts.items()}


def given_recipe(path: Path) -> Recipe:
    """Read a recipe with the `--data-root`, `--set` and `--out` of the running command."""
    from m2m.recipe import load_recipe
    from m2m.recipe.overrides import Typed

    context = click.get_current_context(silent=True)
    meta = context.meta if context else {}
    texts = {key: Typed(text) for key, text in meta.get(OVERRIDES, {}).items()}
    return load_recipe(path, data_roots(), texts, meta.get(OUT))


def run_folder_of(run: Path) -> Path:
    """Return a run's folder from itself or from its recipe, with --set and --out.

    Raises:
        click.UsageError: the options are given for a folder.
    """
    from m2m.recipe import run_folder

    meta = click.get_current_context().meta
    out, texts = meta.get(OUT), meta.get(OVERRIDES)
    if run.is_dir():
        if out or texts:
            raise click.UsageError(f"{run} is a folder already; --set and --out need a recipe.")
        return run
    if texts:
        return given_recipe(run).folder
    return Path(out) if out else run_folder(run)


leaks_option = click.option(
    "--allow-leaks",
    is_flag=True,
    help="Train also on rows that are dev or test questions; the result is then suspect.",
)
anyway_option = click.option(
    "--anyway", is_flag=True, help="Write the GGUF even if the verdict advises against it."
)
rescore_option = click.option(
    "--rescore", is_flag=True, help="Score here the models whose scores merge-runs brought."
)
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Only warnings and errors.")


class ShareOfN(Pair):
    """A share of the work: "2/8" is the second of eight."""

    name = "share"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return the two numbers."""
        if isinstance(value, tuple):
            return value
        number, slash, total = str(value).partition("/")
        if not (slash and number.isdecimal() and total.isdecimal()):
            self.fail(f"{value!r} is not like 2/8", param, ctx)
        if not 1 <= int(number) <= int(total):
            self.fail(f"{value!r}: shares go from 1/{total} to {total}/{total}", param, ctx)
        return int(number), int(total)


def data_roots() -> tuple[Path, ...]:
    """Return the folders that the user gave to the running command with `--data-root`."""
    context = click.get_current_context(silent=True)
    return context.meta.get(ROOTS, ()) if context else ()


share_option = click.option(
    "--share",
    type=ShareOfN(),
    metavar="I/N",
    help="Do every Nth part, from the Ith on, so that machines share one folder.",
)


def run_options(command: Command) -> Command:
    """Add --set and --out to a command."""
    return set_option(out_option(command))


def recipe_command(command: Command) -> Command:
    """Add RECIPE, --set, --out, --data-root, --json and --quiet to a command."""
    return recipe_argument(run_options(data_root_option(json_option(quiet_option(command)))))


class WordOrNumber(Text):
    """One of some words, or a whole number."""

    def __init__(self, words: Sequence[str], low: int) -> None:
        self.words, self.low = tuple(words), low
        self.name = "|".join([*words, "integer"])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the word, or the number."""
        if value in self.words:
            return value
        if not str(value).isdecimal() or int(value) < self.low:
            expected = " or ".join([*map(repr, self.words), f"a number of {self.low} or more"])
            self.fail(f"{value!r} is not {expected}", param, ctx)
        return int(value)


def field_options(section: type, names: Sequence[str]) -> Callable[[Command], Command]:
    """Make an option for each of these fields of a recipe's section, with its default and help."""
    hints = get_type_hints(section)
    specs = {spec.name: spec for spec in dataclasses.fields(section)}

    def add(command: Command) -> Command:
        for name in reversed(names):
            command = _option(specs[name], hints[name])(command)
        return command

    return add


_ROW_FIELDS = ("prompt", "completion", "system", "text", "messages", "choices", "answers")
FILE_FIELDS = ("encoding", "header", "quotes", "bad_rows")
row_options = field_options(Dataset, [*_ROW_FIELDS, "labels", "where", *FILE_FIELDS])


def row_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a dataset that `row_options` gave; `\\n` in a text is a line break."""

    def broken(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("\\n", "\n")
        return tuple(map(broken, value)) if value and isinstance(value, tuple) else value

    return {
        name: broken(value) if name not in ("labels", "where") else value
        for name, value in options.items()
    }


def given_settings(options: Mapping[str, Any]) -> FileSettings:
    """Return the values of `row_options` as the settings for all files of a command."""
    from m2m.commands.given import FileSettings
    from m2m.dataset.mapping import RowMapping
    from m2m.formats.rowfile import Options

    settings = row_settings(options)
    of_files = {name: settings.pop(name) for name in FILE_FIELDS}
    mapping = RowMapping.of(Dataset("given", Path(), **settings))
    return FileSettings(mapping, Options(**of_files), data_roots())


def model_words(model: str | None, template: str) -> list[str]:
    """Return `--model` and `--template` as words of a command line."""
    words = ["--model", model] if model else []
    return words + (["--template", template] if template != "chat" else [])


def _table_option(spec: dataclasses.Field[Any]) -> Callable[[Command], Command]:
    """Make the option of a table in a recipe: `--labels 0=bad --labels 1=good`."""

    def read(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> Any:
        table: dict[str, Any] = {}
        for item in given:
            key, sign, value = item.partition("=")
            if not sign or not key:
                raise click.BadParameter(f"{item!r} is not like NAME=VALUE")
            table.setdefault(key, []).append(value)
        words = {key: values[-1] for key, values in table.items()}
        try:
            made = TABLES[spec.metadata["table"]](table if spec.name == "where" else words)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
        return made

    text = spec.metadata["help"][0].upper() + spec.metadata["help"][1:]
    return click.option(
        f"--{spec.name}",
        multiple=True,
        metavar="NAME=VALUE",
        callback=lambda ctx, param, given: read(ctx, param, given) if given else (),
        help=f"{text}. Repeatable.",
    )


def _option(spec: dataclasses.Field[Any], hint: Any) -> Callable[[Command], Command]:
    rules, several = spec.metadata, isinstance(spec.default, tuple)
    if "table" in rules:
        return _table_option(spec)
    kind: click.ParamType[Any] = click.STRING
    if hint == Path | None:
        kind = click.Path(path_type=Path)
    elif hint == str | int:
        kind = WordOrNumber(rules["choices"], rules["low"])
    elif "choices" in rules:
        kind = click.Choice(rules["choices"])
    elif hint is float:
        kind = Real(rules["low"], rules.get("high"))
    elif hint is int:
        kind = click.IntRange(rules["low"], rules.get("high"))
    text = rules["help"][0].upper() + rules["help"][1:] + "."
    names = [f"--{name.replace('_', '-')}" for name in (spec.name, rules.get("also")) if name]
    return click.option(
        *names,
        spec.name,
        type=kind,
        default=spec.default,
        multiple=several,
        show_default=spec.default not in ("", (), None),
        help=text + " Repeatable." if several else text,
    )
