"""Training end to end on tiny clips and tiny networks."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("lightning_fabric")

from lightning_fabric import Fabric

from mocogen.checkpoint import load as load_checkpoint
from mocogen.errors import MocogenError, UsageError
from mocogen.synthesis import load
from mocogen.training.config import TrainConfig, load_config
from mocogen.training.content import ContentRegions
from mocogen.training.counterparts import Counterparts
from mocogen.training.data import ClipSet, load_clips
from mocogen.training.losses import (
    cells_l1,
    edge_l1,
    regard_for_errors,
    regard_for_movement,
    restlessness,
    shared,
    shining,
    stillness,
    tint,
    tint_apart,
    weighted_l1,
    weighted_l2,
)
from mocogen.training.networks import FrameDiscriminator, MotionEncoder
from mocogen.training.optimisation import adam, half_cosine, ramp, set_rate
from mocogen.training.run import clips_of, only_one, train
from mocogen.training.sampling import FrameSampler
from mocogen.training.stage import Context, Silent
from mocogen.training.stage_generator import GeneratorStage
from mocogen.training.stage_motion import moments
from mocogen.training.states import _load_optimiser, read_state
from tests.test_training_data import frames, write_strip

TINY = [
    "run.precision=32",
    "run.log_steps=1",
    "data.min_frames=8",
    "model.content=6",
    "model.noise=3",
    "model.hidden=8",
    "model.motion=4",
    "model.width=4",
    "model.image_size=32",
    "generator.steps=5",
    "generator.batch=4",
    "generator.swapped=3",
    "generator.encoder_width=4",
    "generator.discriminator_width=4",
    "generator.discriminator_size=32",
    "generator.discriminator_start=0.3",
    "motion.steps=5",
    "motion.batch=3",
    "motion.window=8",
    "motion.long_window=12",
    "motion.warm_up=3",
    "motion.critic_width=8",
    "motion.endless=b",
    "joint.steps=5",
    "joint.batch=2",
    "joint.frames=8",
    "joint.skip=1",
    "joint.discriminator_width=4",
]


def tiny(*overrides: str, recipe: str = "split") -> TrainConfig:
    return load_config(recipe, [*TINY, *overrides])


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for action in ("a", "b"):
        for person in range(2):
            write_strip(folder / action / f"p{person}.png", frames(10, 32, person))
    return folder


@pytest.fixture(scope="module")
def run(clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of all three stages."""
    folder = tmp_path_factory.mktemp("run")
    names = str(clip_folder), str(folder)  # as good as paths
    train(*names, tiny("run.stages=generator,motion,joint"), "cpu")
    return folder


class Notes(Silent):
    """A reporter that remembers, and may interrupt."""

    def __init__(self, stop_at: int = 0) -> None:
        self.texts: list[str] = []
        self.stop_at = stop_at

    def note(self, text: str) -> None:
        self.texts.append(text)

    def update(
        self, step: int, done: float, seconds_left: float, losses: Mapping[str, float]
    ) -> None:
        if step == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)


def losses(folder: Path, stage: str) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    kept = [line for line in lines if line.pop("stage") == stage]
    for line in kept:
        line.pop("seconds")
    return kept


def generator_stage(data: Path, folder: Path, config: TrainConfig) -> GeneratorStage:
    """An untrained one, of a run in a folder."""
    fabric = Fabric(accelerator="cpu", devices=1)
    return GeneratorStage(Context(config, clips_of(data, config), fabric, folder))


def test_a_run_leaves_a_usable_checkpoint(run: Path) -> None:
    model = load(run / "checkpoint.safetensors", "cpu")
    assert model.spec.actions == ("a", "b")
    assert model.spec.training["recipe"] == "split"
    assert model.spec.training["config"]["generator"]["steps"] == 5
    assert set(model.spec.training["hours"]) == {"generator", "motion", "joint"}
    assert len(model.spec.training["files"]) == 4
    assert (model.spec.regions, model.spec.content_push) == (4, 2.0)  # two people, mirrored
    assert model.spec.warm_up == 3
    clip = model.sample(frames=5, seed=1, action="b")
    assert clip.shape == (5, 32, 32, 3)
    for name in ("config.toml", "data.json", "machine.json", "losses.jsonl"):
        assert (run / name).exists()
    sheets = {path.name for path in (run / "sheets").iterdir()}
    assert {"generator-000005.png", "motion-000005.png", "losses-joint.png"} <= sheets
    assert not list(run.glob(".*")), "no temporary files are left"


def test_the_same_seed_gives_the_same_losses(run: Path, clip_folder: Path, tmp_path: Path) -> None:
    train(clip_folder, tmp_path / "again", tiny("run.stages=generator,motion"), "cpu")
    for stage in ("generator", "motion"):
        assert losses(tmp_path / "again", stage) == losses(run, stage)
    train(clip_folder, tmp_path / "other", tiny("run.stages=generator", "run.seed=1"), "cpu")
    assert losses(tmp_path / "other", "generator") != losses(run, "generator")


def with_states(folder: Path, run: Path, *stages: str) -> Path:
    """A folder with some of a run's states."""
    for stage in stages:
        (folder / f"state-{stage}.pt").write_bytes((run / f"state-{stage}.pt").read_bytes())
    return folder


@pytest.mark.parametrize("stage", ["generator", "motion", "joint"])
def test_an_interrupted_stage_goes_on_as_if_nothing_had_been(
    run: Path, clip_folder: Path, tmp_path: Path, stage: str
) -> None:
    earlier = {"generator": [], "motion": ["generator"], "joint": ["generator", "motion"]}[stage]
    config = tiny(f"run.stages={stage}")
    with_states(tmp_path, run, *earlier)
    with pytest.raises(KeyboardInterrupt):
        train(clip_folder, tmp_path, config, "cpu", bool(earlier), Notes(stop_at=2))
    notes = Notes()
    train(clip_folder, tmp_path, config, "cpu", resume=True, reporter=notes)
    assert f"{stage}: goes on from step 3" in notes.texts
    assert losses(tmp_path, stage) == losses(run, stage)


