"""Sampling: reproducible to the byte, whatever stands beside a clip."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mocogen
from mocogen import UsageError, latents, synthesis
from mocogen.steering import Walk

from .conftest import BACKENDS


@pytest.fixture(scope="module", params=BACKENDS)
def model(request: pytest.FixtureRequest) -> mocogen.Model:
    """Everything here is true of every backend."""
    return mocogen.load("weizmann", "cpu", request.param)


def test_the_front_door(model: mocogen.Model):
    video = model.sample(frames=48, seed=7)
    assert video.shape == (48, 96, 96, 3)
    assert video.dtype == np.uint8


def test_the_clip_moves_and_has_contrast(model: mocogen.Model):
    video = model.sample(frames=32, seed=7).astype(int)
    assert np.abs(np.diff(video, axis=0)).mean() > 1
    assert video.std() > 15


def test_twenty_frames_are_the_first_of_forty_eight(model: mocogen.Model):
    whole = model.sample(48, seed=3)
    for frames in (1, 15, 16, 17, 20):
        assert np.array_equal(model.sample(frames, seed=3), whole[:frames])


def test_a_clip_does_not_depend_on_its_neighbours(model: mocogen.Model):
    """Clips of many lengths, more than one group of the motion network's."""
    lengths = [5, 33, 1, 16, 48, 2, 20, 7, 9, 31, 3]
    requests = [model.clip(seed, frames=n) for seed, n in enumerate(lengths)]
    together: dict[int, list[np.ndarray]] = {}
    for clip, frames in model.stream(requests):
        together.setdefault(clip.seed, []).append(frames.copy())
    assert list(together) == list(range(len(lengths)))
    for seed, n in enumerate(lengths):
        assert np.array_equal(np.concatenate(together[seed]), model.sample(n, seed))


def test_long_clips_are_unrolled_alone_with_the_same_result(
    model: mocogen.Model, monkeypatch: pytest.MonkeyPatch
):
    expected = model.sample(40, seed=2)
    monkeypatch.setattr(synthesis, "_LONG", 10)
    requests = [model.clip(seed, frames=40) for seed in (1, 2)]
    pieces = [frames.copy() for clip, frames in model.stream(requests) if clip.seed == 2]
    assert np.array_equal(np.concatenate(pieces), expected)


def test_the_stream_reads_no_more_requests_than_it_needs(model: mocogen.Model):
    asked = 0

    def endless():
        nonlocal asked
        while True:
            asked += 1
            yield model.clip(asked, frames=1)

    next(model.stream(endless()))
    assert asked <= 2 * max(model.backend.blocks.images, model.backend.blocks.clips)


def test_the_callers_code_runs_in_its_own_gradient_mode(tiny: Path):
    """Torch's backend alone has a mode to leave behind."""
    model = mocogen.load(tiny, "cpu", "torch")
    stream = model.stream(model.clip(seed, frames=20) for seed in range(3))
    next(stream)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    next(stream)
    assert not torch.is_inference_mode_enabled()


def test_backends_and_thread_counts_stay_within_one_grey_level(model: mocogen.Model):
    before = torch.get_num_threads()
    plain = mocogen.load("weizmann", "cpu", "torch")
    try:
        torch.set_num_threads(1)
        one = plain.sample(64, seed=4).astype(int)
        torch.set_num_threads(2)
        two = plain.sample(64, seed=4).astype(int)
    finally:
        torch.set_num_threads(before)
    assert np.abs(one - two).max() <= 1
    assert np.abs(one - model.sample(64, seed=4)).max() <= 1


@pytest.mark.skipif(len(BACKENDS) == 1, reason="torch is the only backend here")
def test_long_unrolls_of_backends_stay_together():
    """Roundings become no other movement, in a thousand frames of eight clips an action."""
    paths = []
    for name in BACKENDS:
        model = mocogen.load("weizmann", "cpu", name)
        groups = [
            [model.clip(s, frames=1024, action=a) for s in range(8)] for a in model.spec.actions
        ]
        paths.append([np.concatenate(list(model._motion_codes(group))) for group in groups])
    for path in paths[1:]:
        np.testing.assert_allclose(path, paths[0], atol=1e-5)


