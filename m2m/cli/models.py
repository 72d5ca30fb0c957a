"""`m2m models`: add, list and remove the base models of this machine."""

from __future__ import annotations

from pathlib import Path

import click

from m2m.cli.options import json_option, quiet_option
from m2m.families import KNOWN

root_option = click.option(
    "--models",
    "root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("models"),
    envvar="M2M_MODELS",
    show_default=True,
    help="Folder that holds the models.",
)


@click.group("models")
def models() -> None:
    """Add, list and remove base models."""


@models.command("add")
@click.argument("source")
@click.option("--name", help="Name of the model; by default that of the file.")
@click.option("--licence", help="Its licence, if the file does not name it.")
@click.option("--if-missing", is_flag=True, help="Do nothing if the model is there already.")
@root_option
@json_option
@quiet_option
def add(
    source: str,
    name: str | None,
    licence: str | None,
    if_missing: bool,
    root: Path,
    as_json: bool,
    quiet: bool,
) -> None:
    """Import a model, from a GGUF file or a Hugging Face folder.

    Of a split GGUF, give any part. `starter` is the model that models/starter.toml describes. Known
    families: FAMILIES, and models that are made like them.

    \b
    Example:  m2m models add starter
              m2m models add ~/Downloads/Qwen2.5-0.5B.gguf --name qwen
              m2m models add /media/usb/gemma-3-270m
    """
    from m2m.checkpoint import import_model, list_models
    from m2m.checkpoint.starter import locate
    from m2m.cli import show
    from m2m.llamacpp.guard import check_import
    from m2m.store import run_lock

    located = locate(source, root, name, licence)
    if if_missing and any(info.name == located.name for info in list_models(root)):
        return
    located.check()
    with run_lock(root):
        info = import_model(
            located.path,
            root / located.name,
            name=located.name,
            licence=located.licence,
            check=check_import,
        )
    if as_json or not quiet:
        show.models([info], as_json, f"m2m init --model {info.name}")
    else:
        show.model_warnings([info])


add.help = (add.help or "").replace("FAMILIES", KNOWN)


@models.command("list")
@click.option(
    "--models",
    "root",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that holds the models; else all in which m2m looks for a base.",
)
@json_option
def list_(root: Path | None, as_json: bool) -> None:
    """List the imported models.

    \b
    Example:  m2m models list
    """
    from m2m.checkpoint import list_models
    from m2m.cli import show
    from m2m.pipeline.inputs import model_folders

    roots = [root] if root else model_folders()
    found = {info.name: info for each in reversed(roots) for info in list_models(each)}
    then = "m2m init" if found else "m2m models known"
    show.models(sorted(found.values(), key=lambda info: info.name), as_json, then)


@models.command("known")
@json_option
def known(as_json: bool) -> None:
    """List small models that fit, and say how to get one.

    Memory is for training with the defaults, and the least that it can do with. m2m downloads
    nothing: the last lines say how to bring a model to this machine.

    \b
    Example:  m2m models known
    """
    from m2m.checkpoint.known import known_models, way
    from m2m.cli import show
    from m2m.cli.console import say

    found = known_models()

    def shown() -> None:
        for model in found:
            usual, least = model.memory
            say(
                f"{model.hub}: {model.parameters:,} M parameters, training takes {usual} GiB "
                f"(at least {least}), {model.licence}; {model.languages}"
            )
        say(f"{way('OWNER/NAME')}.", "`m2m plan RECIPE` measures time and memory on this machine.")

    show.result([model.as_json() for model in found], as_json, shown)


@models.command("remove")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@root_option
def remove(name: str, yes: bool, root: Path) -> None:
    """Delete an imported model.

    \b
    Example:  m2m models remove smollm2-135m-instruct
    """
    from m2m.checkpoint import find_model, remove_model
    from m2m.cli.console import asked

    model = find_model(name, [root])
    if not yes:
        click.confirm(asked(f"delete {model.path}?"), abort=True, err=True)
    remove_model(model.path)


COMMANDS = [models]
