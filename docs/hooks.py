"""Writes a page for every command of mocogen, from the command line itself, when the site is
built. A new command has its page and its place in the navigation at once, and so has a new page
of this folder, among the guides."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.main import get_command

from mocogen.cli.app import app

FOLDER = "commands"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put commands and pages into the navigation that it does not name."""
    navigation = config.nav or []
    named = re.findall(r"[\w-]+\.md", str(navigation))
    here = sorted(path.name for path in Path(config.docs_dir).glob("*.md"))
    commands = [{name: f"{FOLDER}/{_file(name)}"} for name, _ in _commands()]
    for entry in navigation:
        if "Commands" in entry:
            entry["Commands"] = [{"Overview": f"{FOLDER}/index.md"}, *commands]
        elif "Guides" in entry:
            entry["Guides"] += [name for name in here if name not in named]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    overview = ["# Commands", "", "| command | what it does |", "|---|---|"]
    for name, command in _commands():
        file = _file(name)
        overview.append(f"| [`mocogen {name}`]({file}) | {_text(_first(command.help))} |")
        page = File.generated(config, f"{FOLDER}/{file}", content=_page(name, command))
        files.append(page)
    content = "\n".join(overview) + "\n"
    files.append(File.generated(config, f"{FOLDER}/index.md", content=content))
    return files


def _commands() -> Iterator[tuple[str, Any]]:
    """Every command with its full name, those of groups included, in the order of --help."""

    def below(group: Any, before: str) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from below(command, f"{before}{name} ")
            elif not command.hidden:
                yield f"{before}{name}", command

    return below(get_command(app), "")


def _page(name: str, command: Any) -> str:
    """The page of one command: its usage, its help, a table of options for every panel."""
    context = command.make_context(f"mocogen {name}", [], resilient_parsing=True)
    usage = command.get_usage(context).removeprefix("Usage: ")
    lines = [f"# mocogen {name}", "", *_paragraphs(command.help), "```text", usage, "```", ""]
    panels: dict[str, list[str]] = {}
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is None or getattr(parameter, "hidden", False):
            continue
        kind = "Options" if parameter.param_type_name == "option" else "Arguments"
        term = html.escape(record[0]).replace("|", "&#124;")
        row = f"| <code>{term}</code> | {_text(record[1])} |"
        panels.setdefault(parameter.rich_help_panel or kind, []).append(row)
    for panel, rows in panels.items():
        lines += [f"## {panel}", "", "| name | meaning |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _file(name: str) -> str:
    return name.replace(" ", "-") + ".md"


def _first(text: str | None) -> str:
    return (text or "").strip().split("\n\n")[0]


def _paragraphs(text: str | None) -> Iterator[str]:
    for paragraph in (text or "").strip().split("\n\n"):
        yield _text(paragraph)
        yield ""


def _text(text: str) -> str:
    """Help text as Markdown: what has a meaning there is escaped, line breaks are spaces."""
    plain = " ".join(text.replace("\\[", "[").split())
    return re.sub(r"([\\`*_{}\[\]|])", r"\\\1", html.escape(plain, quote=False))
