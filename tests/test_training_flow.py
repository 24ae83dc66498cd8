"""Training voxel flow end to end on tiny clips, and measuring what came of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lightning_fabric")

from benchmarks import smooth as benchmark
from mocogen import flow_checkpoint
from mocogen.errors import MocogenError, UsageError
from mocogen.evaluation.fidelity import moving, psnr, squared_error, ssim_map
from mocogen.training.config import TrainConfig, load_config
from mocogen.training.data import load_clips
from mocogen.training.run import train
from mocogen.voxel_flow import VoxelFlow
from tests.conftest import Run
from tests.test_training import Notes, losses
from tests.test_training_data import write_strip

TINY = [
    "run.log_steps=10",
    "data.min_frames=8",
    "flow.steps=120",
    "flow.batch=4",
    "flow.width=4",
    "flow.image_size=32",
    "flow.crop=24",
    "flow.candidates=1",
    "flow.span=2",
    "flow.learning_rate=4e-3",
    "flow.hold_out=p2",
]


def tiny(*overrides: str) -> TrainConfig:
    return load_config("voxel-flow", [*TINY, *overrides])


def waves(person: int, count: int = 10, size: int = 32) -> np.ndarray:
    """A smooth pattern that moves by one and a half pixels a frame: (count, size, size, 3)."""
    x, y = np.arange(size)[None, None, :], np.arange(size)[None, :, None]
    phase = 0.6 * (x - 1.5 * np.arange(count)[:, None, None]) + 0.3 * (y + person)
    bright = 128 + 100 * np.sin(phase)
    return np.repeat(bright[..., None], 3, 3).astype(np.uint8)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("waves")
    for person in range(3):
        write_strip(folder / f"p{person}.png", waves(person))
    return folder


@pytest.fixture(scope="module")
def run_folder(clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(clip_folder, folder, tiny(), "cpu")
    return folder


def test_a_run_learns_where_things_move(run_folder: Path) -> None:
    told = losses(run_folder, "flow")
    assert told[-1]["error"] < 0.7 * told[-1]["blend"]
    assert told[-1]["error"] < 0.7 * told[0]["error"]
    sheets = {path.name for path in (run_folder / "sheets").iterdir()}
    assert sheets == {"flow-000120.png", "losses-flow.png"}


def test_the_checkpoint_says_who_was_held_out(run_folder: Path) -> None:
    spec, network = flow_checkpoint.load(run_folder / "checkpoint.safetensors")
    assert (spec.width, spec.training["recipe"], spec.training["seed"]) == (4, "voxel-flow", 0)
    assert spec.training["held_out"] == ["p2"]
    assert sorted(spec.training["files"]) == ["p0.png", "p1.png"]
    listed = json.loads((run_folder / "data.json").read_text())["files"]
    lines = "".join(f"{f['sha256']}  {f['path']}\n" for f in listed if f["path"] != "p2.png")
    assert spec.training["data_sha256"] == hashlib.sha256(lines.encode()).hexdigest()
    assert not network.training


def test_an_interrupted_run_goes_on_as_if_nothing_had_been(
    run_folder: Path, clip_folder: Path, tmp_path: Path
) -> None:
    config = tiny("flow.steps=20")
    with pytest.raises(KeyboardInterrupt):
        train(clip_folder, tmp_path / "cut", config, "cpu", reporter=Notes(stop_at=10))
    train(clip_folder, tmp_path / "cut", config, "cpu", resume=True)
    train(clip_folder, tmp_path / "whole", config, "cpu")
    # A stop writes a line of its own, which the other run does not have.
    assert losses(tmp_path / "cut", "flow")[-1]["step"] == 20
    states = [(tmp_path / name / "checkpoint.safetensors") for name in ("cut", "whole")]
    ours, theirs = (flow_checkpoint.load(path)[1].state_dict() for path in states)
    assert all(bool((ours[key] == theirs[key]).all()) for key in ours)


def test_a_run_with_other_people_held_out_is_not_gone_on_with(
    run_folder: Path, clip_folder: Path
) -> None:
    with pytest.raises(MocogenError, match=r"flow\.hold_out"):
        train(clip_folder, run_folder, tiny("flow.hold_out=p1"), "cpu", resume=True)


def test_a_learning_rate_need_not_fall(clip_folder: Path, tmp_path: Path) -> None:
    train(clip_folder, tmp_path, tiny("flow.steps=3", "flow.decay_start=1"), "cpu")
    assert losses(tmp_path, "flow")[-1]["step"] == 3


def test_nobody_of_that_name(clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no group 'p9' to hold out"):
        train(clip_folder, tmp_path / "a", tiny("flow.hold_out=p9"), "cpu")
    with pytest.raises(MocogenError, match="all clips are held out"):
        train(clip_folder, tmp_path / "b", tiny("flow.hold_out=p0,p1,p2"), "cpu")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("generator.steps=3", r"\[generator\] is of no use"),
        ("run.stages=flow,motion", "another kind of network"),
        ("run.stages=motion", r"\[flow\] is of no use|no section \[model\]"),
        ("run.precision=bf16", "use one of auto, 32"),
        ("flow.crop=20", "multiple of 8"),
        ("flow.crop=72", "at most"),
        ("flow.span=1", "from 2 on"),
        ("flow.decay_start=1.2", "from 0 to 1"),
        ("flow.ema=0", "above 0"),
        ("flow.smooth_mask=nan", "a finite number"),
        ("data.min_frames=4", "more frames than flow.span"),
    ],
)
def test_settings_that_no_voxel_flow_could_use(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_config("voxel-flow", [setting])


def test_the_command_trains_and_smooths(run: Run, clip_folder: Path, tmp_path: Path) -> None:
    words = [word for setting in TINY for word in ("--set", setting)]
    words += ["--set", "flow.steps=2", "--batch", "2"]
    done = run("train", clip_folder, "--out", "run", "--recipe", "voxel-flow", *words)
    assert done.returncode == 0, done.stderr
    assert "mocogen smooth" in done.stderr
    assert "batch = 2" in (tmp_path / "run" / "config.toml").read_text()
    checkpoint = "run/checkpoint.safetensors"
    clip = clip_folder / "p2.png"
    done = run("smooth", clip, "--checkpoint", checkpoint, "--out", "smooth.npy")
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "smooth.npy").shape == (19, 32, 32, 3)


def test_the_benchmark_measures_people_held_out(
    run_folder: Path, clip_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = run_folder / "checkpoint.safetensors"
    out = tmp_path / "result.json"
    words = ["--data", clip_folder, "--checkpoint", checkpoint, "--json", out]
    assert benchmark.main([str(word) for word in words]) == 0
    result = json.loads(out.read_text())
    assert result["frames"] == {"p2": 4}
    rows = result["rows"]
    assert rows["voxel flow"]["psnr_moving"] > rows["blend"]["psnr_moving"]
    assert rows["blend"]["psnr_moving"] > rows["repeat"]["psnr_moving"]
    assert "| voxel flow |" in capsys.readouterr().out
    assert benchmark.main([*map(str, words), "--everyone"]) == 0
    assert json.loads(out.read_text())["frames"] == {"p0": 4, "p1": 4, "p2": 4}


def test_the_benchmark_leaves_out_every_second_frame(run_folder: Path, clip_folder: Path) -> None:
    spec = flow_checkpoint.read_spec(run_folder / "checkpoint.safetensors")
    clips = load_clips(clip_folder, 32, min_frames=3)
    (held,) = (clip for clip in clips.clips if clip.group == "p2")
    frames = clips.frames[held.start : held.start + held.length]
    found = list(benchmark.triplets(clip_folder, spec, everyone=False))
    assert {clip.path for clip, _ in found} == {held.path}
    for k, (_, three) in enumerate(found):
        np.testing.assert_array_equal(three, frames[2 * k : 2 * k + 3])
    assert len(found) == (held.length - 1) // 2


def test_the_benchmark_measures_the_shipped_checkpoint(clip_folder: Path, tmp_path: Path) -> None:
    """Its record may be older than some of the settings."""
    out = tmp_path / "result.json"
    words = ["--data", str(clip_folder), "--everyone", "--json", str(out)]
    assert benchmark.main(words) == 0
    assert json.loads(out.read_text())["frames"] == {"p0": 4, "p1": 4, "p2": 4}


def test_the_benchmark_wants_people_held_out(
    clip_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "flow.safetensors"
    flow_checkpoint.save(path, flow_checkpoint.FlowSpec(width=4), VoxelFlow(4))
    assert benchmark.main(["--data", str(clip_folder), "--checkpoint", str(path)]) == 1
    assert "held nobody out" in capsys.readouterr().err


def test_fidelity() -> None:
    frame = waves(0)[0]
    brighter = frame + np.uint8(1)
    assert psnr(squared_error(brighter, frame)) == pytest.approx(20 * np.log10(255))
    assert psnr(0) == float("inf")
    assert ssim_map(frame, frame) == pytest.approx(1)
    noisy = frame.copy()
    noisy[:16] = np.random.default_rng(0).integers(0, 255, (16, 32, 3))
    similar = ssim_map(noisy, frame)
    assert similar.shape == (32, 32)
    assert similar[:8].mean() < 0.5 < similar[24:].mean()
    where = moving(frame, noisy, 20)
    assert where[:16].mean() > 0.5
    assert not where[16:].any()
    assert squared_error(noisy, frame, where) > squared_error(noisy, frame)