def test_content_and_motion_and_action_come_from_the_seed(model: mocogen.Model):
    assert not np.array_equal(model.sample(4, seed=0), model.sample(4, seed=1))
    chosen = model.spec.actions[model.clip(0).action or 0]
    assert np.array_equal(model.sample(4, 0, action=chosen), model.sample(4, 0))
    other = next(a for a in model.spec.actions if a != chosen)
    assert not np.array_equal(model.sample(30, 0, action=other), model.sample(30, 0))


@pytest.mark.parametrize("backend", BACKENDS)
def test_sampling_leaves_torchs_random_numbers_alone(tiny: Path, backend: str):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    mocogen.load(tiny, "cpu", backend).sample(4, seed=1)
    assert torch.equal(torch.rand(3), expected)


def test_blocks_give_what_the_plain_networks_give(model: mocogen.Model):
    """Folding, padding, blocks and layouts aside, sampling is motion, then generator."""
    from mocogen import checkpoint
    from mocogen.mapping import ContentMapping

    spec, tensors = checkpoint.read(checkpoint.find("weizmann"))
    motion, generator = checkpoint.networks(spec, tensors)
    mapping = ContentMapping.of(spec, tensors)
    assert mapping is not None
    with torch.no_grad():
        before = spec.warm_up
        noise = torch.from_numpy(latents.noise(9, 0, before + 20, spec.noise))[:, None]
        codes = motion(noise, category=torch.tensor([2]))[before:, 0]
        drawn = latents.content(9, spec.content)[None]
        content = torch.from_numpy(mapping(drawn)).expand(20, -1)
        images = generator(torch.cat([codes, content], dim=1))
    expected = ((images + 1) * 127.5).clamp(0, 255).round().permute(0, 2, 3, 1).numpy()
    difference = expected - model.sample(20, seed=9, action=spec.actions[2])
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("warm_up", [1, 16, 37])
@pytest.mark.parametrize("mode", ["per-frame", "constant"])
def test_a_clip_begins_after_the_warm_up(tiny: Path, warm_up: int, mode: str):
    """Its frames are the later ones of the same movement, alone and beside others."""
    cold = mocogen.load(tiny, device="cpu")
    warm = mocogen.Model(replace(cold.spec, warm_up=warm_up), cold.backend)
    seeds = range(3)
    expected = [cold.sample(warm_up + 21, seed, noise_mode=mode)[warm_up:] for seed in seeds]
    assert not np.array_equal(expected[0], cold.sample(21, 0, noise_mode=mode))
    for seed in seeds:
        assert np.array_equal(warm.sample(21, seed, noise_mode=mode), expected[seed])
    requests = [warm.clip(seed, frames=21, noise_mode=mode) for seed in seeds]
    together = [frames for _, frames in warm.stream(requests)]
    assert np.array_equal(np.concatenate(together), np.concatenate(expected))


def test_a_walk_of_motion_waits_for_the_first_frame(tiny: Path):
    cold = mocogen.load(tiny, device="cpu")
    warm = mocogen.Model(replace(cold.spec, warm_up=16), cold.backend)
    clip = warm.clip(3, frames=8, walk=Walk(7, False, True, steps=8))
    noise = warm._noise(clip, 0, 24)
    assert np.array_equal(noise[:17], latents.noise(3, 0, 17, warm.spec.noise))
    assert np.array_equal(noise[23:], latents.noise(7, 23, 1, warm.spec.noise))


