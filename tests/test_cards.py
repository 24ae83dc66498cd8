"""The command in a model card gives the settings that its checkpoint was trained with."""

from __future__ import annotations

import json
import re
import shlex
from itertools import pairwise
from typing import Any

import pytest

from mocogen import checkpoint
from mocogen.training.config import from_dict, load_config

from .conftest import ROOT

# What changes no weight: the stages of one call, what the weights are called by, how often a
# state or a sheet is written; where the checkpoint lay that it began with; and what the machine
# decides where it is left to it.
ASIDE = {
    "stages", "precision", "sheet_minutes", "save_minutes", "log_steps", "name", "license", "start",
}  # fmt: skip


def settings_in(card: str) -> tuple[str, list[str]]:
    """The recipe and the settings of the commands that write into the folder of a card's last
    one, in their order. A folder before it is that of the checkpoint that it began with."""
    recipe, settings, folder = "split", [], ""
    for block in re.findall(r"```text\n(.*?)```", card, re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line)
            if words[:2] != ["mocogen", "train"]:
                continue
            out = words[words.index("--out") + 1]
            if out != folder:
                recipe, settings, folder = "split", [], out
            for option, value in pairwise(words):
                if option == "--set":
                    settings.append(value)
                elif option == "--seed":
                    settings.append(f"run.seed={value}")
                elif option == "--recipe":
                    recipe = value
    return recipe, settings


@pytest.mark.parametrize("name", sorted(checkpoint.shipped()))
def test_the_command_gives_the_recorded_settings(name: str) -> None:
    card = (ROOT / "checkpoints" / f"{name}.md").read_text(encoding="utf-8")
    recipe, settings = settings_in(card)
    assert settings, "the card has no training command"
    wanted = json.loads(json.dumps(load_config(recipe, settings).to_dict()))
    metadata = json.loads(checkpoint.read_metadata(checkpoint.find(name)))
    # With what settings that came later were for it.
    recorded: dict[str, Any] = from_dict(metadata["training"]["config"]).to_dict()
    start = metadata["training"].get("start_sha256", "")
    assert bool(start) == bool(recorded.get("generator", {}).get("start"))
    assert start[:16] in card
    for section, values in json.loads(json.dumps(recorded)).items():
        if not isinstance(values, dict) or section == "joint":  # joint is not run
            continue
        found = {key: wanted[section][key] for key in values if key not in ASIDE}
        assert found == {key: value for key, value in values.items() if key not in ASIDE}
