"""Holding one thing and changing another: seeds apart, speed, loops, walks."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mocogen
from mocogen import UsageError, latents, steering, synthesis
from mocogen.steering import Walk, codes_needed, timed

from .conftest import BACKENDS

WEIGHTS = np.linspace(0, 1, 9)


@pytest.fixture(scope="module", params=BACKENDS)
def model(request: pytest.FixtureRequest) -> mocogen.Model:
    return mocogen.load("weizmann", "cpu", request.param)


def pieces(codes: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for k in range(0, len(codes), size):
        yield codes[k : k + size]


def smooth(count: int, period: float = 28.3) -> np.ndarray:
    """A movement that goes round, and drifts a little: codes (count, 2)."""
    t = np.arange(count) * (2 * np.pi / period)
    return np.stack([np.cos(t), np.sin(t + 0.02 * np.sin(t / 9))], axis=1).astype(np.float32)


def test_slerp_keeps_to_the_sphere_and_meets_both_ends():
    a, b = latents.content(3, 50), latents.content(7, 50)
    way = steering.slerp(a, b, WEIGHTS)
    assert np.array_equal(way[0], a)
    assert np.array_equal(way[-1], b)
    lengths = np.linalg.norm(way, axis=1)
    ends = sorted((np.linalg.norm(a), np.linalg.norm(b)))
    assert lengths.min() > ends[0] - 1e-3
    assert lengths.max() < ends[1] + 1e-3
    turns = (way[:-1] * way[1:]).sum(1) / (lengths[:-1] * lengths[1:])
    assert np.ptp(turns) < 1e-4, "the speed is even"


def test_slerp_of_one_direction_or_of_opposite_ones_is_finite():
    a = latents.content(3, 5)
    for b in (a, -a, 2 * a):
        way = steering.slerp(a, b, WEIGHTS)
        assert np.isfinite(way).all()
        assert np.array_equal(way[0], a)
        assert np.array_equal(way[-1], b)


def test_noise_on_the_way_is_as_normal_as_at_the_ends():
    a, b = latents.noise(1, 0, 20_000, 3), latents.noise(2, 0, 20_000, 3)
    for weight in (0.0, 0.3, 0.5, 1.0):
        between = steering.arc(a, b, np.full(len(a), weight))
        assert abs(between.std() - 1) < 0.01
    assert np.array_equal(steering.arc(a, b, np.ones(len(a))), b)


def test_the_way_between_two_seeds_has_the_same_bits_for_ever():
    content = steering.slerp(latents.content(3, 50), latents.content(7, 50), WEIGHTS)
    noise = steering.arc(latents.noise(3, 0, 9, 10), latents.noise(7, 0, 9, 10), WEIGHTS)
    hashes = [hashlib.sha256(part.tobytes()).hexdigest()[:16] for part in (content, noise)]
    assert hashes == ["9e12da79a80547ff", "34e8be03d00556d6"]


def test_stations_share_the_frames_evenly():
    walk = Walk(7, True, True, steps=3)
    assert walk.weights(np.arange(6.0), 6).tolist() == [0, 0, 0.5, 0.5, 1, 1]
    assert walk.weights(np.array([99.0]), 6).tolist() == [1]
    still = Walk(7, True, True, first=0.25, last=0.25)
    assert still.weights(np.arange(3.0), 3).tolist() == [0.25] * 3


@pytest.mark.parametrize("speed", [0.01, 0.3, 0.5, 1, 1.7, 2, 40])
def test_time_is_read_alike_however_the_codes_arrive(speed: float):
    codes = smooth(codes_needed(50, speed, False))
    whole = np.concatenate(list(timed([codes], 50, speed, False)))
    assert len(whole) == 50
    for size in (1, 16):
        parts = np.concatenate(list(timed(pieces(codes, size), 50, speed, False)))
        assert np.array_equal(parts, whole)
    enough = codes[: codes_needed(20, speed, False)]
    fewer = np.concatenate(list(timed([enough], 20, speed, False)))
    assert np.array_equal(fewer, whole[:20])


def test_slow_motion_passes_through_every_code_on_a_curve():
    t = np.arange(30, dtype=np.float32)[:, None]
    slow = np.concatenate(list(timed([t * t], 40, 0.5, False)))[:, 0]
    assert np.array_equal(slow[::2], (t * t)[:20, 0])
    # A straight line between neighbours would be a quarter too high.
    assert np.allclose(slow[3::2], (np.arange(3, 40, 2) / 2) ** 2)


def test_time_waits_for_no_more_codes_than_it_needs():
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 16
            yield smooth(16)

    reading = timed(endless(), 10**9, 0.5, False)
    assert sum(len(next(reading)) for _ in range(10)) > 200
    assert taken <= 11 * 16


def test_a_loop_closes_and_moves():
    codes = smooth(codes_needed(48, 1, True))
    loop = steering.looped(codes, 48)
    around = np.linalg.norm(np.roll(loop, -1, axis=0) - loop, axis=1)
    assert around[-1] == around.min()
    assert around.max() < 1.5 * np.median(around), "no jump is hidden inside"
    assert loop.std() > 0.9 * codes.std()


def test_what_does_not_repeat_is_led_back():
    """Somebody who also wanders off: no part closes by itself."""
    codes = smooth(codes_needed(48, 1, True))
    away = 0.04 * np.arange(len(codes), dtype=np.float32)
    loop = steering.looped(np.column_stack([codes, away]), 48)
    steps = np.linalg.norm(np.roll(loop, -1, axis=0) - loop, axis=1)
    assert steps.max() < 2.2 * np.median(steps)


def test_a_loop_is_not_somebody_who_stands_still():
    """They move for 30 frames in 90: the easiest loop to close would be the rest between."""
    t = np.arange(codes_needed(48, 1, True)) % 90
    codes = np.where(t < 30, np.sin(t * np.pi / 30) ** 2, 0.0)[:, None].astype(np.float32)
    assert np.ptp(steering.looped(codes, 48)) > 0.9


@pytest.mark.parametrize("speed", [0.5, 1, 2])
def test_a_loop_plays_at_the_speed_that_is_asked_for(speed: float):
    codes = smooth(codes_needed(48, speed, True))
    loop = steering.looped(codes, 48, speed)
    found, made = (np.linalg.norm(np.diff(c, axis=0), axis=1).mean() for c in (loop, codes))
    assert found == pytest.approx(speed * made, rel=0.4), "it may be stretched by a third"


def test_of_loops_that_close_alike_the_one_of_the_right_length_is_chosen():
    """Rounds of 16 frames: two, three or four of them close without a gap."""
    codes = np.tile(smooth(16, 16.0), (40, 1))[: codes_needed(48, 1, True)]
    assert steering._best_part(codes.astype(np.float64), range(32, 65))[1] == 48


def test_content_says_who_and_motion_what(model: mocogen.Model):
    (_, both), *_ = model._latents([model.clip(frames=16, content_seed=3, motion_seed=8)])
    spec = model.spec
    where = spec.latent_order.index("content") * spec.motion
    content = both[:, where : where + spec.content]
    assert model.mapping is not None
    assert np.array_equal(
        content, np.tile(model.mapping(latents.content(3, spec.content)[None]), (16, 1))
    )
    (_, moved), *_ = model._latents([model.clip(8, frames=16)])
    rest = [k for k in range(both.shape[1]) if not where <= k < where + spec.content]
    assert np.array_equal(both[:, rest], moved[:, rest]), "the movement, its action too, is 8's"
    assert model.clip(content_seed=3, motion_seed=8).action == model.clip(8).action


def test_a_seed_stands_for_whatever_has_no_seed_of_its_own(model: mocogen.Model):
    plain = model.sample(4, 5)
    assert np.array_equal(model.sample(4, content_seed=5, motion_seed=5), plain)
    assert np.array_equal(model.sample(4, 5, motion_seed=5), plain)
    assert not np.array_equal(model.sample(4, 5, content_seed=6), plain)
    assert not np.array_equal(model.sample(4, 5, motion_seed=6), plain)


def test_slow_motion_has_new_poses_between_the_old(model: mocogen.Model):
    plain = model.sample(20, 3, action="jack").astype(int)
    slow = model.sample(38, 3, action="jack", speed=0.5)
    assert np.array_equal(slow[::2], plain[:19])
    blends = (plain[:18] + plain[1:19]) / 2
    assert np.abs(slow[1:36:2] - blends).max() > 40
    assert np.array_equal(model.sample(20, 3, action="jack", speed=0.5), slow[:20])
    assert np.array_equal(model.sample(10, 3, action="jack", speed=2), plain[::2])


@pytest.mark.parametrize("action", ["wave1", "wave2", "jack", "bend"])
def test_a_loop_repeats_without_a_jump(action: str):
    model = mocogen.load("weizmann", "cpu")

    def steps(video: np.ndarray) -> np.ndarray:
        return np.abs(np.roll(video, -1, axis=0).astype(float) - video).mean((1, 2, 3))

    for seed in range(3):
        open_ = steps(model.sample(48, seed, action=action))
        closed = steps(model.sample(48, seed, action=action, loop=True))
        assert closed[-1] <= closed[:-1].mean()
        assert closed.max() < 2 * open_[:-1].max(), "no jump is hidden inside"
        assert closed.mean() > 0.6 * open_[:-1].mean(), "they still move"


def test_steered_clips_do_not_depend_on_their_neighbours(
    model: mocogen.Model, monkeypatch: pytest.MonkeyPatch
):
    requests = [
        model.clip(0, frames=5, speed=0.3),
        model.clip(1, frames=12, loop=True),
        model.clip(2, frames=20, walk=Walk(9, True, True, steps=20)),
        model.clip(3, frames=20, content_seed=1, speed=3),
        model.clip(4, frames=3),
    ]
    alone = {c.seed: np.concatenate([f for _, f in model.stream([c])]) for c in requests}
    for long in (10**6, 10):
        monkeypatch.setattr(synthesis, "_LONG", long)
        together: dict[int, list[np.ndarray]] = {}
        for clip, frames in model.stream(requests):
            together.setdefault(clip.seed, []).append(frames.copy())
        for clip in requests:
            assert np.array_equal(np.concatenate(together[clip.seed]), alone[clip.seed])
            assert len(alone[clip.seed]) == clip.frames


@pytest.mark.skipif(len(BACKENDS) == 1, reason="torch is the only backend here")
def test_backends_choose_the_same_loop():
    models = [mocogen.load("weizmann", "cpu", name) for name in BACKENDS]
    for seed in range(4):
        one, *others = (m.sample(16, seed, loop=True, speed=3).astype(int) for m in models)
        for other in others:
            assert np.abs(one - other).max() <= 1


def test_clips_side_by_side_are_the_clips_alone(model: mocogen.Model):
    clips = [model.clip(seed, frames=19, loop=seed == 2) for seed in range(3)]
    blocks = list(model.side_by_side(clips, 5))
    assert [len(block) for block in blocks] == [5, 5, 5, 4]
    together = np.concatenate(blocks)
    for k, clip in enumerate(clips):
        assert np.array_equal(together[:, k], model.sample(19, k, loop=clip.loop))


def test_clips_of_two_lengths_do_not_play_side_by_side(model: mocogen.Model):
    """Their frames would be shared out among the wrong clips."""
    clips = [model.clip(seed, frames=frames) for seed, frames in ((0, 6), (1, 5))]
    with pytest.raises(UsageError, match="clips of 5, 6 frames: side by side, all have one"):
        model.side_by_side(clips)


@pytest.mark.parametrize("moments", [0, -1, 1.5, True])
def test_side_by_side_comes_some_moments_at_a_time(model: mocogen.Model, moments: Any):
    with pytest.raises(UsageError, match=f"moments {moments}: use a whole number of at least 1"):
        model.side_by_side([model.clip(0, frames=5)], moments)


def test_whoever_stays_on_the_way_may_loop(model: mocogen.Model):
    still = Walk(7, True, True, first=0.5, last=0.5, steps=16)
    clip = model.clip(3, frames=16, loop=True, walk=still)
    assert sum(len(latent) for _, latent in model._latents([clip])) == 16


@pytest.mark.parametrize("mode", ["per-frame", "constant"])
def test_a_walk_begins_and_ends_in_its_seeds(model: mocogen.Model, mode: str):
    def inputs(seed: int, walk: Walk | None = None) -> np.ndarray:
        clip = model.clip(seed, frames=16, action="jack", noise_mode=mode, walk=walk)
        return np.concatenate([latent for _, latent in model._latents([clip])])

    start, end = inputs(3), inputs(7)
    for weight, expected in ((0.0, start), (1.0, end)):
        walk = Walk(7, True, True, first=weight, last=weight)
        assert np.array_equal(inputs(3, walk), expected)
    for content, motion in ((True, False), (False, True)):
        walk = Walk(7, content, motion, steps=16)
        changed = (inputs(3, walk) != start).any(0)
        size = model.spec.content if content else model.spec.motion
        assert changed.sum() == size, "what does not walk stays"


def test_a_walk_starts_from_the_first_seeds_state_where_states_are_drawn(model: mocogen.Model):
    drawn = mocogen.Model(replace(model.spec, initial_state="normal"), model.backend)
    state = [drawn._initial_state(drawn.clip(s)) for s in (3, 7)]
    for weight, expected in ((0.0, state[0]), (1.0, state[1])):
        walk = Walk(7, False, True, first=weight, last=weight)
        assert np.array_equal(drawn._initial_state(drawn.clip(3, walk=walk)), expected)


def test_the_initial_state_is_the_motion_seeds(tiny: Path):
    model = mocogen.load(tiny, "cpu", "torch")
    drawn = mocogen.Model(replace(model.spec, initial_state="normal"), model.backend)
    state = drawn._initial_state(drawn.clip(content_seed=3, motion_seed=8))
    assert np.array_equal(state, latents.initial_state(8, model.spec.hidden))


@pytest.mark.parametrize(("speed", "arrival"), [(0.5, 4), (2.0, 14)])
def test_a_walk_arrives_in_the_same_frame_at_any_speed(tiny: Path, speed: float, arrival: int):
    """Its last: which step of the network's that is, the speed decides."""
    model = mocogen.load(tiny, device="cpu")
    clip = model.clip(3, frames=8, speed=speed, walk=Walk(7, False, True, steps=8))
    noise = model._noise(clip, 0, arrival + 1)
    there = latents.noise(7, 0, arrival + 1, model.spec.noise)
    assert np.array_equal(noise[-1], there[-1])
    assert not np.array_equal(noise[-2], there[-2])


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"content_seed": -1}, "content_seed -1"),
        ({"motion_seed": 2**63}, "motion_seed 9223372036854775808"),
        ({"speed": 0.0}, "factor from 0.01 to 100"),
        ({"speed": float("nan")}, "factor from 0.01 to 100"),
        ({"frames": 7, "loop": True}, "from 8 to 10000"),
        ({"frames": 48, "speed": 0.1, "loop": True}, "from 8 to 10000"),
        ({"frames": 20_000, "loop": True}, "from 8 to 10000"),
        ({"walk": Walk(-1, True, True)}, "to -1"),
        ({"walk": "7"}, "use a mocogen.Walk"),
        ({"walk": Walk(1, True, True, first=float("nan"))}, "first nan: use a number from 0 to 1"),
        ({"walk": Walk(1, True, True, last=1.5)}, "last 1.5: use a number from 0 to 1"),
        ({"walk": Walk(1, True, True, last=-0.1)}, "last -0.1: use a number from 0 to 1"),
        ({"walk": Walk(1, True, True, first="0")}, "first '0': use a number from 0 to 1"),  # type: ignore[arg-type]
        ({"walk": Walk(1, "no", True)}, "content 'no': use true or false"),  # type: ignore[arg-type]
        ({"walk": Walk(1, True, True, steps=True)}, "steps True: use 1 to 48"),
        ({"walk": Walk(1, True, True, steps=1.5)}, "steps 1.5: use 1 to 48"),  # type: ignore[arg-type]
        ({"frames": 5, "walk": Walk(1, True, True, steps=6)}, "steps 6: use 1 to 5"),
        ({"loop": True, "walk": Walk(1, True, True, steps=48)}, "ask for one of the two"),
    ],
)
def test_steering_that_makes_no_sense(model: mocogen.Model, request_: dict, said: str):
    with pytest.raises(UsageError, match=said):
        model.clip(**request_)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_walk_of_motion_needs_noise_for_more_than_the_first_frame(even: Path, name: str):
    request = {"noise_mode": "feedback", "walk": Walk(1, False, True, steps=6)}
    test_steering_that_makes_no_sense(
        mocogen.load(even, "cpu", name), request, "the first frame alone"
    )
