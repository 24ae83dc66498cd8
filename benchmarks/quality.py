"""How a checkpoint's clips compare with the real ones.

    python -m benchmarks.quality --checkpoint weizmann --data CLIPS

All seeds are consecutive from 0, and none is left out. What is measured:

Motion energy, movement, sharpness, steady person (unsteadiness), diversity: as defined in
``mocogen.evaluation.measures``; the mean over the clips of an action, over that of the real
clips of the action (real and mirrored ones for diversity). Frames are reduced to 64x64 first
(mean of the area), but for sharpness, for which real frames are enlarged (bicubic) to the
model's size. Small changes: what motion energy has and movement leaves out, likewise over that
of the real clips.

Action right: the share of clips in which the action classifier names the action asked for.
One person: the mean share of a clip's frames in which the person classifier names the clip's
most frequent person. One content, one person: the share of seeds whose clips show one and the
same most frequent person in all actions, since a seed is one content. Both classifiers
(``mocogen.evaluation.classifiers``) know real clips alone, in the light in which the model was
shown them (its ``data.light``): else the person classifier goes by the light on the wall.
"real" is their own figure on real clips that they did not know (in one person: on thirds of
clips).

Coverage: clips by person and action as the classifiers see them. With 64 clips an action
chance alone breaks the bound more often than not, so judge it with --clips 256 --long 64.

People: the persons and mirrorings of short clips of more seeds, each with its own action.

Long clips: one unroll of four times the frames; the last quarter's figures over those of the
first quarter.

Left-out pairs (--left-out): for a checkpoint trained without some (person, action) pairs, the
clips that the classifiers put in each, for every 100 that an even model would make. How many
contents of the seeds are a person's is chance; so beside it stands the same for every 100
clips of this person in an action that was shown (the mean over those). The file is a JSON list
of such pairs: [["actor0", "bend"], ...].
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mocogen.errors import MocogenError, UsageError

if TYPE_CHECKING:
    from mocogen.evaluation.classifiers import ActionClassifier, PersonClassifier, RealClip
    from mocogen.evaluation.measures import Frames
    from mocogen.evaluation.scores import Look, Verdict
    from mocogen.synthesis import Model

LONG = 4  # a long clip has this many times the frames of a short one
SHORT = 16  # frames from which the person of a seed is told
SHEET = 32

ENERGY = (0.85, 1.15)
SHARPNESS = (0.9, 1.1)
STEADY = (0.0, 1.5)
DIVERSE = (0.9, math.inf)
UNEVEN = (1.0, 3.0)
LASTING = (0.9, 1.1)
ACTION_RIGHT = (0.98, 1.0)
ONE_PERSON = (0.97, 1.0)


@dataclass(frozen=True)
class Row:
    """One line of the result. ``wanted`` are the bounds, or None for a figure that informs;
    ``real`` is the figure of the real clips, in its own unit."""

    measure: str
    of: str
    value: float
    wanted: tuple[float, float] | None = None
    real: float | None = None

    @property
    def met(self) -> bool | None:
        return None if self.wanted is None else self.wanted[0] <= self.value <= self.wanted[1]

    def fields(self) -> dict[str, Any]:
        return {
            "measure": self.measure,
            "of": self.of,
            "value": _finite(self.value),
            "wanted": [_finite(bound) for bound in self.wanted] if self.wanted else None,
            "real": self.real,
            "met": self.met,
        }


@dataclass(frozen=True)
class Sampled:
    """What is kept of one clip: its figures, its first frame, and the figures of its end."""

    look: Look
    verdict: Verdict
    first_frame: Frames
    late_look: Look | None = None
    late_verdict: Verdict | None = None


@dataclass(frozen=True)
class Real:
    """The real clips at 64x64.

    Attributes:
        clips: what the classifiers learn from, in the light in which the model knows them.
        first: the first frame of every clip and its action, as filmed.
        looks: the clips' figures, as filmed, by action.
    """

    clips: list[RealClip]
    first: list[tuple[str, Frames]]
    looks: dict[str, list[Look]]

    def first_frames(self, action: str | None = None) -> Frames:
        """Of the clips of an action, or of all, and of their mirror images."""
        found = [frame for name, frame in self.first if action in (None, name)]
        return np.stack([*found, *(frame[:, ::-1] for frame in found)])


def read_real(folder: Path, actions: tuple[str, ...], size: int, light: str = "keep") -> Real:
    """Read and measure the real clips.

    Args:
        size: of the model's frames.
        light: what the model was trained with (``data.light``).
    """
    from mocogen.evaluation import scores
    from mocogen.evaluation.classifiers import RealClip
    from mocogen.training.data import load_clips

    small = load_clips(folder, scores.SIZE, actions)
    as_filmed = light == "keep"
    taught = small if as_filmed else load_clips(folder, scores.SIZE, actions, light=light)
    large = load_clips(folder, size, actions)
    clips: list[RealClip] = []
    first: list[tuple[str, Frames]] = []
    looks: dict[str, list[Look]] = {action: [] for action in actions}
    for clip in small.clips:
        where = slice(clip.start, clip.start + clip.length)
        clips.append(RealClip(taught.frames[where], clip.action, clip.group))
        first.append((clip.action, small.frames[clip.start]))
        looks[clip.action].append(scores.look(small.frames[where], large.frames[where]))
    return Real(clips, first, looks)


def sample_action(
    model: Model,
    action: str,
    options: argparse.Namespace,
    classifiers: tuple[ActionClassifier, PersonClassifier],
) -> list[Sampled]:
    """Sample and measure the clips of one action, seeds 0, 1, ..."""
    from mocogen.evaluation import scores
    from mocogen.evaluation.measures import reduce

    def figures(frames: Frames) -> tuple[Look, Verdict, Frames]:
        small = reduce(frames, scores.SIZE)
        return scores.look(small, frames), scores.judge(small, *classifiers), small[0]

    count = options.frames
    requests = [
        model.clip(seed, frames=count * LONG if seed < options.long else count, action=action)
        for seed in range(options.clips)
    ]
    results: list[Sampled] = []
    for _, frames in scores.whole_clips(model, requests):
        look, verdict, first = figures(frames[:count])
        late = figures(frames[-count:])[:2] if len(frames) > count else (None, None)
        results.append(Sampled(look, verdict, first, *late))
    return results


def sample_people(
    model: Model, seeds: int, people: PersonClassifier
) -> tuple[Frames, np.ndarray, np.ndarray]:
    """First frames of many seeds, each with its own action; counts by person and by mirroring."""
    from mocogen.evaluation import scores
    from mocogen.evaluation.measures import coverage, reduce

    first: list[Frames] = []
    seen: list[tuple[int, int]] = []
    requests = [model.clip(seed, frames=SHORT) for seed in range(seeds)]
    for _, frames in scores.whole_clips(model, requests):
        small = reduce(frames, scores.SIZE)
        person, _, mirrored = scores.who(small, people)
        first.append(small[0])
        seen.append((person, int(mirrored)))
    table = coverage(seen, len(people.people), 2)
    return np.stack(first), table.sum(axis=1), table.sum(axis=0)


def mean(looks: Sequence[Look], name: str) -> float:
    return float(np.mean([getattr(one, name) for one in looks]))


def look_rows(action: str, sampled: list[Sampled], real: Real) -> list[Row]:
    """Motion energy, movement, sharpness, steadiness and diversity of one action."""
    from mocogen.evaluation.measures import diversity

    rows: list[Row] = []
    for label, name, wanted in (
        ("motion energy", "motion_energy", ENERGY),
        ("movement", "movement", None),
        ("sharpness", "sharpness", SHARPNESS),
        ("steady person", "unsteadiness", STEADY),
    ):
        reference = mean(real.looks[action], name)
        value = mean([one.look for one in sampled], name) / reference
        rows.append(Row(label, action, value, wanted, reference))
    made, filmed = (
        mean(looks, "motion_energy") - mean(looks, "movement")
        for looks in ([one.look for one in sampled], real.looks[action])
    )
    if filmed > 0:
        rows.append(Row("small changes", action, made / filmed, None, filmed))
    reference = diversity(real.first_frames(action))
    value = diversity(np.stack([one.first_frame for one in sampled])) / reference
    return [*rows, Row("diversity", action, value, DIVERSE, reference)]


def long_rows(action: str, index: int, sampled: list[Sampled]) -> list[Row]:
    """The end of long clips over their beginning."""
    early = [(one.look, one.verdict) for one in sampled if one.late_look]
    late = [(s.late_look, s.late_verdict) for s in sampled if s.late_look and s.late_verdict]
    if not late:
        return []
    rows: list[Row] = []
    for label, name in (
        ("long: motion energy", "motion_energy"),
        ("long: sharpness", "sharpness"),
        ("long: steady person", "unsteadiness"),
    ):
        value = mean([x for x, _ in late], name) / mean([x for x, _ in early], name)
        rows.append(Row(label, action, value, LASTING))
    shares: tuple[tuple[str, Callable[[Verdict], float]], ...] = (
        ("long: action right", lambda v: float(v.action == index)),
        ("long: one person", lambda v: v.one_person),
    )
    for label, share in shares:
        before, after = (float(np.mean([share(v) for _, v in pairs])) for pairs in (early, late))
        rows.append(Row(label, action, after / before if before else math.inf, LASTING))
    return rows


def verdict_rows(
    sampled: dict[str, list[Sampled]], classifiers: tuple[ActionClassifier, PersonClassifier]
) -> list[Row]:
    """Whether the clips can be recognised, by action and in all."""
    actions, people = classifiers
    right: dict[str, list[bool]] = {}
    one: dict[str, list[float]] = {}
    for index, (action, clips) in enumerate(sampled.items()):
        right[action] = [clip.verdict.action == index for clip in clips]
        one[action] = [clip.verdict.one_person for clip in clips]
    rows = [
        Row("action right", a, float(np.mean(v)), None, actions.accuracy[f"clips {a}"])
        for a, v in right.items()
    ]
    value = float(np.mean([v for values in right.values() for v in values]))
    rows.append(Row("action right", "all", value, ACTION_RIGHT, actions.accuracy["clips"]))
    rows += [Row("one person", a, float(np.mean(v))) for a, v in one.items()]
    value = float(np.mean([v for values in one.values() for v in values]))
    rows.append(Row("one person", "all", value, ONE_PERSON, people.accuracy["one person"]))
    together = zip(*sampled.values(), strict=True)
    same = [len({clip.verdict.person for clip in clips}) == 1 for clips in together]
    return [*rows, Row("one content, one person", "all", float(np.mean(same)))]


def left_out_rows(
    pairs: Sequence[tuple[str, str]],
    people: Sequence[str],
    actions: Sequence[str],
    table: np.ndarray,
) -> list[dict[str, Any]]:
    """What became of pairs that were not trained on.

    Args:
        table: clips by person and action, as the classifiers see them.
    """
    from mocogen.evaluation.measures import per_hundred_due

    clips = int(table.sum()) // len(actions)
    found: list[dict[str, Any]] = []
    for person, action in pairs:
        counts = dict(zip(actions, table[people.index(person)].tolist(), strict=True))
        shown = [n for name, n in counts.items() if (person, name) not in pairs]
        theirs = float(np.mean(shown)) if shown else 0.0
        found.append(
            {
                "person": person,
                "action": action,
                "clips": counts[action],
                "per 100 due": per_hundred_due(counts[action], clips, len(people)),
                "per 100 of theirs": 100 * counts[action] / theirs if theirs else None,
            }
        )
    return found


def balance_rows(
    first: Frames, by_person: np.ndarray, by_mirroring: np.ndarray, real: Real
) -> list[Row]:
    """Diversity and balance of many seeds."""
    from mocogen.evaluation.measures import diversity, imbalance

    seeds = f"{len(first)} seeds"
    reference = diversity(real.first_frames())
    count = len(by_person)
    return [
        Row("diversity", seeds, diversity(first) / reference, DIVERSE, reference),
        Row("people seen", seeds, float((by_person > 0).sum()), (count, count), count),
        Row("people, most over fewest", seeds, imbalance(by_person), UNEVEN),
        Row("mirrorings, most over fewest", seeds, imbalance(by_mirroring), UNEVEN),
    ]


def read_pairs(
    path: Path, people: tuple[str, ...], actions: tuple[str, ...]
) -> list[tuple[str, str]]:
    """The (person, action) pairs of a JSON file.

    Raises:
        UsageError: the file is no list of pairs of known people and actions.
    """
    try:
        pairs = [(person, action) for person, action in json.loads(path.read_text("utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f'cannot read {path}: {error}; a JSON list like [["actor0", "bend"]] is wanted'
        ) from None
    for person, action in pairs:
        if person not in people or action not in actions:
            raise UsageError(
                f"{path} names {person}, {action}: the people are {', '.join(people)}, "
                f"the actions {', '.join(actions)}"
            )
    return pairs


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Do everything that the options ask for; the result is what ``--json`` writes."""
    import torch

    import mocogen
    from benchmarks import machine
    from mocogen.evaluation import classifiers as learners
    from mocogen.evaluation import scores
    from mocogen.evaluation.measures import (
        chance_of_balance,
        coverage,
        imbalance,
    )

    started = time.perf_counter()
    if options.threads:
        torch.set_num_threads(options.threads)
    model = mocogen.load(options.checkpoint, options.device)
    actions = model.spec.actions
    if len(actions) < 2 or model.spec.image_size < scores.SIZE:
        raise MocogenError(
            f"checkpoint {model.spec.name} cannot be measured: two actions and frames of "
            f"{scores.SIZE}x{scores.SIZE} are needed"
        )
    say = _clock(started)
    light = model.spec.training.get("config", {}).get("data", {}).get("light", "keep")
    real = read_real(options.data, actions, model.spec.image_size, light)
    people = tuple(sorted({clip.person for clip in real.clips}))
    pairs = read_pairs(options.left_out, people, actions) if options.left_out else []
    say(f"{len(real.clips)} real clips of {len(people)} people; training the classifiers")
    judges = learners.trained(real.clips, actions, options.cache)

    sampled: dict[str, list[Sampled]] = {}
    for action in actions:
        say(f"{options.clips} clips of {action}")
        sampled[action] = sample_action(model, action, options, judges)
    say(f"{options.people} seeds, each with its own action")
    first, by_person, by_mirroring = sample_people(model, options.people, judges[1])

    rows: list[Row] = []
    for action, clips in sampled.items():
        rows += look_rows(action, clips, real)
    rows += balance_rows(first, by_person, by_mirroring, real)
    for index, (action, clips) in enumerate(sampled.items()):
        rows += long_rows(action, index, clips)
    verdicts = [one.verdict for clips in sampled.values() for one in clips]
    table = coverage([(v.person, v.action) for v in verdicts], len(people), len(actions))
    rows += [
        Row("coverage, smallest cell", "all", float(table.min()), (1, math.inf)),
        Row("coverage, most over fewest", "all", imbalance(table), UNEVEN),
    ]
    rows += verdict_rows(sampled, judges)
    left_out = left_out_rows(pairs, people, actions, table)
    if options.sheet:
        write_sheet(model, options)
    return {
        "checkpoint": model.spec.name,
        "sha256": model.sha256,
        "clips an action": options.clips,
        "frames": options.frames,
        "long clips an action": min(options.long, options.clips),
        "measures": rows,
        "people": list(people),
        "actions": list(actions),
        "coverage": table,
        # The same seeds serve every action: its columns are neither independent nor the same.
        "chance of an even coverage": [
            chance_of_balance(options.clips, len(people), UNEVEN[1], columns)
            for columns in (len(actions), 1)
        ],
        "people in seeds": by_person,
        "mirrorings in seeds": by_mirroring,
        "left out": left_out,
        "classifiers on unseen real clips": {
            "action (person unseen)": judges[0].accuracy,
            "person (time unseen)": judges[1].accuracy,
        },
        "machine": machine.describe(str(model.backend.device)),
        "seconds": round(time.perf_counter() - started, 1),
    }


