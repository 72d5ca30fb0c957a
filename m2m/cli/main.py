"""The `m2m` command: its groups, its errors and its exit codes.

Only click is imported here and at the head of every command module, so that `m2m --help` is quick;
NumPy, llama.cpp and rich are imported inside the commands that use them.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import click

from m2m.cli import (
    compare,
    completion,
    data,
    demo,
    doctor,
    evaluate,
    explain,
    init,
    judge,
    merge_runs,
    models,
    plan,
    recipes,
    report,
    task_list,
    tools,
    validate,
)
from m2m.cli.console import as_stopped, say
from m2m.errors import Interrupted, M2MError, ResourceError
from m2m.escaping import visible

_NO_MEMORY = (
    "there was not enough memory; finished work is kept",
    "free memory, lower batch_tokens in [train], or take a smaller base, and run it again",
)
# A pulled USB stick or a lost network share: a fault of the machine, in any command.
_DISK_IS_GONE = (errno.EIO, errno.ENODEV, errno.ENXIO, getattr(errno, "ESTALE", errno.EIO))
_LOOK = "see that its disk is still there, then run the same command again"

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Commands(click.Group):
    """A group that prints m2m's own errors as messages; all others keep their traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command: exit 1 after an `M2MError`, 130 after an interruption."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            error.message = visible(error.message)  # type: ignore[misc]
            raise
        except click.Abort:  # Ctrl-C or the end of the input at a question
            say("", "Stopped at a question. Run it again to answer it.", err=True)
            ctx.exit(130)
        except (Interrupted, KeyboardInterrupt) as error:
            _say(as_stopped(error))
            ctx.exit(130)
        except M2MError as error:
            _say(error)
            ctx.exit(1)
        except MemoryError:
            _say(ResourceError(*_NO_MEMORY))
            ctx.exit(1)
        except OSError as error:
            if error.errno not in _DISK_IS_GONE:
                raise
            _say(ResourceError(f"{error.strerror}: {error.filename or 'the disk'}", _LOOK))
            ctx.exit(1)


def _say(error: M2MError) -> None:
    say(*error.for_user().split("\n"), err=True)


@click.group(cls=Commands, context_settings=CONTEXT)
@doctor.version_option
def cli() -> None:
    """Find out which datasets to fine-tune a small language model on, before you fine-tune.

    \b
    The main job:    m2m run recipe.toml
    Its steps:       m2m train, search, confirm, export, report
    Its reliability: m2m validate recipe.toml
    Data to collect: m2m more-rows recipe.toml
    """


for module in (
    models,
    data,
    init,
    plan,
    recipes,
    report,
    validate,
    evaluate,
    judge,
    compare,
    explain,
    task_list,
    merge_runs,
    tools,
    doctor,
    completion,
    demo,
):
    for command in module.COMMANDS:
        cli.add_command(command)


def main() -> None:
    """Run the `m2m` script."""
    # Busy-waiting OpenMP threads starve each other on a shared machine; read when llama.cpp loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        # A non-UTF-8 locale must not turn a Yoruba row into a UnicodeEncodeError.
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    cli(prog_name="m2m")
