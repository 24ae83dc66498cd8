"""What the shell completes, by way of the shell's own script and typer's protocol."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mocogen.cli.complete import samplers

from .conftest import BACKENDS, ROOT

PROGRAM = "import sys; sys.argv[0] = 'mocogen'; from mocogen.cli import main; main()"

Complete = Callable[..., list[str]]


@pytest.fixture
def complete(tmp_path: Path) -> Complete:
    """What is offered for the last of the words, as bash asks for it."""

    def complete(*words: str) -> list[str]:
        environment = {
            **os.environ,
            "_MOCOGEN_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(["mocogen", *words]),
            "COMP_CWORD": str(len(words)),
        }
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        return done.stdout.split()

    return complete


def test_commands_and_options_are_offered(complete: Complete):
    assert "gallery" in complete("ga")
    assert "--checkpoint" in complete("sample", "--che")


def test_checkpoints_are_names_and_files(complete: Complete, tmp_path: Path):
    for name in ("own.safetensors", "runs/a.safetensors", "runs/losses.jsonl", "other.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert complete("sample", "--checkpoint", "''") == [
        "shapes",
        "weizmann",
        "own.safetensors",
        "runs/",
    ]
    assert complete("sample", "--checkpoint", "we") == ["weizmann"]
    assert complete("smooth", "--checkpoint", "s") == ["smooth"]
    assert complete("info", "''")[:3] == ["shapes", "smooth", "weizmann"]
    assert complete("sample", "--checkpoint", "runs/") == ["runs/a.safetensors"]
    assert complete("info", "ow") == ["own.safetensors"]


def test_a_damaged_checkpoint_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "broken.safetensors").write_bytes(b"no checkpoint")
    monkeypatch.setattr("mocogen.checkpoint.shipped_folder", lambda: tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    assert samplers("bro") == []


def test_actions_are_those_of_the_checkpoint(complete: Complete, tiny: Path):
    assert complete("sample", "--action", "wa") == ["wave1", "wave2"]
    assert complete("sample", "--checkpoint", str(tiny), "--action", "''") == ["hop", "spin"]
    assert complete("play", "--checkpoint", "nobody", "--action", "''") == []


def test_devices_and_backends_are_those_that_are_here(complete: Complete):
    devices = complete("sample", "--device", "''")
    assert devices[:2] == ["auto", "cpu"]
    assert ("cuda:0" in devices) == Path("/proc/driver/nvidia/gpus").is_dir()
    assert {"auto", *BACKENDS} <= set(complete("sample", "--backend", "''"))


def test_gpus_are_counted_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from mocogen.cli import complete

    for gpu in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / gpu).mkdir()
    monkeypatch.setattr(complete, "GPUS", tmp_path)
    assert complete.devices("cuda") == ["cuda", "cuda:0", "cuda:1"]


def test_completing_does_not_pay_for_torch():
    program = (
        "import sys\n"
        "from mocogen.cli import complete as c\n"
        "c.checkpoints(''), c.devices(''), c.backends('')\n"
        "print('torch' in sys.modules, 'openvino' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], done.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_installed_script_completes_in_bash(tmp_path: Path):
    """`mocogen --install-completion`, and then Tab, in a bash of its own."""
    command = tmp_path / "bin" / "mocogen"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\n{PROGRAM}\n")
    command.chmod(0o755)
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }

    def bash(script: str) -> str:
        # The echo keeps bash as the parent: it would hand its process to a last command.
        done = subprocess.run(
            ["bash", "--norc", "-c", script + "\necho end"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.removesuffix("end\n")

    assert "bash completion installed" in bash("mocogen --install-completion")
    assert (tmp_path / ".bashrc").is_file()
    offered = bash(
        """
        source ~/.bashrc
        COMP_WORDS=(mocogen sample --action b) COMP_CWORD=3
        # The function that bash calls at Tab, with the command as its first argument.
        $(complete -p mocogen | sed 's/.*-F \\([^ ]*\\).*/\\1/') mocogen
        printf '%s\\n' "${COMPREPLY[@]}"
        """
    )
    assert offered.split() == ["bend"]
