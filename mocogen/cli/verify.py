"""``mocogen verify-layers``: the hand-written layers against PyTorch's."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import common

if TYPE_CHECKING:
    from ..verify import Report


def verify_layers(
    solutions: Annotated[
        Path | None,
        typer.Option(help="The course's reference values (solutions.json), to be met as well."),
    ] = None,
    device: common.Device = "auto",
    as_json: common.Json = False,
) -> None:
    """Check the hand-written layers against PyTorch's; exit status 1 if any differs."""
    from .. import verify
    from ..devices import choose_device

    chosen = choose_device(device)
    values = verify.read_solutions(solutions) if solutions else None
    report = verify.run_checks(chosen, values)
    if as_json:
        print(json.dumps(report.record()))
    else:
        _show(report)
    if not report.passed:
        raise typer.Exit(1)


def _show(report: Report) -> None:
    """The table, what went wrong, and a line that sums it up, on standard error."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("check", "precision", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("largest\ndifference", justify="right")
    table.add_column("tolerance", justify="right")
    table.add_column("result")
    for result in report.results:
        table.add_row(
            result.name,
            result.precision,
            _figure(result.difference),
            _figure(result.tolerance),
            Text("pass", "green") if result.passed else Text("FAIL", "bold red"),
        )
    # Where nobody reads along, lines need not be broken at a terminal's width.
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 100)
    console.print(table)
    for result in report.results:
        if result.note:
            console.print(Text(f"{result.name}, {result.precision}: {result.note}"))
    for note in report.notes:
        console.print(Text(note))
    passed = sum(result.passed for result in report.results)
    summary = f"{passed} of {len(report.results)} checks passed on {report.device}"
    console.print(Text(summary, "green" if report.passed else "bold red"))


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.1e}" if value else "0"
