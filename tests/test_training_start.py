"""Training that begins with a checkpoint's generator, and codes that name the action."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning_fabric")

from mocogen.checkpoint import load as load_checkpoint
from mocogen.errors import MocogenError, UsageError
from mocogen.files import sha256
from mocogen.training.codes import MotionCodes
from mocogen.training.config import TrainConfig, load_config
from mocogen.training.networks import image_generator
from mocogen.training.run import clips_of, make_fabric, train
from mocogen.training.stage import Context
from mocogen.training.stage_generator import GeneratorStage
from mocogen.training.stage_motion import MotionStage, encode_clips, load_encoder
from mocogen.training.start import start_with
from tests.test_training import clip_folder, losses, run, tiny

__all__ = ["clip_folder", "run"]  # fixtures


@pytest.fixture(scope="module")
def first(run: Path) -> Path:
    """A checkpoint to begin with; other tests go on with the run's own."""
    kept = run.parent / f"{run.name}-first.safetensors"
    kept.write_bytes((run / "checkpoint.safetensors").read_bytes())
    return kept


def going_on(first: Path, *overrides: str) -> TrainConfig:
    held = ("generator.hold=0.5", "generator.encoder_freeze=0.5", "generator.ema=1")
    return tiny("run.stages=generator", f"generator.start={first}", *held, *overrides)


def test_a_generator_is_held_while_an_encoder_learns_its_codes(
    first: Path, clip_folder: Path, tmp_path: Path
) -> None:
    config = going_on(first, "generator.steps=8")
    context = Context(config, clips_of(clip_folder, config), make_fabric(config, "cpu"), tmp_path)
    stage = GeneratorStage(context)
    theirs = load_checkpoint(first)[2].state_dict()

    def changed() -> set[str]:
        mine = stage.generator.state_dict()
        return {key for key, x in theirs.items() if not torch.equal(mine[key], x)}

    encoder = stage.encoder.linear.weight.detach().clone()
    for step in range(4):
        stage.step(step / 8)
    assert changed() <= {"main.0.weight"}  # rounded, and projected anew
    assert torch.allclose(
        stage.generator.state_dict()["main.0.weight"], theirs["main.0.weight"], atol=1e-4
    )
    assert not torch.equal(stage.encoder.linear.weight, encoder)
    for step in range(4, 8):
        stage.step(step / 8)
    assert {"main.3.weight", "main.12.weight"} <= changed()
    # It goes on with the checkpoint's statistics, not with those of small batches.
    assert not any("running" in key for key in changed())
    assert not stage.generator.training


