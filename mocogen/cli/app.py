"""The commands together."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from .convert import convert
from .dataset import dataset
from .doctor import doctor
from .export import export
from .gallery import gallery
from .grid import grid
from .info import info
from .interpolate import interpolate
from .play import play
from .sample import sample
from .smooth import smooth
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
app.command()(grid)
app.command()(interpolate)
app.command()(info)
app.command()(smooth)
app.command()(gallery)
app.command()(play)
app.command()(convert)
app.command()(export)
app.command()(train)
app.command("verify-layers")(verify_layers)
app.command()(doctor)
app.add_typer(dataset, name="dataset")