def write_sheet(model: Model, options: argparse.Namespace) -> None:
    """Filmstrips of the first seeds, each with the action that it picks itself."""
    from mocogen.evaluation import pictures, scores

    strips: list[tuple[str, Frames]] = []
    requests = [model.clip(seed, frames=options.frames) for seed in range(SHEET)]
    for clip, frames in scores.whole_clips(model, requests):
        action = model.spec.actions[clip.action or 0]
        strips.append((f"seed {clip.seed}\n{action}", frames))
    pictures.sheet(options.sheet, strips)


def show(result: dict[str, Any]) -> None:
    """Print the result for people."""
    print(
        f"{result['checkpoint']} ({(result['sha256'] or '')[:12]}): "
        f"{result['clips an action']} clips an action of {result['frames']} frames, "
        f"seeds from 0, none picked"
    )
    print(f"\n{'measure':30} {'of':10} {'value':>7}  {'wanted':13} {'real':>7}  met")
    for row in result["measures"]:
        real = f"{row.real:7.3g}" if row.real is not None else " " * 7
        met = {None: "", True: "yes", False: "NO"}[row.met]
        wanted = _range(row.wanted)
        print(f"{row.measure:30} {row.of:10} {row.value:7.3f}  {wanted:13} {real}  {met}".rstrip())
    print("\nclips by person and action, as the classifiers see them")
    print(" " * 10 + "".join(f"{action:>8}" for action in result["actions"]))
    for person, counts in zip(result["people"], result["coverage"], strict=True):
        print(f"{person:10}" + "".join(f"{count:8d}" for count in counts))
    low, high = result["chance of an even coverage"]
    print(
        f"(with so many clips, a perfectly even model stays within {UNEVEN[1]:g} to 1 in "
        f"{low:.0%} to {high:.0%} of the cases)"
    )
    total = int(result["people in seeds"].sum())
    counts = zip(result["people"], result["people in seeds"], strict=True)
    print(f"\npeople in {total} seeds: " + ", ".join(f"{name} {count}" for name, count in counts))
    plain, mirrored = result["mirrorings in seeds"]
    print(f"as filmed {plain}, mirrored {mirrored}")
    if result["left out"]:
        print("\nleft-out pairs: clips for every 100 due, and for every 100 of theirs elsewhere")
        for pair in result["left out"]:
            print(
                f"{pair['person']:10} {pair['action']:8} {_whole(pair['per 100 due'])} "
                f"{_whole(pair['per 100 of theirs'])}  ({pair['clips']} clips)"
            )
        for key in ("per 100 due", "per 100 of theirs"):
            shares = [pair[key] for pair in result["left out"] if pair[key] is not None]
            if shares:
                print(f"{key}: smallest {min(shares):.0f}, mean {np.mean(shares):.0f}")
    print("\nthe classifiers on real clips that they did not know")
    for name, accuracy in result["classifiers on unseen real clips"].items():
        print(f"{name}: " + ", ".join(f"{key} {value:.3f}" for key, value in accuracy.items()))
    described = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    print(f"\n{described}; {result['seconds']:.0f} s")


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Write the result as JSON; what is infinite becomes null."""
    from mocogen.files import atomic_path

    fields = {key: v.tolist() if isinstance(v, np.ndarray) else v for key, v in result.items()}
    fields["measures"] = [row.fields() for row in result["measures"]]
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")


def _whole(value: float | None) -> str:
    return " " * 6 if value is None else f"{value:6.0f}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _range(wanted: tuple[float, float] | None) -> str:
    if wanted is None:
        return ""
    low, high = wanted
    if low == high:
        return f"{low:g}"
    if math.isinf(high):
        return f">= {low:g}"
    return f"<= {high:g}" if low == 0 else f"{low:g} to {high:g}"


def _clock(started: float) -> Callable[[str], None]:
    """Say on standard error what is being done, and when."""
    return lambda text: print(f"{time.perf_counter() - started:5.0f} s  {text}", file=sys.stderr)


def read_options(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read and check the command line.

    Raises:
        UsageError: a number is too small.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality",
        description=(__doc__ or "").partition("\n")[0],
    )
    add = parser.add_argument
    add("--checkpoint", default="weizmann", help="a shipped checkpoint's name or a file")
    add("--data", type=Path, required=True, help="folder of the real clips, ACTION/PERSON.png")
    add("--clips", type=int, default=64, help="clips an action (64)")
    add("--frames", type=int, default=64, help="frames of a clip (64)")
    add("--long", type=int, help=f"clips an action that are unrolled {LONG} times as far (all)")
    add("--people", type=int, default=256, help="seeds in which people are counted (256)")
    add("--quick", action="store_true", help="8 clips an action, 32 seeds: while training")
    add("--left-out", type=Path, help="JSON list of (person, action) pairs not trained on")
    add("--json", type=Path, help="write everything to this file")
    add("--sheet", type=Path, help=f"write filmstrips of seeds 0 to {SHEET - 1} to this picture")
    add("--cache", type=Path, help="folder that keeps the trained classifiers")
    add("--device", default="cpu", help="where clips are sampled: cpu, cuda, mps, auto")
    add("--threads", type=int, default=0, help="processor threads (as torch chooses)")
    options = parser.parse_args(words)
    if options.quick:
        options.clips, options.people = 8, 32
    if options.long is None:
        options.long = options.clips
    from mocogen.evaluation.classifiers import SPAN

    for name, least in (("clips", 2), ("frames", SPAN), ("long", 0), ("people", 2), ("threads", 0)):
        if getattr(options, name) < least:
            raise UsageError(f"--{name} {getattr(options, name)}: at least {least}")
    return options


def main() -> int:
    try:
        options = read_options()
        result = measure(options)
        if options.json:
            write_json(options.json, result)
    except MocogenError as error:
        print(f"quality: {error}", file=sys.stderr)
        return error.exit_code
    show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