def test_an_interrupted_joint_stage_from_noise_goes_on(clip_folder: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    config = tiny(recipe="mocogan")
    train(clip_folder, whole, config, "cpu")
    with pytest.raises(KeyboardInterrupt):
        train(clip_folder, cut, config, "cpu", reporter=Notes(stop_at=2))
    train(clip_folder, cut, config, "cpu", resume=True)
    assert losses(cut, "joint") == losses(whole, "joint")
    spec, _, _ = load_checkpoint(cut / "checkpoint.safetensors")
    assert spec.regions == 0


def test_what_builds_on_a_changed_stage_begins_anew(
    run: Path, clip_folder: Path, tmp_path: Path
) -> None:
    with_states(tmp_path, run, "generator", "motion", "joint")
    longer, notes = ["generator.steps=6", "generator.encoder_freeze=1"], Notes()
    generator = tiny("run.stages=generator", *longer)
    assert train(clip_folder, tmp_path, generator, "cpu", True, notes) is None
    assert any("run that stage again (--resume --stages motion)" in text for text in notes.texts)
    motion = tiny("run.stages=motion", *longer)
    assert train(clip_folder, tmp_path, motion, "cpu", True, notes) is None
    assert "motion: begins anew, for what it builds on has changed" in notes.texts
    assert any("run that one again (--resume --stages joint)" in text for text in notes.texts)
    assert [line["step"] for line in losses(tmp_path, "motion")] == [1, 2, 3, 4, 5]
    joint = tiny("run.stages=joint", *longer)
    assert train(clip_folder, tmp_path, joint, "cpu", True, notes) is not None
    assert "joint: begins anew, for what it builds on has changed" in notes.texts
    told = len(notes.texts)
    assert train(clip_folder, tmp_path, joint, "cpu", True, notes) is not None
    assert "joint: goes on from step 5" in notes.texts[told:]


def test_the_joint_stage_wants_both_networks_or_none(clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs the motion stage beside the generator stage"):
        train(clip_folder, tmp_path, tiny("run.stages=joint,generator"), "cpu")
    assert not list(tmp_path.glob("state-*"))


def test_the_callers_random_numbers_stay_as_they_were(
    run: Path, clip_folder: Path, tmp_path: Path
) -> None:
    with_states(tmp_path, run, "generator")
    before = torch.get_rng_state()
    config = tiny("run.stages=generator,motion,joint")
    assert train(clip_folder, tmp_path, config, "cpu", resume=True) is not None
    assert torch.equal(torch.get_rng_state(), before)


def test_a_checkpoint_has_the_mapping_that_its_generator_learned(
    run: Path, clip_folder: Path, tmp_path: Path
) -> None:
    with_states(tmp_path, run, "generator")
    config = tiny("run.stages=motion", "generator.push_kept=0")
    written = train(clip_folder, tmp_path, config, "cpu", resume=True)
    assert written is not None
    spec, _, _ = load_checkpoint(written)
    assert (spec.regions, spec.content_push) == (4, 2.0)


def test_sizes_of_the_motion_network_do_not_bind_the_generator(
    run: Path, clip_folder: Path, tmp_path: Path
) -> None:
    with_states(tmp_path, run, "generator")
    other = tiny("run.stages=motion", "model.noise=5", "model.hidden=9")
    written = train(clip_folder, tmp_path, other, "cpu", resume=True)
    assert written is not None
    spec, _, _ = load_checkpoint(written)
    assert (spec.noise, spec.hidden) == (5, 9)
    with pytest.raises(MocogenError, match=r"model\.noise is 3 here and was 5"):
        train(clip_folder, tmp_path, tiny("run.stages=motion"), "cpu", resume=True)


@pytest.mark.parametrize("stage", ["generator", "motion"])
def test_a_finished_run_is_not_overwritten(
    run: Path, clip_folder: Path, tmp_path: Path, stage: str
) -> None:
    """Not even by another stage: its settings would replace those of the run."""
    with_states(tmp_path, run, "generator")
    with pytest.raises(
        UsageError, match="holds a run's generator stage: go on with it by --resume"
    ):
        train(clip_folder, tmp_path, tiny(f"run.stages={stage}"), "cpu")


@pytest.mark.parametrize(
    ("settings", "named"),
    [(["model.name=my/one"], "name = 'my/one'"), (["data.fps=2000"], "fps = 2000.0")],
)
def test_what_no_checkpoint_can_hold_is_refused_before_training(
    clip_folder: Path, tmp_path: Path, settings: list[str], named: str
) -> None:
    with pytest.raises(MocogenError, match=f"no checkpoint could be made of this run.*{named}"):
        train(clip_folder, tmp_path / "run", tiny(*settings), "cpu")
    assert not (tmp_path / "run").exists()


def test_actions_whose_names_no_checkpoint_can_hold(tmp_path: Path) -> None:
    for name in ("wave (left)", "b"):
        write_strip(tmp_path / name / "p.png", frames(10, 32, 1))
    with pytest.raises(MocogenError, match=r"'wave \(left\)'.*a name begins with a letter"):
        train(tmp_path, tmp_path / "run", tiny("motion.endless=b"), "cpu")


def test_losses_after_the_last_state_are_written_once(
    run: Path, clip_folder: Path, tmp_path: Path
) -> None:
    with_states(tmp_path, run, "generator")
    text = (run / "losses.jsonl").read_text("utf-8")
    (tmp_path / "losses.jsonl").write_text(
        text + '{"stage": "generator", "step": 6, "seconds": 1.0, "l1": 9.0}\n{"stage": "gen',
        "utf-8",
    )
    longer = tiny("run.stages=generator", "generator.steps=7")
    train(clip_folder, tmp_path, longer, "cpu", resume=True)
    assert losses(tmp_path, "generator")[:5] == losses(run, "generator")
    assert [line["step"] for line in losses(tmp_path, "generator")] == [1, 2, 3, 4, 5, 6, 7]
    assert losses(tmp_path, "generator")[5]["l1"] != 9
    assert losses(tmp_path, "motion") == losses(run, "motion")


def test_a_loss_is_the_mean_of_the_steps_that_have_it(
    run: Path, clip_folder: Path, tmp_path: Path
) -> None:
    """The discriminator starts at the third of five steps, and one line tells of all five."""
    config = tiny("run.stages=generator", "run.log_steps=5")
    train(clip_folder, tmp_path, config, "cpu")
    (mean,) = losses(tmp_path, "generator")
    single = [line["discriminator"] for line in losses(run, "generator") if "discriminator" in line]
    assert len(single) < 5
    assert mean["discriminator"] == pytest.approx(sum(single) / len(single), abs=1e-4)


def test_a_resumed_run_that_is_not_there_is_told(clip_folder: Path, tmp_path: Path) -> None:
    notes = Notes()
    config = tiny("run.stages=generator", "generator.steps=2")
    train(clip_folder, tmp_path / "a", config, "cpu", resume=True, reporter=notes)
    assert any("holds no state to go on from" in text for text in notes.texts)
    notes = Notes()
    train(clip_folder, tmp_path / "a", config, "cpu", resume=True, reporter=notes)
    assert not any("holds no state to go on from" in text for text in notes.texts)


def test_what_cannot_be_trained_is_refused_before_anything_is_timed(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mocogen.training.run.make_fabric", lambda *_: pytest.fail("too early"))
    with pytest.raises(UsageError, match="no folder"):
        train(tmp_path / "nowhere", tmp_path / "a", tiny(), "cpu")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file: give a folder for the run"):
        train(clip_folder, tmp_path / "file", tiny(), "cpu")


def test_stages_of_a_resumed_run_hold_for_one_call(run: Path, clip_folder: Path) -> None:
    before = (run / "config.toml").read_text()
    assert len(load_config(str(run / "config.toml")).run.stages) == 3
    train(clip_folder, run, tiny("run.stages=motion"), "cpu", resume=True)
    assert (run / "config.toml").read_text() == before


def test_only_one_process_trains_in_a_folder(run: Path, clip_folder: Path) -> None:
    with only_one(run), pytest.raises(MocogenError, match="another process is training"):
        train(clip_folder, run, tiny("run.stages=generator"), "cpu", resume=True)


def test_a_state_of_another_architecture_is_refused(run: Path, clip_folder: Path) -> None:
    config = tiny("run.stages=generator", "model.width=8")
    with pytest.raises(MocogenError, match=r"model\.width is 8 here and was 4"):
        train(clip_folder, run, config, "cpu", resume=True)
    other = tiny("run.stages=generator", "data.mirror=false")
    with pytest.raises(MocogenError, match="other groups"):
        train(clip_folder, run, other, "cpu", resume=True)
    for stage in ("generator", "motion", "joint"):  # contents lie where the seed says
        config = tiny(f"run.stages={stage}", "run.seed=1")
        with pytest.raises(MocogenError, match=r"run\.seed is 1 here and was 0"):
            train(clip_folder, run, config, "cpu", resume=True)


def test_a_damaged_state_is_refused(run: Path, clip_folder: Path, tmp_path: Path) -> None:
    whole = (run / "state-generator.pt").read_bytes()
    (tmp_path / "state-generator.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MocogenError, match="damaged"):
        train(clip_folder, tmp_path, tiny("run.stages=generator"), "cpu", resume=True)


def test_the_motion_stage_needs_an_encoder(clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MocogenError, match="run that stage first"):
        train(clip_folder, tmp_path, tiny("run.stages=motion"), "cpu")


def test_a_full_disk_leaves_the_last_state(
    run: Path, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (run / "state-generator.pt").read_bytes()
    (tmp_path / "state-generator.pt").write_bytes(before)

    def full(state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("[enforce fail at inline_container.cc] unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    longer = tiny("run.stages=generator", "generator.steps=6")
    with pytest.raises(MocogenError, match="is the disk full"):
        train(clip_folder, tmp_path, longer, "cpu", resume=True)
    assert (tmp_path / "state-generator.pt").read_bytes() == before


def test_plain_mocogan(clip_folder: Path, tmp_path: Path) -> None:
    config = tiny(recipe="mocogan")
    assert config.run.stages == ("joint",)
    path = train(clip_folder, tmp_path, config, "cpu")
    assert path is not None
    spec, motion, _ = load_checkpoint(path)
    assert spec.training["recipe"] == "mocogan"
    assert spec.regions == 0
    assert motion.bn is not None
    assert motion.bn.running_var is not None
    assert float(motion.bn.running_var.max()) != 1.0
    assert np.isfinite(load(path, "cpu").sample(frames=3, seed=0)).all()


def test_frames_are_held_against_the_nearest_real_ones(clip_folder: Path, tmp_path: Path) -> None:
    from benchmarks import nearest_frames

    random = np.random.default_rng(0)
    real = nearest_frames.reduced(random.integers(0, 200, (4, 32, 32, 3)).astype(np.uint8))
    assert real.shape == (4, 16, 16, 3)
    speck = real[3:].clone()
    speck[:, 4:6, 4:6] += 64  # 4 of 256 pixels, and of the 16 of a square
    made = torch.cat([real[2:3], real[1:2].flip(2), real[:1] + 10, speck])
    whole, squares = nearest_frames.nearest(made, real)
    assert whole.tolist() == pytest.approx([0, 0, 10, 8], abs=0.05)
    assert squares.tolist() == pytest.approx([0, 0, 10, 32], abs=0.05)
    clip, moment = torch.tensor([0] * 8 + [1] * 22), torch.tensor([*range(8), *range(22)])
    steps = moment.float()[:, None, None, None].expand(30, 16, 16, 3)
    theirs = nearest_frames.RealFrames(steps + 100 * clip[:, None, None, None], clip, moment)
    # All of the short clip is too near to itself, and the long one's nearest are 9 frames away.
    assert theirs.to_itself()[0].tolist() == pytest.approx([100, 93, 9, 9, 9], abs=0.05)
    written = train(clip_folder, tmp_path, tiny("run.stages=generator,motion"), "cpu")
    measured = nearest_frames.measure(load(str(written), "cpu"), clip_folder)
    assert list(measured) == ["a", "a, real", "b", "b, real"]
    frames = nearest_frames.SEEDS * nearest_frames.FRAMES // nearest_frames.EVERY
    assert measured["a"].shape == measured["b"].shape == (2, frames)
    assert all(float(apart.min()) > 0 for apart in measured.values())


def test_codes_are_held_against_those_of_the_clips(clip_folder: Path, tmp_path: Path) -> None:
    from benchmarks import motion_codes

    train(clip_folder, tmp_path, tiny("run.stages=generator,motion"), "cpu")
    _, everybody, motion = motion_codes.read_paths(tmp_path, clip_folder)
    assert [real.people for real in everybody] == [["p0", "p1"], ["p0", "p1"]]
    first = everybody[0]
    real = torch.cat(first.paths)
    assert motion_codes.nearest(real, real) == pytest.approx(0, abs=1e-2)
    noise = torch.randn(motion_codes.STEPS, 3, motion.noise_size)
    with torch.no_grad():
        made = motion(noise, None, torch.zeros(3, dtype=torch.long))
    found = motion_codes.measure(first, made)
    assert found["nearest"][0] == motion_codes.nearest(made[0], real) > 0
    # The clips' own movement, again and again, is as near, as wide and as fast as they are.
    again = torch.stack([path[:10] for path in first.paths], 1)
    again = torch.cat([again, again.flip(0)]).repeat(15, 1, 1)[: motion_codes.STEPS]
    found = motion_codes.measure(first, again)
    assert max(found["nearest"]) == pytest.approx(0, abs=1e-2)
    # At every turn it stands still for one step of ten.
    assert found["speed"] == pytest.approx([0.9] * len(found["speed"]), rel=0.1)
    # All real codes at once are as wide as themselves, and twice as wide about their middle.
    assert motion_codes.spread(torch.tensor([[0.0, 0.0], [2.0, 4.0]])) == pytest.approx(5**0.5)
    every = real.expand(motion_codes.STEPS, *real.shape)
    assert motion_codes.measure(first, every)["spread"] == pytest.approx([1.0] * 6)
    wider = 2 * every - real.mean(0)
    assert motion_codes.measure(first, wider)["spread"] == pytest.approx([2.0] * 6, rel=1e-4)
    # Two clips of one person are no two people.
    assert first.apart() > 0
    assert math.isnan(motion_codes.Real(first.paths, ["p0", "p0"]).apart())


def test_frames_in_borrowed_motion_are_held_against_those_of_their_person(
    clip_folder: Path, tmp_path: Path
) -> None:
    from benchmarks import borrowed_motion

    random = torch.Generator().manual_seed(0)
    real = torch.rand(3, 3, 32, 32, generator=random) * 2 - 1
    assert borrowed_motion.torn(real[1], real) == 0
    # One reduced pixel aside, which is within reach.
    shifted = real[1].roll(2, 2)
    shifted[..., :2] = real[1][..., :2]  # as the edge is repeated
    assert borrowed_motion.torn(shifted, real) == 0
    torn = real[1].clone()
    torn[:, 8:16, 8:16] = 1 - torn[:, 8:16, 8:16].abs()
    assert borrowed_motion.torn(torn, real) > 20
    # A grey frame is as far as its worst patches are from grey.
    grey = torch.zeros(1, 3, 32, 32)
    assert borrowed_motion.torn(grey[0] + 0.2, grey) == pytest.approx(0.2 * 127.5)

    train(clip_folder, tmp_path, tiny("run.stages=generator"), "cpu")
    shown = borrowed_motion.Shown(tmp_path, clip_folder)
    asked = []
    made = shown._made
    shown._made = lambda rows, person, action: (  # type: ignore[method-assign]
        asked.append((int(shown.frames.person[rows[0]]), int(person))) or made(rows, person, action)
    )
    for others in (False, True):
        asked.clear()
        found = shown.distances(1, others)
        assert len(asked) == len(found) == borrowed_motion.FRAMES
        assert bool((found > 0).all())
        assert shown.moves(1, others) > 0
        assert len(asked) == borrowed_motion.FRAMES + 2  # people
        assert all((mine != person) == others for mine, person in asked)
    wide = borrowed_motion.Shown(tmp_path, clip_folder, 1.5)
    middles = shown.frames.middles
    torch.testing.assert_close(wide.codes - middles, 1.5 * (shown.codes - middles))
    # What is shown as it was filmed moves as much as it did.
    shown._made = lambda rows, person, action: shown._filmed(rows)  # type: ignore[method-assign]
    assert shown.moves(1, False) == 1
    shown.frames.person[:] = 0
    with pytest.raises(MocogenError, match="only one person does b"):
        shown.distances(1, True)


def test_moments_tell_how_far_and_how_fast_paths_go() -> None:
    centre = torch.tensor([1.0, 5.0])
    still = centre.expand(7, 2)
    assert torch.equal(moments([still, still], centre), torch.zeros(2, 2))
    # The first number goes 1, 3, 1, 3, ...; clips are not joined to each other.
    steps = torch.stack([torch.tensor([1.0, 3.0]).repeat(4), torch.full((8,), 2.0)], 1)
    expected = torch.tensor([[2.0, 9.0], [4.0, 0.0]])
    assert torch.allclose(moments([steps, steps], centre), expected)
    assert torch.allclose(moments([2 * steps], 2 * centre), 4 * expected)


def test_contents_are_normal_and_name_their_group() -> None:
    regions = ContentRegions(18, 50, seed=0)
    random = torch.Generator().manual_seed(0)
    group = torch.randint(18, (20_000,), generator=random)
    content = regions.draw(group, random)
    assert torch.equal(regions.winner(content)[0], group)
    covariance = content.t() @ content / len(content)
    assert float(content.mean(0).abs().max()) < 0.04
    assert float((covariance - torch.eye(50)).abs().max()) < 0.06
    with pytest.raises(MocogenError, match="do not fit"):
        ContentRegions(51, 50, seed=0)


def test_attributes_are_projections_and_leave_the_rest_normal() -> None:
    regions = ContentRegions(3, 10, seed=0, attributes=2)
    random = torch.Generator().manual_seed(0)
    group = torch.randint(3, (20_000,), generator=random)
    scores = torch.randn(20_000, 2, generator=random)
    content = regions.draw(group, random, scores)
    torch.testing.assert_close(content @ regions.scales.t(), scores, atol=1e-5, rtol=0)
    assert torch.equal(regions.winner(content)[0], group)
    covariance = content.t() @ content / len(content)
    assert float((covariance - torch.eye(10)).abs().max()) < 0.06
    with pytest.raises(MocogenError, match="9 groups and 2 attributes do not fit"):
        ContentRegions(9, 10, seed=0, attributes=2)


def test_another_look_is_where_the_prior_has_none() -> None:
    regions = ContentRegions(18, 50, seed=0, attributes=2, other_looks=True)
    alone = ContentRegions(18, 50, seed=0)
    assert torch.equal(regions.directions, alone.directions), "groups have their directions"
    random = torch.Generator().manual_seed(0)
    group = torch.randint(18, (20_000,), generator=random)
    content = regions.draw(group, random)
    other = regions.other_look(content)
    along = regions.apart[0]
    torch.testing.assert_close(other @ along, torch.full((20_000,), 4.0), atol=1e-5, rtol=0)
    assert float((content @ along > 4.0).float().mean()) < 3e-4
    # All else is as it was: the group, the attributes, what names nobody.
    rest = torch.eye(50) - torch.outer(along, along)
    torch.testing.assert_close(other @ rest, content @ rest, atol=1e-5, rtol=0)
    assert torch.equal(regions.winner(other)[0], group)
    projector = regions.projector()
    torch.testing.assert_close(projector @ along, along, atol=1e-5, rtol=0)
    with pytest.raises(MocogenError, match="50 groups and another look do not fit"):
        ContentRegions(50, 50, seed=0, other_looks=True)


def test_other_looks_are_trained_on_and_kept_apart(clip_folder: Path, tmp_path: Path) -> None:
    config = tiny("data.other_look=b/p0", "run.stages=generator,motion")
    train(clip_folder, tmp_path, config, "cpu")
    state = read_state(tmp_path / "state-generator.pt")
    assert state["groups"] == [["p0", False], ["p1", False], ["p0", True], ["p1", True]]
    assert state["other_looks"] == [["p0", False], ["p0", True]]
    assert state["modules"]["discriminator"]["seen"].tolist() == [
        [True, False], [True, True], [True, False], [True, True], [False, True], [False, True],
    ]  # fmt: skip
    written = next(tmp_path.glob("*.safetensors"))
    assert np.isfinite(load(written, "cpu").sample(frames=3, seed=0, action="b")).all()
    stage = GeneratorStage(
        Context(
            config, clips_of(clip_folder, config), Fabric(accelerator="cpu", devices=1), tmp_path
        )
    )
    looks = torch.arange(6).repeat(50)
    content = stage._contents(looks, 1.0)[0]
    assert torch.equal(
        stage.regions.winner(content)[0], torch.tensor([0, 1, 2, 3, 0, 2]).repeat(50)
    )
    apart = (content @ stage.regions.apart.t())[:, 0]
    assert torch.equal(apart > 3.9, looks >= 4)
    with pytest.raises(MocogenError, match=r"other clips are named in data\.other_look"):
        train(clip_folder, tmp_path, tiny("run.stages=generator"), "cpu", resume=True)


class Brightness(torch.nn.Module):
    """A discriminator for which bright frames are real ones; it has nothing to say of patches."""

    def __init__(self, seen: torch.Tensor) -> None:
        super().__init__()
        self.seen = seen
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(
        self, images: torch.Tensor, group: torch.Tensor, action: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        whole = self.weight * images.mean((1, 2, 3))
        return whole, 0 * images[:, :1], [images]


def test_a_pair_that_no_clip_shows_is_not_judged_as_a_whole(
    clip_folder: Path, tmp_path: Path
) -> None:
    config = tiny("data.other_look=b/p0", "generator.features=0")
    stage = generator_stage(clip_folder, tmp_path, config)
    judge = Brightness(stage.sampler.seen)
    stage.discriminator = judge  # type: ignore[assignment]
    stage.optimisers["discriminator"] = torch.optim.SGD(judge.parameters(), 0.0)
    group, action = torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1])
    # Two swapped frames with the second action, which p0 shows in no usual look.
    made_group, made_action = torch.tensor([0, 1, 1, 0, 1]), torch.tensor([0, 0, 1, 1, 1])

    def judged(made: torch.Tensor) -> float:
        """The discriminator's loss; the generator's gradient is left in ``made``."""
        stage.device_random.manual_seed(0)
        losses: dict[str, torch.Tensor] = {}
        stage._judge(
            torch.zeros(3, 3, 32, 32), group, action, made, made_group, made_action,
            torch.ones(3), losses,
        ).backward()  # fmt: skip
        return float(losses["discriminator"].detach())

    made = torch.full((5, 3, 32, 32), 0.5, requires_grad=True)
    loss = judged(made)
    assert made.grad is not None
    # One of the three rebuilt frames is judged at all, and of the swapped ones that of p1.
    assert made.grad.abs().sum((1, 2, 3)).gt(0).tolist() == [True, False, False, False, True]
    for frame in range(5):
        brighter = torch.full((5, 3, 32, 32), 0.5)
        brighter[frame] = 0.9
        assert (judged(brighter.requires_grad_()) > loss) == (frame in (0, 4))


@pytest.fixture
def walkers(tmp_path: Path) -> ClipSet:
    """Clips of a bright square that walks along the upper half; the last frame is the wall."""
    clip = np.full((9, 48, 48, 3), 40, np.uint8)
    for k in range(8):
        clip[k, 8:16, 4 * k : 4 * k + 8] = 220
    for action in ("a", "b"):
        write_strip(tmp_path / action / "p.png", clip)
    return load_clips(tmp_path, 48, ("a", "b"), min_frames=8)


def test_pairs_come_from_one_clip_and_bring_its_mean(walkers: ClipSet) -> None:
    sampler = FrameSampler(walkers, torch.device("cpu"))
    numbers, owner, _ = sampler.draw_pairs(64, torch.Generator().manual_seed(0))
    pairs = sampler.frames_of(numbers)
    first, second, mean, group, action = (
        pairs.first, pairs.second, pairs.mean, pairs.group, pairs.action,
    )  # fmt: skip
    assert torch.equal(owner, group)
    assert {(int(g), int(a)) for g, a in zip(group, action, strict=True)} == set(sampler.pairs)
    for k in range(64):
        members = sampler.members[sampler.pairs.index((int(group[k]), int(action[k])))]
        start, length = sampler.starts[members[0]], sampler.lengths[members[0]]
        images = torch.from_numpy(walkers.frames[start : start + length]).permute(0, 3, 1, 2)
        images = images / 127.5 - 1
        if sampler.mirrored[group[k]]:
            images = images.flip(3)
        for image in (first[k], second[k]):
            assert min(float((image - frame).abs().max()) for frame in images) < 1e-6
        torch.testing.assert_close(mean[k], images.mean(0), atol=0.005, rtol=0)
    assert any(not torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_an_error_counts_more_where_the_clip_moves() -> None:
    real = torch.zeros(1, 3, 32, 32)
    mean = real.clone()
    mean[:, :, 8:12, 8:12] = 0.5
    regard = regard_for_movement(real, mean, 4.0)
    assert regard.shape == (1, 1, 32, 32)
    assert float(regard[..., 8:12, 8:12].min()) == 5.0
    assert float(regard[..., 20:, 20:].max()) == 1.0
    missed, elsewhere = real.clone(), real.clone()
    missed[:, :, 8:12, 8:12] = 0.3
    elsewhere[:, :, 24:28, 24:28] = 0.3
    whole = torch.ones(1)
    for loss in (weighted_l1, weighted_l2, edge_l1):
        assert loss(missed, real, whole, regard) > 4.9 * loss(elsewhere, real, whole, regard)


def test_cells_have_a_colour_and_no_texture() -> None:
    real = torch.zeros(1, 3, 96, 96)
    real[..., ::2] = 1.0
    whole, even = torch.ones(1), torch.ones(1, 1, 96, 96)
    assert weighted_l1(real.roll(1, 3), real, whole, even) == 1
    assert cells_l1(real.roll(1, 3), real, whole, even) == 0
    assert cells_l1(real + 0.5, real, whole, even) == 0.5


def test_frames_with_large_errors_count_more() -> None:
    real, even = torch.zeros(3, 3, 8, 8), torch.ones(3, 1, 8, 8)
    made = real + torch.tensor([0.1, 0.2, 0.3])[:, None, None, None]
    torch.testing.assert_close(regard_for_errors(made, real, even, 0.0), torch.ones(3))
    torch.testing.assert_close(
        regard_for_errors(made, real, even, 1.0), torch.tensor([0.5, 1.0, 1.5])
    )
    exact = regard_for_errors(real, real, even, 1.0)
    assert torch.equal(exact, torch.zeros(3))


class Whole(torch.nn.Module):
    """An encoder that keeps all that it sees."""

    def forward(self, view: torch.Tensor) -> torch.Tensor:
        return view.flatten(1)


def test_a_counterpart_is_the_nearest_frame_of_ones_own(clip_folder: Path) -> None:
    clips = clips_of(clip_folder, tiny("data.other_look=b/p0"))
    sampler = FrameSampler(clips, torch.device("cpu"))
    codes = Counterparts(sampler, Whole())  # type: ignore[arg-type]
    spans = {
        clip.path: torch.arange(clip.start, clip.start + clip.length)
        for clip in clips.clips
        if not clip.mirrored
    }
    own = spans["a/p1.png"]
    images = sampler.images(own, torch.zeros(10, dtype=torch.bool))
    for group in range(4):  # p0, p1, and the same mirrored
        groups, action = torch.full((10,), group), torch.zeros(10, dtype=torch.long)
        found, mean, shown = codes.of(codes.codes[own], groups, action)
        assert bool(shown.all())
        if sampler.mirrored[group]:
            found, mean = found.flip(3), mean.flip(3)
        person = clips.groups[group][0]
        theirs = spans[f"a/{person}.png"]
        nearest = torch.cdist(codes.codes[own], codes.codes[theirs]).argmin(1)
        assert torch.equal(
            found, sampler.images(theirs[nearest], torch.zeros(10, dtype=torch.bool))
        )
        assert torch.equal(found, images) == (person == "p1")
        average = sampler.images(theirs, torch.zeros(10, dtype=torch.bool)).mean(0).expand_as(mean)
        torch.testing.assert_close(mean, average, atol=0.005, rtol=0)
    # Of several nearest ones, the one that what was made is most like; others' are never meant.
    zeros = torch.zeros(10, dtype=torch.long)
    ones = torch.ones(10, dtype=torch.long)
    wish = images.roll(1, 0)
    assert torch.equal(codes.of(codes.codes[own], ones, zeros, wish, 1)[0], images)
    assert torch.equal(codes.of(codes.codes[own], ones, zeros, wish, 10)[0], wish)
    theirs = sampler.images(spans["a/p0.png"], torch.zeros(10, dtype=torch.bool))
    found, _, shown = codes.of(codes.codes[own], ones, zeros, theirs, 1000)
    assert bool(shown.all())
    assert all(any(torch.equal(one, mine) for mine in images) for one in found)
    # What p0 does in b alone shows another look: no content of the prior has it.
    both, second = torch.tensor([0, 1]), torch.tensor([1, 1])
    assert codes.of(codes.codes[own[:2]], both, second)[2].tolist() == [False, True]


def test_counterparts_count_from_where_the_encoder_is_frozen(
    clip_folder: Path, tmp_path: Path
) -> None:
    config = tiny(
        "run.stages=generator", "generator.counterpart=5", "generator.hard=1",
        "generator.steps=8", "generator.discriminator_start=0.2", "generator.encoder_freeze=0.5",
    )  # fmt: skip
    train(clip_folder, tmp_path, config, "cpu")
    lines = losses(tmp_path, "generator")
    assert ["counterpart" in line for line in lines] == [False] * 4 + [True] * 4
    assert all(line["counterpart"] > 0 for line in lines[4:])


@pytest.mark.parametrize("judged_from", [0.2, 1.0])
def test_lent_frames_count_from_where_the_encoder_is_frozen(
    clip_folder: Path, tmp_path: Path, judged_from: float
) -> None:
    config = tiny(
        "run.stages=generator", "generator.counterpart=0", "generator.lent=3",
        "generator.steps=8", f"generator.discriminator_start={judged_from}",
        "generator.encoder_freeze=0.5",
    )  # fmt: skip
    train(clip_folder, tmp_path, config, "cpu")
    lines = losses(tmp_path, "generator")
    for name in ("lent_l1", "lent_edges"):
        assert [name in line for line in lines] == [False] * 4 + [True] * 4
        assert all(line[name] > 0 for line in lines[4:])
    assert not any("counterpart" in line for line in lines)
    assert any("discriminator" in line for line in lines) == (judged_from < 1)


def test_a_lent_frame_is_to_be_the_nearest_of_its_own_group(
    clip_folder: Path, tmp_path: Path
) -> None:
    config = tiny(
        "data.other_look=b/p0", "generator.lent=40", "generator.lent_noise=0.3",
        "generator.hard=0", "generator.l1=1", "generator.edges=2", "generator.moving=0",
    )  # fmt: skip
    stage = generator_stage(clip_folder, tmp_path, config)
    stage.counterparts = Counterparts(stage.sampler, stage.encoder_average)
    drawn = stage._draw(1.0, False, True)
    lent = stage._lend(drawn)
    assert torch.equal(lent.group, drawn["lent_to"])
    frames, _, _, group, action = drawn["lent"]
    assert torch.equal(lent.action, action)
    images = stage.sampler.images(frames, stage.sampler.mirrored[group])
    codes = stage.encoder_average(stage._view(images, group))
    assert float((lent.code - codes).std()) == pytest.approx(0.3, rel=0.2)
    latent = torch.cat([lent.code, drawn["lent_to_content"]], 1)
    torch.testing.assert_close(lent.latent, latent)
    # What nobody shows in the look of the prior costs nothing, whatever it is.
    real, _, shown = stage.counterparts.of(lent.code, lent.group, lent.action)
    assert 0 < int(shown.sum()) < 40
    weight = torch.where(shown, lent.weight, 0.0).mean()
    losses: dict[str, torch.Tensor] = {}
    assert float(stage._as_counterparts(real, lent, losses)) == 0
    assert float(stage._as_counterparts(real + 0.5, lent, losses)) == pytest.approx(0.5 * weight)
    striped = real + torch.arange(32)[None, None, None] % 2
    stage._as_counterparts(striped, lent, losses)
    assert float(losses["lent_l1"]) == pytest.approx(0.5 * weight)
    assert float(losses["lent_edges"]) == pytest.approx(weight)


def test_lent_codes_swing_as_wide_as_the_motion_network_is_to(
    clip_folder: Path, tmp_path: Path
) -> None:
    config = tiny("generator.lent=40", "motion.swing=1.5")
    stage = generator_stage(clip_folder, tmp_path, config)
    found = stage.counterparts = Counterparts(stage.sampler, stage.encoder_average)
    drawn = stage._draw(1.0, False, True)
    frames = drawn["lent"][0]
    for frame, code in zip(frames, stage._lend(drawn).code, strict=True):
        middle = found.codes[found.clip == found.clip[frame]].mean(0)
        expected = middle + 1.5 * (found.codes[frame] - middle)
        torch.testing.assert_close(code, expected, atol=1e-4, rtol=1e-4)


def test_codes_through_a_bottleneck_lie_on_a_surface_of_its_dimension() -> None:
    torch.manual_seed(0)
    grey = torch.randn(1, 1, 64, 64, dtype=torch.double)
    for bottleneck, dimensions in ((0, 6), (2, 2)):
        encoder = MotionEncoder(6, 8, bottleneck).double().eval()
        slopes = torch.autograd.functional.jacobian(
            lambda x, e=encoder: e.linear(e.layers(x).flatten(1)), grey
        )
        assert int(torch.linalg.matrix_rank(slopes.reshape(6, -1))) == dimensions


def test_a_run_with_a_bottleneck(clip_folder: Path, tmp_path: Path) -> None:
    config = tiny("run.stages=generator,motion", "generator.encoder_bottleneck=1")
    train(clip_folder, tmp_path, config, "cpu")
    assert np.isfinite(load(tmp_path / "checkpoint.safetensors", "cpu").sample(frames=3)).all()
    other = tiny("run.stages=generator", "generator.encoder_bottleneck=2")
    with pytest.raises(MocogenError, match="encoder_bottleneck"):
        train(clip_folder, tmp_path, other, "cpu", resume=True)


def test_codes_that_no_longer_change_have_less_noise(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise: list[float] = []

    def recorded(stage: GeneratorStage, code: torch.Tensor, deviation: float) -> torch.Tensor:
        noise.append(deviation)
        return code

    monkeypatch.setattr(GeneratorStage, "_noisy", recorded)
    changes = ["generator.steps=4", "generator.encoder_freeze=0.5", "generator.code_noise=0.2"]
    changes += ["run.stages=generator", "generator.discriminator_start=1.0"]
    train(clip_folder, tmp_path / "kept", tiny(*changes, "generator.code_noise_kept=0"), "cpu")
    assert noise == [0.2] * 4
    noise.clear()
    train(clip_folder, tmp_path / "less", tiny(*changes, "generator.code_noise_kept=0.1"), "cpu")
    assert noise == [0.2, 0.2, 0.1, 0.1]


def test_the_squared_error_wants_a_shape_whose_place_is_not_known() -> None:
    """Of four places it may be in any: a quarter of it in all is better than nothing."""
    real = torch.full((4, 3, 2, 2), -1.0)
    for k in range(4):
        real[k, :, k // 2, k % 2] = 1.0
    nothing, quarter = torch.full_like(real, -1.0), torch.full_like(real, -0.5)
    whole, even = torch.ones(4), torch.ones(4, 1, 2, 2)
    assert weighted_l2(quarter, real, whole, even) < 0.8 * weighted_l2(nothing, real, whole, even)
    assert weighted_l1(quarter, real, whole, even) >= weighted_l1(nothing, real, whole, even)


def test_settled_codes_do_not_depend_on_the_frames_beside() -> None:
    torch.manual_seed(0)
    encoder = MotionEncoder(4, 4)
    grey = torch.randn(64, 1, 64, 64) * torch.linspace(0.2, 2, 64)[:, None, None, None]
    for _ in range(300):  # the running statistics find those of all frames
        encoder(grey)
    before = encoder(grey)[:4]
    assert (encoder(grey[:4]) - before).abs().max() > 0.2
    encoder.settled = True
    settled = encoder(grey)[:4]
    torch.testing.assert_close(settled, before, rtol=0.02, atol=0.02)
    mean = encoder.bn.running_mean.clone()
    torch.testing.assert_close(encoder(grey[:4]), settled, rtol=0.05, atol=0.05)
    assert not torch.equal(encoder.bn.running_mean, mean)  # they go on following
    encoder(grey).sum().backward()


def norms(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: x for key, x in tensors.items() if "running" in key}


def test_frozen_norms_are_the_checkpoints(clip_folder: Path, tmp_path: Path) -> None:
    """What a generator was trained on is not estimated anew, neither in the joint stage."""
    run = tmp_path / "run"
    steps = ["generator.norm_freeze=0.8", "generator.ema=1"]
    kept = {}
    for count in (60, 72):  # a resumed run does not thaw
        config = tiny("run.stages=generator", f"generator.steps={count}", *steps)
        train(clip_folder, run, config, "cpu", resume=count > 60)
        modules = read_state(run / "state-generator.pt")["modules"]
        kept[count] = norms(modules["generator"])
        weight = modules["generator"]["main.0.weight"]
    assert all(torch.equal(kept[72][key], x) for key, x in kept[60].items())
    assert not any(torch.equal(x, torch.zeros_like(x)) for x in kept[72].values())
    for stages in ("motion", "joint"):
        config = tiny(f"run.stages={stages}", "joint.ema=1", *steps)
        path = train(clip_folder, run, config, "cpu", resume=True)
        assert path is not None
        made = load_checkpoint(path)[2].state_dict()
        assert all(torch.equal(made[key], x) for key, x in kept[72].items())
        same = torch.equal(made["main.0.weight"], weight.half().float())  # as it is stored
        assert same == (stages == "motion")


def test_norms_freeze_when_they_have_seen_enough(clip_folder: Path, tmp_path: Path) -> None:
    frozen = []
    for count in (48, 51):
        config = tiny("run.stages=generator", "generator.norm_freeze=0", f"generator.steps={count}")
        train(clip_folder, tmp_path / "run", config, "cpu", resume=count > 48)
        frozen.append(read_state(tmp_path / "run/state-generator.pt")["extra"]["norms_frozen"])
    assert frozen == [False, True]


def test_only_what_does_not_move_has_to_stay() -> None:
    a, b = torch.zeros(1, 3, 96, 96), torch.zeros(1, 3, 96, 96)
    b[..., :24, :24] = 0.8  # moves: an arm, say
    still = stillness(a, b)
    assert float(still[..., :6, :6].max()) == 0.0
    assert float(still[..., 9:, 9:].min()) == 1.0
    other = a.clone()
    other[..., :24, :24] = 0.5
    assert float(restlessness(a, other, still)) == 0.0
    other[..., 48:, :] = 0.5
    assert float(restlessness(a, other, still)) > 0.2


def test_the_tint_is_the_colour_of_what_shines_wherever_it_is() -> None:
    colour = torch.tensor([0.9, 0.3, 0.6])
    images = torch.full((2, 3, 32, 32), -1.0)
    images[0, :, 4:9, 4:9] = 2 * colour[:, None, None] - 1
    images[1, :, 20:31, 10:25] = 2 * colour[:, None, None] - 1
    images[1, :, 19, 10:25] = 0.4 * colour[:, None] - 1  # a soft edge, too dark to count
    where = shining(images)
    torch.testing.assert_close(tint(images, where), colour.expand(2, 3))
    made = images.clone()
    made[0, :, 24:, 24:] = 1.0  # a blob elsewhere does not change a shape's colour
    images = made.requires_grad_()
    weight = torch.ones(1)
    halved = tint(images[1:] * 0.5 - 0.5, where[1:])
    apart = tint_apart(tint(images[:1], where[:1]), halved, weight)
    torch.testing.assert_close(apart, (colour.mean() / 2).detach())
    apart.backward()
    assert images.grad is not None
    assert bool((images.grad[0, :, 4:9, 4:9] > 0).all())
    assert float(images.grad[0].sum()) == pytest.approx(float(images.grad[0, :, 4:9, 4:9].sum()))


def test_where_two_shine_or_else_all_of_the_first() -> None:
    first, second = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    first[:, :, :2, :2] = 1
    second[0, :, 1:, 1:] = 1
    second[1, :, 3:, 3:] = 1
    both = shared(first, second)
    assert both[0].sum() == both[0, 0, 1, 1] == 1
    assert torch.equal(both[1], first[1])


def test_an_optimiser_loads_what_another_kind_has_learned() -> None:
    # As a GPU's does: rate and counts in tensors.
    weight = torch.nn.Parameter(torch.ones(3))
    theirs = torch.optim.Adam([weight], torch.tensor(0.5))
    weight.grad = torch.full((3,), 2.0)
    theirs.step()
    saved = theirs.state_dict()
    saved["param_groups"][0].update(fused=True, capturable=True)
    mine = adam([weight], 0.25, (0.9, 0.999), recorded=False)
    _load_optimiser(mine, saved)
    assert torch.equal(mine.state[weight]["exp_avg"], torch.full((3,), 0.2))
    assert mine.param_groups[0]["lr"] == 0.25
    assert not mine.param_groups[0]["capturable"]
    set_rate(mine, 0.125)
    mine.step()
    assert mine.param_groups[0]["lr"] == 0.125
    set_rate(theirs, 0.125)
    assert float(theirs.param_groups[0]["lr"]) == 0.125


@pytest.mark.parametrize(
    ("progress", "start", "end", "expected"),
    [
        (0.0, 0.2, 0.6, 0.0), (0.2, 0.2, 0.6, 0.0), (0.4, 0.2, 0.6, 0.5), (0.6, 0.2, 0.6, 1.0),
        (0.9, 0.2, 0.6, 1.0), (0.9, 1.0, 1.0, 0.0), (1.0, 1.0, 1.0, 1.0), (0.3, 0.3, 0.3, 1.0),
        (0.1, 0.8, 0.3, 0.0), (0.5, 0.8, 0.3, 1.0),
    ],
)  # fmt: skip
def test_a_ramp_is_a_line_between_nothing_and_all(
    progress: float, start: float, end: float, expected: float
) -> None:
    assert ramp(progress, start, end) == pytest.approx(expected)


def test_a_rate_may_fall_at_the_very_end_only() -> None:
    assert [half_cosine(progress, 1.0) for progress in (0.0, 0.5, 0.99)] == [1.0] * 3


def test_a_state_may_be_older_than_a_bound(run: Path, clip_folder: Path, tmp_path: Path) -> None:
    with_states(tmp_path, run, "generator")
    state = read_state(tmp_path / "state-generator.pt")
    before = tiny().generator.encoder_freeze
    assert f'"encoder_freeze": {before}' in state["config"]
    state["config"] = state["config"].replace(
        f'"encoder_freeze": {before}', '"encoder_freeze": 2.0'
    )
    torch.save(state, tmp_path / "state-generator.pt")
    text = (run / "config.toml").read_text("utf-8")
    (tmp_path / "config.toml").write_text(
        text.replace(f"encoder_freeze = {before}", "encoder_freeze = 2.0"), "utf-8"
    )
    longer = tiny("run.stages=generator", "generator.steps=6", "generator.encoder_freeze=1")
    train(clip_folder, tmp_path, longer, "cpu", resume=True)
    assert read_state(tmp_path / "state-generator.pt")["step"] == 6


def test_losses_that_are_no_numbers_stop_the_run(clip_folder: Path, tmp_path: Path) -> None:
    config = tiny("run.stages=generator", "generator.learning_rate=1e30")
    with pytest.raises(MocogenError, match="lower learning rate"):
        train(clip_folder, tmp_path, config, "cpu")
    assert not (tmp_path / "state-generator.pt").exists()


_TWO = """
import sys, torch
from lightning_fabric import Fabric
from mocogen.training.optimisation import average_gradients
from mocogen.training.networks import FrameDiscriminator

fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
fabric.launch()
torch.manual_seed(0)
network = FrameDiscriminator(32, 4, torch.ones(2, 2, dtype=torch.bool)).eval()
images, labels = torch.randn(6, 3, 32, 32), torch.tensor([0, 1, 1, 0, 1, 0])
mine = slice(fabric.global_rank, None, 2)
network(images[mine], labels[mine], labels[mine])[0].square().mean().backward()
average_gradients(fabric, network.parameters())
if fabric.global_rank == 0:
    torch.save([p.grad for p in network.parameters()], sys.argv[1])
fabric.barrier()
torch.distributed.destroy_process_group()
"""


def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    """On a network without batch norm, whose statistics remain each process's own."""
    script, result = tmp_path / "two.py", tmp_path / "gradients.pt"
    script.write_text(_TWO, "utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", str(script), str(result)]
    root = Path(__file__).parents[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    torch.manual_seed(0)
    network = FrameDiscriminator(32, 4, torch.ones(2, 2, dtype=torch.bool)).eval()
    images, labels = torch.randn(6, 3, 32, 32), torch.tensor([0, 1, 1, 0, 1, 0])
    network(images, labels, labels)[0].square().mean().backward()
    gradients = torch.load(result, weights_only=True)
    expected = [p.grad for p in network.parameters()]
    assert sum(g is not None for g in expected) > 10
    for ours, theirs in zip(gradients, expected, strict=True):
        if theirs is None:
            assert ours is None
        else:
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