def test_a_resumed_run_does_not_begin_again(first: Path, clip_folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "first.safetensors"
    kept.write_bytes(first.read_bytes())
    train(clip_folder, tmp_path / "run", going_on(kept), "cpu")
    kept.unlink()
    longer = going_on(kept, "generator.steps=7")
    train(clip_folder, tmp_path / "run", longer, "cpu", resume=True)
    assert [line["step"] for line in losses(tmp_path / "run", "generator")] == [1, 2, 3, 4, 5, 6, 7]
    motion = going_on(kept, "generator.steps=7", "run.stages=motion")
    path = train(clip_folder, tmp_path / "run", motion, "cpu", resume=True)
    assert path is not None
    assert load_checkpoint(path)[0].training["start_sha256"] == sha256(first)


def test_more_motion_numbers_count_nothing_at_first(first: Path) -> None:
    spec, _, theirs = load_checkpoint(first)
    model = tiny("model.motion=6").model
    mine = image_generator(model)
    start_with(mine, str(first), model)
    motion, content = torch.randn(3, spec.motion), torch.randn(3, spec.content)
    same = mine.eval()(torch.cat([motion, torch.randn(3, 2), content], 1))
    assert torch.allclose(same, theirs(torch.cat([motion, content], 1)), atol=1e-6)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("model.width=8", "model.width is 8 here and 4 there"),
        ("model.content=7", "model.content is 7 here and 6 there"),
        ("model.image_size=64", "model.image_size is 64 here and 32 there"),
        ("model.motion=3", "model.motion is 3 here and 4 there"),
        ("generator.start=nowhere", "no checkpoint 'nowhere'"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    first: Path, clip_folder: Path, tmp_path: Path, setting: str, sentence: str
) -> None:
    with pytest.raises(MocogenError, match=sentence):
        train(clip_folder, tmp_path / "run", going_on(first, setting), "cpu")
    assert not list((tmp_path / "run").glob("state-*"))


def test_settings_that_make_no_sense_without_each_other() -> None:
    with pytest.raises(UsageError, match=r"hold is of no use without generator\.start"):
        load_config("split", ["generator.hold=0.1"])
    with pytest.raises(UsageError, match=r"hold ends after generator\.encoder_freeze"):
        load_config("split", ["generator.hold=0.5", "generator.start=weizmann"])


def test_a_code_names_its_action() -> None:
    codes = MotionCodes(tiny("generator.action_code=2", "model.motion=6"), 2)
    assert (codes.pose, codes.named) == (4, 2)
    pose = torch.randn(3, 4)
    whole = codes.whole(pose, torch.tensor([0, 1, 1]))
    assert torch.equal(whole[:, :4], pose)
    assert whole[:, 4:].tolist() == [[2, 0], [0, 2], [0, 2]]
    plain = MotionCodes(tiny(), 2)
    assert plain.pose == 4
    assert plain.whole(pose, torch.tensor([0, 1, 1])) is pose


def test_a_run_whose_codes_name_the_action(clip_folder: Path, tmp_path: Path) -> None:
    config = tiny("generator.action_code=2", "model.motion=6", "motion.endless=")
    path = train(clip_folder, tmp_path, config, "cpu")
    assert path is not None
    assert load_checkpoint(path)[0].motion == 6
    context = Context(config, clips_of(clip_folder, config), make_fabric(config, "cpu"), tmp_path)
    found = encode_clips(context, load_encoder(context))
    for path_, action in zip(found.paths, found.actions, strict=True):
        codes = path_ @ found.unwhitening + found.mean
        expected = torch.tensor([2.0, 0.0] if action == 0 else [0.0, 2.0])
        assert torch.allclose(codes[:, 4:], expected.expand(len(codes), 2), atol=1e-3)


def test_a_path_is_told_how_far_it_misnames_its_action(clip_folder: Path, tmp_path: Path) -> None:
    codes = ("generator.action_code=2", "model.motion=6", "motion.named=10")
    config = tiny(*codes, "run.stages=generator,motion")
    train(clip_folder, tmp_path, config, "cpu")
    told = losses(tmp_path, "motion")
    assert told
    assert all(line["named"] > 0 for line in told)
    clips = clips_of(clip_folder, config)
    stage = MotionStage(Context(config, clips, make_fabric(config, "cpu"), tmp_path))
    action = torch.tensor([0, 1, 1])
    meant = stage.codes.whole(torch.randn(5 * 3, 4), action.repeat(5)).unflatten(0, (5, 3))
    off = torch.zeros(6)
    off[4:] = torch.tensor([0.2, 0.4])
    found = stage.trajectories
    for codes_, apart in ((meant, 0.0), (meant + off, 0.1**2 + 0.2**2)):
        path = (codes_ - found.mean) @ found.whitening
        decoded = path @ stage.unwhitening + stage.mean
        misnamed = stage.codes.misnamed(decoded, action)
        assert misnamed.shape == (5, 3)
        assert float(misnamed.mean()) == pytest.approx(apart, abs=1e-6)


def test_clips_of_no_action_have_no_name_in_their_codes(clip_folder: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in sorted((clip_folder / "a").iterdir()):
        (flat / path.name).write_bytes(path.read_bytes())
    settings = ("generator.action_code=2", "motion.named=10", "run.stages=generator,motion")
    train(flat, tmp_path / "run", tiny(*settings, "motion.endless="), "cpu")
    told = losses(tmp_path / "run", "motion")
    assert told
    assert not any("named" in line for line in told)


def test_paths_swing_as_wide_as_asked_for(clip_folder: Path, tmp_path: Path) -> None:
    codes = ("generator.action_code=2", "model.motion=6", "motion.endless=")
    train(clip_folder, tmp_path, tiny("run.stages=generator", *codes), "cpu")

    def paths(*settings: str) -> list[torch.Tensor]:
        config = tiny(*codes, *settings)
        clips = clips_of(clip_folder, config)
        context = Context(config, clips, make_fabric(config, "cpu"), tmp_path)
        found = encode_clips(context, load_encoder(context))
        return [path @ found.unwhitening + found.mean for path in found.paths]

    for plain, wide in zip(paths(), paths("motion.swing=1.5"), strict=True):
        middle = plain.mean(0)
        assert float((plain - middle)[:, :4].abs().mean()) > 1e-3
        torch.testing.assert_close(wide - middle, 1.5 * (plain - middle), atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(wide[:, 4:], plain[:, 4:], atol=1e-3, rtol=0)


def test_a_code_needs_room_for_a_pose(clip_folder: Path, tmp_path: Path) -> None:
    config = tiny("generator.action_code=2", "model.motion=2")
    with pytest.raises(UsageError, match=r"model.motion = 2: with generator\.action_code, 2 of"):
        train(clip_folder, tmp_path / "run", config, "cpu")
    assert not (tmp_path / "run").exists()
