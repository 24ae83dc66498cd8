"""``mocogen doctor``: it tells the truth about what is there, and about what is broken."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import mocogen
from mocogen import doctor
from mocogen.cli import main
from mocogen.video import WRITERS

from .conftest import BACKENDS

Doctor = Callable[..., tuple[int, str, str]]


@pytest.fixture
def told_by(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Run ``mocogen doctor`` in this process: status, standard output, standard error."""

    def told_by(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["mocogen", "doctor", *words])
        with pytest.raises(SystemExit) as ending:
            main()
        printed = capsys.readouterr()
        return int(ending.value.code or 0), printed.out, printed.err

    return told_by


def test_what_works_is_told(told_by: Doctor):
    status, out, said = told_by("--json")
    assert status == 0, said
    told = json.loads(out)
    assert told["works"] is True
    found = {f"{f['section']} {f['name']}": f for f in told["findings"]}
    assert all(f["ok"] for f in found.values() if f["needed"])
    assert torch.__version__ in found["torch torch"]["says"]
    assert "cpu" in found["torch devices"]["says"]
    assert all(name in found["backends installed"]["says"] for name in BACKENDS)
    assert all(f["ok"] for f in told["findings"] if f["section"] == "checkpoints")
    assert "wave1" in found["checkpoints weizmann"]["says"]
    assert "smoothing" in found["checkpoints smooth"]["says"]
    backend = mocogen.load("weizmann", "cpu").backend.name
    assert f"backend {backend} on cpu" in found["sampling weizmann"]["says"]
    assert set(WRITERS) <= {f["name"] for f in told["findings"] if f["section"] == "encoders"}


def test_a_missing_encoder_is_told_and_costs_the_status(
    told_by: Doctor, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "av", None)
    status, out, said = told_by()
    assert status == 1
    assert ".mp4           BROKEN" in out
    assert ".webp          libwebp" in out, "what works is told as well"
    assert said.startswith("mocogen: sampling does not work here: encoders .gif")
    assert said.count("\n") == 1


def test_a_broken_ffmpeg_stops_nothing(
    told_by: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "ffmpeg").write_bytes(b"\x7fELF no program")
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    status, out, said = told_by()
    assert status == 0, said
    assert "does not run" in out
    assert "sampling" in out


def test_what_is_asked_for_is_what_is_tried(told_by: Doctor):
    status, _, said = told_by("--device", "cuda:99")
    assert status == 1
    assert "sampling weizmann: device cuda:99 is not there" in said
    assert told_by("--checkpoint", "nobody")[0] == 1


@pytest.mark.skipif(len(BACKENDS) == 1, reason="no backend but torch is installed")
def test_without_torch_it_samples_all_the_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    found = {(f.section, f.name): f for f in doctor.examine(device="cpu")}
    assert not found["torch", "torch"].ok
    assert found["sampling", "weizmann"].ok
