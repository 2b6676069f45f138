"""The command line: one entry point, verbs, ``key=value`` overrides after the options.

Nothing heavy is imported before a command needs it, so that ``medglean --help`` answers at once.
Exit status: 0 done, 1 failed, 2 wrong usage, 3 bad data, 4 a gate not met, 130 interrupted.
"""

from __future__ import annotations

import signal
import sys

import typer

from medglean.commands.begin import demo, doctor, presets
from medglean.commands.curate import curate
from medglean.commands.data import audit, index
from medglean.commands.study import report, study
from medglean.commands.train import evaluate, predict, train
from medglean.exits import status_of

app = typer.Typer(
    name="medglean",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help=(
        "Glean more from fewer labels: curate, classify, map disease and stain medical images. "
        "Research software, never a diagnosis."
    ),
)
for command in (
    demo,
    doctor,
    presets,
    index,
    audit,
    curate,
    train,
    predict,
    evaluate,
    report,
    study,
):
    app.command()(command)


def main() -> None:
    """Run the command line and turn medglean's own errors into a message and an exit status."""
    # SIGTERM ends a command as Ctrl-C does: what is open is closed, the status is 130. While a
    # network is trained, the loop takes both signals itself and writes a checkpoint first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status.

    Parameters
    ----------
    arguments
        The command line without the program's name.

    Returns
    -------
    int
        As `medglean.exits.status_of` says.
    """
    return status_of(lambda: app(args=arguments, prog_name="medglean"))
