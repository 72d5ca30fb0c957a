"""`m2m completion`: let a shell complete commands, options, files and models."""

from __future__ import annotations

import click

from m2m.cli.console import say

# The file from which each shell reads it at every start.
INSTALL = {
    "bash": "m2m completion bash > ~/.local/share/bash-completion/completions/m2m",
    "zsh": 'm2m completion zsh > ~/.m2m-completion.zsh; echo ". ~/.m2m-completion.zsh" >> ~/.zshrc',
    "fish": "m2m completion fish > ~/.config/fish/completions/m2m.fish",
}


@click.command("completion")
@click.argument("shell", type=click.Choice([*INSTALL]))
def completion(shell: str) -> None:
    """Print the script with which a shell completes m2m's commands.

    It completes options, files and names of models too.

    \b
    Example:  m2m completion bash > ~/.local/share/bash-completion/completions/m2m
              m2m completion fish > ~/.config/fish/completions/m2m.fish
              m2m completion zsh > ~/.m2m-completion.zsh    (and: . ~/.m2m-completion.zsh)
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise AssertionError("supported shells: bash, zsh and fish")
    group = click.get_current_context().find_root().command
    say(*kind(group, {}, "m2m", "_M2M_COMPLETE").source().split("\n"), copied=True)
    say(f"Install it with:  {INSTALL[shell]}", err=True, copied=True)


COMMANDS = [completion]
