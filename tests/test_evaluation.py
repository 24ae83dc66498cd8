"""The measures on clips whose figures are known, and the classifiers on people of our making."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import mocogen
from benchmarks import content_distance as distance_program
from benchmarks import quality
from mocogen import shapes
from mocogen.errors import MocogenError, UsageError
from mocogen.evaluation import classifiers, measures, pictures, scores
from mocogen.evaluation.classifiers import RealClip, Training

Frames = measures.Frames


def still(value: int | tuple[int, int, int], frames: int = 4, size: int = 64) -> Frames:
    return np.full((frames, size, size, 3), value, np.uint8)


def noise(frames: int, size: int = 64, seed: int = 0) -> Frames:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (frames, size, size, 3), dtype=np.uint8)


class TestReduce:
    def test_a_pixel_is_the_mean_of_its_area(self) -> None:
        frames = noise(2, 96)
        # Nine pixels of 96 are four of 64: compare the coarsest common cells.
        wide = frames.reshape(2, 32, 3, 32, 3, 3).mean(axis=(2, 4))
        narrow = measures.reduce(frames, 64).reshape(2, 32, 2, 32, 2, 3).mean(axis=(2, 4))
        np.testing.assert_allclose(narrow, wide, atol=0.6)

    def test_frames_of_the_size_are_left_alone(self) -> None:
        frames = noise(2)
        assert measures.reduce(frames, 64) is frames

    def test_nothing_is_enlarged(self) -> None:
        with pytest.raises(ValueError, match="32x32"):
            measures.reduce(still(0, size=32), 64)


class TestMotionEnergy:
    def test_a_frozen_clip_has_none(self) -> None:
        assert measures.motion_energy(np.repeat(noise(1), 5, axis=0)) == 0.0

    def test_a_flash_counts_in_grey_levels(self) -> None:
        frames = np.concatenate([still(10, 1), still(30, 1), still(10, 1)])
        assert measures.motion_energy(frames) == pytest.approx(20.0)

    def test_moving_a_cell_counts_its_share(self) -> None:
        frames = still(0, 2)
        frames[1, :4, :4] = 255
        assert measures.motion_energy(frames) == pytest.approx(255 / 256)

    def test_noise_within_cells_hardly_counts(self) -> None:
        raw = np.abs(np.diff(noise(4).astype(float), axis=0)).mean()
        assert measures.motion_energy(noise(4)) < raw / 3

    def test_one_frame_and_odd_sizes_are_refused(self) -> None:
        with pytest.raises(ValueError, match="two frames"):
            measures.motion_energy(still(0, 1))
        with pytest.raises(ValueError, match="multiple of 16"):
            measures.motion_energy(still(0, 2, size=60))


class TestMovement:
    def test_small_changes_everywhere_are_noise(self) -> None:
        frames = np.concatenate([still(100, 1), still(102, 1), still(100, 1)])
        assert measures.motion_energy(frames) == pytest.approx(2.0)
        assert measures.movement(frames) == 0.0

    def test_a_cell_that_moves_counts_as_in_the_energy(self) -> None:
        frames = np.concatenate([still(100, 1), still(101, 1)])
        frames[1, :4, :4] = 200
        assert measures.movement(frames) == pytest.approx(100 / 256)
        assert measures.motion_energy(frames) == pytest.approx((100 + 255) / 256)

    def test_one_frame_is_refused(self) -> None:
        with pytest.raises(ValueError, match="two frames"):
            measures.movement(still(0, 1))


class TestSharpness:
    def test_a_plain_frame_has_none(self) -> None:
        assert measures.sharpness(still(77)) == 0.0

    def test_a_ramp_has_its_slope(self) -> None:
        ramp = np.broadcast_to((3 * np.arange(64, dtype=np.uint8))[:, None], (2, 64, 64, 3))
        assert measures.sharpness(np.ascontiguousarray(ramp)) == pytest.approx(3.0, rel=1e-4)

    def test_a_slant_is_measured_along_its_slope(self) -> None:
        rows, columns = np.mgrid[:32, :32]
        grey = (3 * rows + 4 * columns).astype(np.uint8)
        slant = np.repeat(grey[None, ..., None], 3, axis=3)
        assert measures.sharpness(slant) == pytest.approx(5.0, rel=1e-4)

    def test_blur_lowers_it(self) -> None:
        frames = noise(1)
        small = Image.fromarray(frames[0]).resize((32, 32), Image.Resampling.BOX)
        blurred = np.asarray(small.resize((64, 64), Image.Resampling.BICUBIC))[None]
        assert measures.sharpness(blurred) < measures.sharpness(frames) / 2


class TestSteadyPerson:
    @staticmethod
    def person(colour: tuple[int, int, int], left: int = 24, wall: int = 200) -> Frames:
        frame = still(wall, 1)
        frame[0, 16:60, left : left + 12] = colour
        return frame

    def test_wall_and_clothing_are_found(self) -> None:
        found = measures.wall_and_clothing(self.person((10, 20, 90)))
        np.testing.assert_allclose(found, [[200, 200, 200, 10, 20, 90]])

    def test_bright_walls_and_pale_skin_are_no_clothing(self) -> None:
        frame = self.person((10, 20, 90))
        frame[0, :10] = 250
        frame[0, 10:16, 24:36] = (190, 150, 140)
        np.testing.assert_allclose(measures.wall_and_clothing(frame)[0, 3:], [10, 20, 90])

    def test_without_clothing_its_colour_is_the_walls(self) -> None:
        np.testing.assert_allclose(measures.wall_and_clothing(still(180, 1)), [[180] * 6])

    def test_walking_is_steady(self) -> None:
        frames = np.concatenate([self.person((10, 20, 90), left) for left in (12, 24, 36)])
        assert measures.unsteadiness(frames) == pytest.approx(0.0, abs=1e-6)

    def test_changing_clothes_is_not(self) -> None:
        frames = np.concatenate([self.person((10, 20, 90)), self.person((40, 20, 50))])
        assert measures.unsteadiness(frames) == pytest.approx(50.0)

    def test_changing_light_is_not(self) -> None:
        frames = np.concatenate([still(180, 1), still(184, 1)])
        assert measures.unsteadiness(frames) == pytest.approx(4 * 6**0.5)


class TestDistances:
    def test_the_mean_is_over_all_pairs(self) -> None:
        assert measures.mean_pairwise_distance(np.array([[0.0], [1.0], [3.0]])) == 2.0

    def test_one_vector_has_no_distance(self) -> None:
        with pytest.raises(ValueError, match="two vectors"):
            measures.mean_pairwise_distance(np.zeros((1, 3)))

    def test_diversity_is_in_grey_levels(self) -> None:
        first = np.concatenate([still(10, 1), still(10, 1), still(40, 1)])
        assert measures.diversity(first) == pytest.approx(20.0)

    def test_content_distance_of_a_changing_colour(self) -> None:
        frames = shapes.make(0, 0, 4).frames(64)
        mask = measures.shape_pixels(frames)
        frames[mask] = (100, 0, 0)
        frames[2:][mask[2:]] = (103, 4, 0)
        # Four of the six pairs are 5 apart.
        assert measures.content_distance(frames) == pytest.approx(5 * 4 / 6)

    def test_frames_without_a_shape_are_left_out(self) -> None:
        frames = shapes.make(0, 0, 4).frames(64)
        frames[1] = 20
        assert len(measures.shape_colours(frames)) == 3
        assert len(measures.shape_centres(frames)) == 3
        with pytest.raises(ValueError, match="two vectors"):
            measures.content_distance(still(0))

    def test_specks_and_soft_edges_are_no_shape(self) -> None:
        clip = shapes.make(0, 0, 2)
        frames = clip.frames(64)
        mask = measures.shape_pixels(frames)
        frames[:, 2, 60] = 255
        frames[~mask] = np.minimum(frames[~mask], 30)
        assert measures.shape_colours(frames) == pytest.approx(np.array([clip.colour] * 2), abs=1)


class TestCounts:
    def test_most_frequent(self) -> None:
        assert measures.most_frequent([3, 1, 3, 3]) == (3, 0.75)
        assert measures.most_frequent([2, 1]) == (1, 0.5)

    def test_coverage_and_imbalance(self) -> None:
        table = measures.coverage([(0, 1), (0, 1), (2, 0)], 3, 2)
        assert table.tolist() == [[0, 2], [0, 0], [1, 0]]
        assert measures.imbalance(table) == float("inf")
        assert measures.imbalance(np.array([4, 2, 3])) == 2.0

    def test_chance_of_balance_grows_with_the_draws(self) -> None:
        few, many = (measures.chance_of_balance(n, 9, 3.0, 4) for n in (64, 400))
        assert few < 0.1
        assert many > 0.9

    def test_clips_for_every_hundred_due(self) -> None:
        assert measures.per_hundred_due(8, 72, 9) == 100.0
        assert measures.per_hundred_due(2, 72, 9) == 25.0


def people(frames: int = 40, count: int = 3) -> list[RealClip]:
    """People told by their colour, who move a bar up and down or from side to side."""
    clips: list[RealClip] = []
    for person in range(count):
        colour = np.roll([150, 60, 20], person)
        for action in ("lift", "slide"):
            video = still(200, frames)
            for t in range(frames):
                place = int(28 + 20 * np.sin(t / 3 + person))
                block = (slice(place, place + 8), slice(8, 56))
                video[(t, *(block if action == "lift" else block[::-1]))] = colour
            video[:, 50:60, 4:10] = 90  # a stain on the wall, by which mirroring is told
            clips.append(RealClip(video, action, f"p{person}"))
    return clips


ACTIONS = ("lift", "slide")
BRIEF = Training(steps=40, batch=24)


def spy_on_batches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """Collect some images and labels of each network that is trained, and train it briefly."""
    fit, drawn = classifiers._fit, []

    def spied(channels, classes, batch, training, seed):
        batches = [batch(torch.Generator().manual_seed(k)) for k in range(20)]
        drawn.append((torch.cat([b[0] for b in batches]), torch.cat([b[1] for b in batches])))
        return fit(channels, classes, batch, Training(1, 8), seed)

    monkeypatch.setattr(classifiers, "_fit", spied)
    return drawn


class TestClassifiers:
    @pytest.fixture(scope="class")
    @staticmethod
    def trained() -> tuple[classifiers.ActionClassifier, classifiers.PersonClassifier]:
        clips = people()
        return (
            classifiers.train_action(clips, ACTIONS, BRIEF),
            classifiers.train_person(clips, ACTIONS, BRIEF),
        )

    def test_they_report_their_accuracy_on_what_they_did_not_know(self, trained) -> None:
        actions, persons = trained
        assert len(actions.networks) == 3
        assert set(actions.accuracy) == {"clips", "views", "clips lift", "clips slide"}
        assert actions.accuracy["clips"] == 1.0
        assert len(persons.networks) == classifiers.PARTS
        assert persons.accuracy["frames"] > 0.9
        assert persons.accuracy["one person"] > 0.9
        assert {"frames of unseen lift", "frames of unseen slide"} < set(persons.accuracy)

    def test_they_name_new_clips(self, trained) -> None:
        for k, clip in enumerate(people(frames=32)):
            verdict = scores.judge(clip.frames, *trained)
            assert verdict.action == k % 2
            assert verdict.person == k // 2
            assert verdict.one_person > 0.9

    def test_they_name_mirrored_clips_as_mirrored(self, trained) -> None:
        clip = people()[0].frames
        assert not scores.judge(clip, *trained).mirrored
        assert scores.judge(clip[:, :, ::-1], *trained).mirrored

    def test_a_change_of_person_is_seen(self, trained) -> None:
        first, other = people()[0].frames, people()[2].frames
        mixed = np.concatenate([first[:20], other[20:]])
        assert scores.who(mixed, trained[1])[1] < 0.7

    def test_colour_does_not_reach_the_action_classifier(self, trained) -> None:
        clip = people()[1].frames
        dark = (clip // 3 + 11).astype(np.uint8)
        odds = [trained[0].probabilities(frames) for frames in (clip, dark)]
        np.testing.assert_allclose(*odds, atol=0.1)

    def test_actions_are_judged_by_networks_that_never_saw_the_person(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Every person has an action of their own: who was not seen cannot be among the labels.
        actions = ("a", "b", "c")
        clips = [replace(clip, action=actions[k // 2]) for k, clip in enumerate(people())]
        drawn = spy_on_batches(monkeypatch)
        classifiers.train_action(clips, actions, BRIEF)
        for left_out, (_, labels) in enumerate(drawn):
            assert set(labels.tolist()) == {0, 1, 2} - {left_out}

    def test_people_are_judged_by_networks_that_never_saw_the_time_or_the_action(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Every third of the clips of an action has one brightness, by which it is known.
        steps = torch.tensor([10, 50, 90, 130, 170, 210])
        clips = []
        for clip in people():
            frames = np.empty_like(clip.frames)
            for third in range(3):
                here = slice(third * len(frames) // 3, (third + 1) * len(frames) // 3)
                frames[here] = steps[third + 3 * ACTIONS.index(clip.action)]
            clips.append(replace(clip, frames=frames))

        def thirds(pictures: Tensor) -> set[int]:
            brightness = 127.5 * (pictures.mean((1, 2, 3)) + 1)
            return set((brightness[:, None] - steps).abs().argmin(1).tolist())

        tested: list[tuple[object, set[int]]] = []

        def test(network: object, pictures: Tensor, *_: object) -> tuple[float, float, float]:
            tested.append((network, thirds(pictures)))
            return 1.0, 1.0, 1.0

        drawn = spy_on_batches(monkeypatch)
        monkeypatch.setattr(classifiers, "_test", test)
        classifiers.train_person(clips, ACTIONS, replace(BRIEF, noise=0.0))
        networks = list(dict.fromkeys(network for network, _ in tested))
        wanted = [{0, 3}, {1, 4}, {2, 5}, {0, 1, 2}, {3, 4, 5}]
        for (images, _), network, left_out in zip(drawn, networks, wanted, strict=True):
            assert set().union(*(seen for by, seen in tested if by is network)) == left_out
            assert thirds(images) == set(range(6)) - left_out

    def test_clips_that_are_too_short_are_refused(self, trained) -> None:
        with pytest.raises(MocogenError, match="at least 29"):
            trained[0].probabilities(people(frames=12)[0].frames)

    def test_one_person_alone_cannot_be_left_out(self) -> None:
        with pytest.raises(MocogenError, match="fewer than two people"):
            classifiers.train_action(people(count=1), ACTIONS, BRIEF)

    def test_training_is_repeatable_and_leaves_global_state_alone(self) -> None:
        clips, brief = people(), Training(steps=3, batch=8)
        before, threads = torch.random.get_rng_state(), torch.get_num_threads()
        first = classifiers.train_action(clips, ACTIONS, brief)
        assert torch.equal(torch.random.get_rng_state(), before)
        assert torch.get_num_threads() == threads
        torch.manual_seed(5)
        second = classifiers.train_action(clips, ACTIONS, brief)
        for one, other in zip(first.networks, second.networks, strict=True):
            for key, value in one.state_dict().items():
                assert torch.equal(value, other.state_dict()[key])


def test_the_cache_is_read_for_the_same_clips_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief = Training(steps=2, batch=8)
    train_action, train_person = classifiers.train_action, classifiers.train_person
    calls: list[int] = []

    def counted(*words: object) -> classifiers.ActionClassifier:
        calls.append(1)
        return train_action(*words, brief)  # type: ignore[arg-type]

    monkeypatch.setattr(classifiers, "train_action", counted)
    monkeypatch.setattr(classifiers, "train_person", lambda *words: train_person(*words, brief))
    clips = people()
    first, _ = classifiers.trained(clips, ACTIONS, tmp_path)
    again, people_again = classifiers.trained(clips, ACTIONS, tmp_path)
    assert calls == [1]
    assert again.accuracy == first.accuracy
    frames = clips[0].frames
    np.testing.assert_array_equal(again.probabilities(frames), first.probabilities(frames))
    assert people_again.people == ("p0", "p1", "p2")

    classifiers.trained(clips[:4], ACTIONS, tmp_path)
    assert calls == [1, 1]
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:100])
    classifiers.trained(clips, ACTIONS, tmp_path)
    assert calls == [1, 1, 1]


def test_real_people_and_actions_are_recognised(data: Path) -> None:
    """One network of each kind instead of all, so that it takes seconds."""
    real = quality.read_real(data / "weizmann", ("wave2", "bend"), 96)
    clips = [clip for clip in real.clips if clip.person in ("actor0", "actor4", "actor7")]
    actions = classifiers.train_action(clips, ("wave2", "bend"), Training(60, 32, noise=0.3))
    assert actions.accuracy["clips"] >= 0.75
    looks = real.looks["wave2"]
    assert len(looks) == 9
    assert all(look.motion_energy > 0.3 and look.sharpness > 2 for look in looks)


def test_classifiers_learn_in_the_light_that_the_model_knows(tmp_path: Path) -> None:
    for action, level in {"a": 100, "b": 104, "jump": 180}.items():
        for person in ("x", "y"):
            frame = np.full((64, 64, 3), level, np.uint8)
            frame[20:, 28:36] = level // 4
            (tmp_path / action).mkdir(exist_ok=True)
            strip = np.concatenate([frame] * 16, axis=1)
            Image.fromarray(strip).save(tmp_path / action / f"{person}.png")
    for light, taught in (("keep", {100, 104, 180}), ("match", {104})):
        real = quality.read_real(tmp_path, ("a", "b", "jump"), 96, light)
        assert {int(clip.frames[0, 0, 0, 0]) for clip in real.clips} == taught
        assert {int(frame[0, 0, 0]) for _, frame in real.first} == {100, 104, 180}, "as filmed"
        assert len(real.first_frames("jump")) == 4


def test_whole_clips_are_those_of_the_model(tiny: Path) -> None:
    model = mocogen.load(tiny, "cpu")
    requests = [model.clip(seed, frames=frames) for seed, frames in ((0, 5), (1, 33), (2, 2))]
    found = list(scores.whole_clips(model, requests))
    assert [clip.seed for clip, _ in found] == [0, 1, 2]
    for clip, frames in found:
        np.testing.assert_array_equal(frames, model.sample(clip.frames, clip.seed))


def test_a_sheet_shows_the_first_and_the_last_frame(tmp_path: Path) -> None:
    frames = np.concatenate([still(0, 1), still(90, 8), still(255, 1)])
    pictures.sheet(tmp_path / "sheet.png", [("a", frames), ("b", frames), ("c", frames)], shown=3)
    image = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert image.shape == (2 * 70, 2 * (92 + 3 * 64 + 6), 3)
    assert image[10, 92 + 5].tolist() == [0, 0, 0]
    assert image[10, 92 + 64 + 5].tolist() == [90] * 3
    assert image[10, 92 + 128 + 5].tolist() == [255] * 3


class TestQualityProgram:
    def test_bounds_include_their_ends(self) -> None:
        assert quality.Row("m", "o", 0.9, (0.9, 1.1)).met is True
        assert quality.Row("m", "o", 1.11, (0.9, 1.1)).met is False
        assert quality.Row("m", "o", 1.0).met is None

    def test_infinite_figures_stay_valid_json(self) -> None:
        row = quality.Row("m", "o", float("inf"), (1.0, float("inf"))).fields()
        assert row["value"] is None
        assert row["wanted"] == [1.0, None]
        json.dumps(row, allow_nan=False)

    @pytest.mark.parametrize("words", [["--frames", "28"], ["--clips", "1"], ["--long", "-1"]])
    def test_numbers_that_are_too_small_are_refused(self, words: list[str]) -> None:
        with pytest.raises(UsageError, match=f"{words[0]} {words[1]}: at least"):
            quality.read_options(["--data", ".", *words])

    def test_pairs_are_checked(self, tmp_path: Path) -> None:
        file = tmp_path / "pairs.json"
        known = (("anna", "ben"), ("hop", "spin"))
        file.write_text('[["anna", "hop"], ["ben", "spin"]]')
        assert quality.read_pairs(file, *known) == [("anna", "hop"), ("ben", "spin")]
        for text in ('[["carl", "hop"]]', '{"anna": 1}', "[3]", "nothing"):
            file.write_text(text)
            with pytest.raises(UsageError, match=r"pairs\.json"):
                quality.read_pairs(file, *known)

    def test_real_clips_are_like_themselves(self) -> None:
        """Every ratio is 1 for clips that look and move as the real ones do."""
        clips = people()
        real = quality.Real(
            clips,
            [(clip.action, clip.frames[0]) for clip in clips],
            {a: [scores.look(c.frames) for c in clips if c.action == a] for a in ACTIONS},
        )
        same = [
            quality.Sampled(scores.look(c.frames), scores.Verdict(0, 0, 1.0, False), frame)
            for c in clips
            for frame in (c.frames[0], c.frames[0][:, ::-1])
            if c.action == "lift"
        ]
        rows = {row.measure: row for row in quality.look_rows("lift", same, real)}
        assert {"motion energy", "movement", "sharpness", "steady person", "diversity"} <= set(rows)
        assert [row.value for row in rows.values()] == pytest.approx([1.0] * len(rows))
        half = [replace(s, look=replace(s.look, sharpness=s.look.sharpness / 2)) for s in same]
        rows = {row.measure: row for row in quality.look_rows("lift", half, real)}
        assert rows["sharpness"].value == pytest.approx(0.5)
        alike = [replace(s, first_frame=same[0].first_frame) for s in same]
        rows = {row.measure: row for row in quality.look_rows("lift", alike, real)}
        assert rows["diversity"].value == 0.0

    def test_what_differs_by_two_levels_is_no_movement(self) -> None:
        """The person moves, and noise on the wall is told apart from it."""
        calm, noisy = people()[0].frames, people()[0].frames.copy()
        noisy[::2] += 1
        look = scores.look(noisy)
        real = quality.Real([], [("lift", f) for f in noisy[:2]], {"lift": [look]})
        made = quality.Sampled(scores.look(calm), scores.Verdict(0, 0, 1.0, False), calm[0])
        rows = {row.measure: row for row in quality.look_rows("lift", [made, made], real)}
        assert rows["small changes"].real == pytest.approx(look.motion_energy - look.movement)
        assert rows["small changes"].value < rows["motion energy"].value < 1
        assert rows["movement"].value == pytest.approx(1.0, abs=0.05)

    def test_the_end_of_long_clips_is_held_against_their_beginning(self) -> None:
        early, late = scores.Look(2.0, 1.0, 4.0, 1.0), scores.Look(1.0, 1.0, 4.4, 3.0)
        right, wrong = scores.Verdict(1, 0, 0.8, False), scores.Verdict(0, 0, 0.4, False)
        frame = still(0, 1)[0]
        both = [
            quality.Sampled(early, right, frame, late, right),
            quality.Sampled(early, right, frame, late, wrong),
            quality.Sampled(scores.Look(9.0, 9.0, 9.0, 9.0), wrong, frame),  # no long one
        ]
        found = {row.measure: row.value for row in quality.long_rows("a", 1, both)}
        assert found == pytest.approx(
            {
                "long: motion energy": 0.5,
                "long: sharpness": 1.1,
                "long: steady person": 3.0,
                "long: action right": 0.5,
                "long: one person": 0.75,
            }
        )
        assert quality.long_rows("a", 1, both[2:]) == []

    def test_the_last_frames_of_a_long_clip_are_its_end(
        self, tiny: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[np.ndarray] = []

        def looked(frames: np.ndarray, sharp: object = None) -> scores.Look:
            seen.append(frames)
            return scores.Look(1.0, 1.0, 1.0, 1.0)

        monkeypatch.setattr(measures, "reduce", lambda frames, _: frames)
        monkeypatch.setattr(scores, "look", looked)
        monkeypatch.setattr(scores, "judge", lambda *_: scores.Verdict(0, 0, 1.0, False))
        model = mocogen.load(tiny, "cpu")
        options = Namespace(frames=3, clips=2, long=1)
        action = model.spec.actions[0]
        found = quality.sample_action(model, action, options, (None, None))  # type: ignore[arg-type]
        whole = model.sample(12, 0, action=action)
        np.testing.assert_array_equal(seen[0], whole[:3])
        np.testing.assert_array_equal(seen[1], whole[9:])
        np.testing.assert_array_equal(seen[2], model.sample(3, 1, action=action))
        assert [one.late_look is None for one in found] == [False, True]

    def test_verdicts_are_counted(self) -> None:
        look, frame = scores.Look(1.0, 1.0, 1.0, 1.0), still(0, 1)[0]

        def clips(*verdicts: tuple[int, int, float]) -> list[quality.Sampled]:
            return [quality.Sampled(look, scores.Verdict(*v, False), frame) for v in verdicts]

        sampled = {
            "lift": clips((0, 2, 1.0), (0, 1, 0.5), (1, 0, 1.0), (0, 0, 1.0)),
            "slide": clips((1, 2, 1.0), (1, 0, 1.0), (1, 0, 0.5), (0, 0, 1.0)),
        }
        judges = (
            classifiers.ActionClassifier(
                [], ACTIONS, {"clips": 1.0, "clips lift": 1.0, "clips slide": 1.0}
            ),
            classifiers.PersonClassifier([], ("p0", "p1", "p2"), {"one person": 1.0}),
        )
        found = {(row.measure, row.of): row.value for row in quality.verdict_rows(sampled, judges)}
        assert found == {
            ("action right", "lift"): 0.75,
            ("action right", "slide"): 0.75,
            ("action right", "all"): 0.75,
            ("one person", "lift"): 0.875,
            ("one person", "slide"): 0.875,
            ("one person", "all"): 0.875,
            ("one content, one person", "all"): 0.75,
        }

    def test_left_out_pairs_are_held_against_what_is_due_and_what_is_theirs(self) -> None:
        table = np.array([[4, 6], [8, 2], [6, 10]])  # 18 clips an action, 3 people: 6 are due
        names = (("p0", "p1", "p2"), ACTIONS)
        pairs = [("p0", "lift"), ("p1", "slide")]
        first, second = quality.left_out_rows(pairs, *names, table)
        assert (first["clips"], second["clips"]) == (4, 2)
        assert (first["per 100 due"], second["per 100 due"]) == pytest.approx((200 / 3, 100 / 3))
        assert first["per 100 of theirs"] == pytest.approx(200 / 3)
        assert second["per 100 of theirs"] == 25.0
        both = quality.left_out_rows([("p0", "lift"), ("p0", "slide")], *names, table)
        assert [pair["per 100 of theirs"] for pair in both] == [None, None]

    def test_small_checkpoints_are_refused(self, tiny: Path, tmp_path: Path) -> None:
        options = quality.read_options(["--data", str(tmp_path), "--checkpoint", str(tiny)])
        with pytest.raises(MocogenError, match="64x64"):
            quality.measure(options)

    def test_the_whole_program(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        for clip in people():
            folder = tmp_path / "data" / clip.action
            folder.mkdir(parents=True, exist_ok=True)
            strip = np.concatenate(list(clip.frames), axis=1)
            Image.fromarray(strip).save(folder / f"{clip.person}.png")
        checkpoint = untrained(tmp_path / "model.safetensors", ACTIONS)
        pairs = tmp_path / "pairs.json"
        pairs.write_text('[["p0", "lift"]]')
        for name in ("train_action", "train_person"):
            train = getattr(classifiers, name)
            monkeypatch.setattr(
                classifiers, name, lambda *w, train=train: train(*w, Training(2, 8))
            )
        words = (
            f"--checkpoint {checkpoint} --data {tmp_path / 'data'} --clips 3 --frames 32 --long 2 "
            f"--people 5 --left-out {pairs} --json {tmp_path / 'r.json'} "
            f"--sheet {tmp_path / 's.png'}"
        )
        monkeypatch.setattr("sys.argv", ["quality", *words.split()])
        assert quality.main() == 0

        result = json.loads((tmp_path / "r.json").read_text())
        assert np.sum(result["coverage"]) == 6
        assert sum(result["people in seeds"]) == sum(result["mirrorings in seeds"]) == 5
        assert result["left out"][0]["person"] == "p0"
        measured = {row["measure"] for row in result["measures"]}
        assert {"motion energy", "long: sharpness", "one person", "people seen"} <= measured
        assert (tmp_path / "s.png").is_file()
        printed = capsys.readouterr()
        assert "3 clips an action of 32 frames" in printed.out
        assert "training the classifiers" in printed.err


class TestContentDistanceProgram:
    def test_real_shapes_have_none_and_all_are_seen(self) -> None:
        content = distance_program.measure(distance_program.real_clips(12, 16, 64))
        assert content.distance == content.worst == 0.0
        assert content.shown == content.direction_right == 1.0
        assert content.motion_energy > 1

    def test_a_wrong_direction_is_seen(self) -> None:
        clip = shapes.make(0, 0, 16)
        content = distance_program.measure([("vertical", clip.frames(64))])
        assert content.direction_right == 0.0

    def test_empty_clips_are_told(self) -> None:
        with pytest.raises(MocogenError, match="no clip shows a shape"):
            distance_program.measure([("vertical", still(0))])

    def test_checkpoints_of_something_else_are_refused(self, tiny: Path) -> None:
        options = distance_program.read_options(["--checkpoint", str(tiny)])
        with pytest.raises(MocogenError, match="not made for shapes"):
            distance_program.run(options)

    def test_the_whole_program(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        checkpoint = untrained(tmp_path / "model.safetensors", shapes.ACTIONS)
        words = (
            f"--checkpoint {checkpoint} --clips 4 --json {tmp_path / 'r.json'} "
            f"--sheet {tmp_path / 's.png'}"
        )
        monkeypatch.setattr("sys.argv", ["content_distance", *words.split()])
        assert distance_program.main() == 0
        result = json.loads((tmp_path / "r.json").read_text())
        assert result["real"]["distance"] == 0.0
        assert result["generated"]["distance"] > 0.0
        assert (tmp_path / "s.png").is_file()
        assert "MoCoGAN 1.79" in capsys.readouterr().out


def untrained(path: Path, actions: tuple[str, ...]) -> Path:
    """A small 64x64 checkpoint of random weights with visible contrast."""
    from mocogen import checkpoint
    from mocogen.spec import ModelSpec

    spec = ModelSpec(
        content=5, noise=3, hidden=8, motion=4, actions=actions, width=4, image_size=64
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        motion, generator = checkpoint.build(spec)
        for layer in generator.main:
            if isinstance(layer, torch.nn.ConvTranspose2d):
                layer.weight.data *= 8
    checkpoint.save(path, spec, motion, generator)
    return path
