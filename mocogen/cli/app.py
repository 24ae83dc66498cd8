"""The commands together, and the one place where an error becomes an exit status."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from .. import __version__
from ..errors import MocogenError
from .convert import convert
from .dataset import dataset
from .doctor import doctor
from .gallery import gallery
from .info import info
from .play import play
from .sample import sample
from .train import train
from .verify import verify_layers

app = typer.Typer(
    name="mocogen",
    help="Invents video: content and motion from noise, a clip from both.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"mocogen {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options that stand before a command."""


app.command()(sample)
app.command()(info)
app.command()(gallery)
app.command()(play)
app.command()(convert)
app.command()(train)
app.command("verify-layers")(verify_layers)
app.command()(doctor)
app.add_typer(dataset, name="dataset")


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    try:
        app()
    except MocogenError as error:
        print(f"mocogen: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe has seen enough; Python must not try to flush the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