@pytest.mark.parametrize("mode", ["constant", "feedback"])
@pytest.mark.parametrize("name", BACKENDS)
def test_other_noise_modes(even: Path, name: str, mode: str):
    model = mocogen.load(even, "cpu", name)
    whole = model.sample(40, seed=1, noise_mode=mode)
    assert np.array_equal(model.sample(20, seed=1, noise_mode=mode), whole[:20])
    assert not np.array_equal(whole, model.sample(40, seed=1))
    mixed = [model.clip(1, frames=20), model.clip(1, frames=20, noise_mode=mode)]
    pieces = [f.copy() for clip, f in model.stream(mixed) if clip.noise_mode == mode]
    assert np.array_equal(np.concatenate(pieces), whole[:20])


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"frames": 0}, "at least 1"),
        ({"frames": -3}, "at least 1"),
        ({"seed": -1}, "seed -1"),
        ({"action": "fly"}, "wave1, wave2, jack, bend"),
        ({"noise_mode": "loud"}, "per-frame, constant, feedback"),
        ({"noise_mode": ""}, "per-frame, constant, feedback"),
        *(({"frames": frames}, "use a whole number") for frames in (2.0, "2", None, True, [2])),
        *(({"seed": seed}, "use a whole number from 0 to 9") for seed in (2.0, "2", True)),
        *(({"speed": speed}, "from 0.01 to 100") for speed in ("1", None, True, 10**400)),
        *(({"loop": loop}, "use true or false") for loop in ("no", 0, None)),
    ],
)
def test_requests_that_make_no_sense(model: mocogen.Model, request_: dict, said: str):
    with pytest.raises(UsageError, match=said):
        model.clip(**request_)


def test_numbers_of_numpys_become_plain_ones(model: mocogen.Model):
    """Those of few bits would overflow on the way, and no JSON takes them."""
    one, _, few = np.arange(1, 4, dtype=np.uint8)
    given: dict[str, Any] = {"seed": np.int64(3), "content_seed": one, "motion_seed": few}
    given |= {"frames": np.uint8(200), "speed": np.float32(0.01)}
    clip = model.clip(**given)
    assert json.loads(json.dumps(vars(clip))) == vars(
        model.clip(3, frames=200, content_seed=1, motion_seed=3, speed=0.01)
    )
    walk = Walk(np.int64(9), True, False, np.float32(0.5), np.int64(1), np.uint8(2))  # type: ignore[arg-type]
    walked = model.clip(3, frames=np.uint8(200), walk=walk).walk
    assert json.dumps(vars(walked)) == json.dumps(vars(Walk(9, True, False, 0.5, 1.0, 2)))


def test_what_is_asked_for_goes_by_name_after_the_first(model: mocogen.Model):
    """One wants the seed first and one the frames: further words would be mistaken."""
    ask: Any = model
    with pytest.raises(TypeError, match="positional"):
        ask.clip(48, 7)
    with pytest.raises(TypeError, match="positional"):
        ask.sample(48, 7, "jack")


def test_feedback_needs_vectors_of_one_length(tiny: Path):
    with pytest.raises(UsageError, match="3 and 4"):
        mocogen.load(tiny, device="cpu").clip(noise_mode="feedback")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cpu:1", "mps:0"])
def test_unknown_devices(name: str):
    with pytest.raises(UsageError, match="use auto, cpu, cuda"):
        mocogen.load("weizmann", device=name)


def test_torchs_own_device_and_a_path_as_text(tiny: Path):
    loaded = mocogen.load(str(tiny), device=torch.device("cpu"), backend="torch")
    assert loaded.backend.device == "cpu"
    assert loaded.source == {"checkpoint": str(tiny), "device": "cpu", "backend": "torch"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there():
    with pytest.raises(mocogen.MocogenError, match="--device cpu"):
        mocogen.load("weizmann", device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_stays_within_one_grey_level(model: mocogen.Model):
    on_gpu = mocogen.load("weizmann", "cuda", "torch").sample(48, seed=4).astype(int)
    assert np.abs(on_gpu - model.sample(48, seed=4)).max() <= 1
