"""Who is that, and what do they do: two small classifiers, trained on real clips alone.

Both are cross-validated ensembles. Each of their networks was trained without a part of the
real clips; its answers on that part are the accuracy that the ensemble reports, and its vote
is one of those that judge other clips. So every network that judges has been tested on
clips that it did not know; the figure is that of single networks, not of their vote.

- The action classifier leaves out one person at a time. It sees eight frames of a clip, 32x32,
  grey and normalised frame by frame, so neither clothing nor light tells it anything.
- The person classifier leaves out a third of every clip at a time (with a gap of
  ``GAP`` frames on both sides). It sees single frames in colour, 32x32, and names the person
  and whether the frame is mirrored. It knows a person in the clothes and poses of the
  clips: its accuracy on whole actions that it has not seen is measured too, and is lower.

Training is repeatable for a seed on one machine, runs on the CPU, and leaves the global random
state alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..errors import MocogenError
from ..files import atomic_path
from .measures import Frames, reduce

VIEW = 8
"""Frames of a clip that the action classifier sees at once."""

STRIDE = 4
"""Frames from one of these to the next, and from one view of a clip to the next."""

SPAN = (VIEW - 1) * STRIDE + 1
"""Frames that a view spans; a clip must have as many."""

SIZE = 32
GAP = 4
PARTS = 3

_VERSION = 1  # part of the cache's key: raise it with every change to the training below


@dataclass(frozen=True)
class RealClip:
    """A clip to learn from: uint8 frames of (T, h, w, 3), what happens, and who it is."""

    frames: Frames
    action: str
    person: str


@dataclass(frozen=True)
class Training:
    """How one network is trained: Adam, its rate falling linearly to 0.

    ``scale``, ``shift`` and ``noise`` bound the random changes to a picture: its size (as an
    exponent), its place (in half widths) and added noise (in units of its values).
    """

    steps: int
    batch: int = 64
    rate: float = 2e-3
    scale: float = 0.1
    shift: float = 0.1
    noise: float = 0.1


ACTION_TRAINING = Training(steps=250, scale=0.18, shift=0.15, noise=0.3)
PERSON_TRAINING = Training(steps=300, batch=96)


class Network(nn.Module):
    """Three convolutions and a linear layer: (n, channels, 32, 32) to (n, classes)."""

    def __init__(self, channels: int, classes: int, width: int = 24) -> None:
        super().__init__()
        sizes = (channels, width, 2 * width, 3 * width)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [
                nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ]
        features = sizes[-1] * (SIZE // 8) ** 2
        self.main = nn.Sequential(
            *layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(features, classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.main(images)


class ActionClassifier:
    """Names the action of a clip.

    Attributes:
        actions: the names, in the order of the probabilities.
        accuracy: what was measured on people that a network had not seen: "clips" and
            "views", shares of right answers in all, and "clips ACTION" for each action.
    """

    def __init__(
        self, networks: Sequence[Network], actions: tuple[str, ...], accuracy: dict[str, float]
    ) -> None:
        self.networks = list(networks)
        self.actions = actions
        self.accuracy = accuracy

    def probabilities(self, frames: Frames) -> NDArray[np.float32]:
        """Of every action in every view of a clip (one each ``STRIDE`` frames): (views, actions).

        Raises:
            MocogenError: the clip is shorter than ``SPAN``.
        """
        return _vote(self.networks, _views(_grey(frames)))

    def judge(self, frames: Frames) -> int:
        """The action of a whole clip: the largest mean log probability over all views."""
        return _verdict(self.probabilities(frames))


class PersonClassifier:
    """Names the person in a frame.

    Attributes:
        people: the names, in the order of the probabilities; mirrored ones follow in the
            same order.
        accuracy: on times that a network had not seen: "frames" (person right), "groups"
            (person and mirroring right), "one person" (mean share of the most frequent
            person in a third of a clip's frames); and "frames of unseen ACTION", from networks that
            never saw this action.
    """

    def __init__(
        self, networks: Sequence[Network], people: tuple[str, ...], accuracy: dict[str, float]
    ) -> None:
        self.networks = list(networks)
        self.people = people
        self.accuracy = accuracy

    def probabilities(self, frames: Frames) -> NDArray[np.float32]:
        """Of every person, and of every mirrored person, in every frame: (T, 2 * people)."""
        return _vote(self.networks, _colour(frames))


def train_action(
    clips: Sequence[RealClip], actions: tuple[str, ...], training: Training = ACTION_TRAINING
) -> ActionClassifier:
    """Train one network for every person, without that person, and test it on them.

    Clips are also mirrored, in training and in the test.

    Raises:
        MocogenError: fewer than two people, or a clip is too short.
    """
    people = _people(clips)
    inputs = [_grey(clip.frames) for clip in clips]
    labels = [actions.index(clip.action) for clip in clips]
    networks: list[Network] = []
    tested: list[tuple[int, bool, float]] = []
    for seed, person in enumerate(people):
        seen = [k for k, clip in enumerate(clips) if clip.person != person]

        def batch(draw: torch.Generator, seen: list[int] = seen) -> tuple[Tensor, Tensor]:
            chosen = _choose(seen, training.batch, draw)
            views = [_view(inputs[k], draw) for k in chosen]
            images = _normalised(_moved(_flipped(torch.stack(views), draw)[0], training, draw))
            return _noisy(images, training, draw), torch.tensor([labels[k] for k in chosen])

        network = _fit(VIEW, len(actions), batch, training, seed)
        networks.append(network)
        for k in set(range(len(clips))) - set(seen):
            for pictures in (inputs[k], inputs[k].flip(-1)):
                odds = _vote([network], _views(pictures))
                right = float((odds.argmax(1) == labels[k]).mean())
                tested.append((labels[k], _verdict(odds) == labels[k], right))
    accuracy = {
        "clips": float(np.mean([right for _, right, _ in tested])),
        "views": float(np.mean([share for *_, share in tested])),
    }
    for label, name in enumerate(actions):
        accuracy[f"clips {name}"] = float(np.mean([ok for k, ok, _ in tested if k == label]))
    return ActionClassifier(networks, actions, accuracy)


def train_person(
    clips: Sequence[RealClip], actions: tuple[str, ...], training: Training = PERSON_TRAINING
) -> PersonClassifier:
    """Train one network for every third of the clips' frames, without it, and test it there.

    Raises:
        MocogenError: fewer than two people.
    """
    people = _people(clips)
    inputs = [_colour(clip.frames) for clip in clips]
    labels = [people.index(clip.person) for clip in clips]

    def fit(pieces: list[tuple[Tensor, int]], seed: int) -> Network:
        def batch(draw: torch.Generator) -> tuple[Tensor, Tensor]:
            chosen = _choose(range(len(pieces)), training.batch, draw)
            frames = [pieces[k][0][_below(len(pieces[k][0]), draw)] for k in chosen]
            images, mirrored = _flipped(torch.stack(frames), draw)
            groups = torch.tensor([pieces[k][1] for k in chosen]) + len(people) * mirrored
            images = _moved(images, training, draw)
            # Exposure and white balance differ a little from frame to frame.
            images = images + 0.05 * torch.randn(len(images), 3, 1, 1, generator=draw)
            return _noisy(images, training, draw), groups

        return _fit(3, 2 * len(people), batch, training, seed)

    networks: list[Network] = []
    shares: list[tuple[float, float, float]] = []
    for part in range(PARTS):
        pieces: list[tuple[Tensor, int]] = []
        held_out: list[tuple[Tensor, int]] = []
        for pictures, label in zip(inputs, labels, strict=True):
            first, last = (len(pictures) * k // PARTS for k in (part, part + 1))
            held_out.append((pictures[first:last], label))
            rest = (pictures[: max(first - GAP, 0)], pictures[last + GAP :])
            pieces += [(piece, label) for piece in rest if len(piece)]
        network = fit(pieces, part)
        networks.append(network)
        shares += [_test(network, pictures, label, people) for pictures, label in held_out]
    names = ("frames", "groups", "one person")
    accuracy = dict(zip(names, np.mean(shares, axis=0).tolist(), strict=True))
    for seed, action in enumerate(actions):
        known = [clip.action != action for clip in clips]
        if len(actions) < 2 or not any(known):
            continue
        pairs = list(zip(inputs, labels, strict=True))
        network = fit([pair for pair, seen in zip(pairs, known, strict=True) if seen], seed)
        unseen = [_test(network, *p, people)[0] for p, k in zip(pairs, known, strict=True) if not k]
        accuracy[f"frames of unseen {action}"] = float(np.mean(unseen))
    return PersonClassifier(networks, people, accuracy)


def trained(
    clips: Sequence[RealClip], actions: tuple[str, ...], cache: Path | None = None
) -> tuple[ActionClassifier, PersonClassifier]:
    """Both classifiers, trained now or read from ``cache``, a folder of the caller's.

    What was trained on other clips, or with other settings, is not read.
    """
    people = _people(clips)
    if cache is None:
        return train_action(clips, actions), train_person(clips, actions)
    key = _key(clips, actions)
    path = cache / f"classifiers-{key[:16]}.safetensors"
    if path.is_file():
        found = _read(path, actions, people)
        if found is not None:
            return found
    action, person = train_action(clips, actions), train_person(clips, actions)
    _write(path, action, person)
    return action, person


def mirrored_together(odds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Odds of (T, 2 * people) as those of the people, mirrored or not: (T, people)."""
    half = odds.shape[1] // 2
    return odds[:, :half] + odds[:, half:]


def _people(clips: Sequence[RealClip]) -> tuple[str, ...]:
    people = tuple(sorted({clip.person for clip in clips}))
    if len(people) < 2:
        raise MocogenError("the real clips show fewer than two people: nobody can be left out")
    return people


def _grey(frames: Frames) -> Tensor:
    """Frames as the action classifier sees them: (T, 32, 32), each of mean 0 and deviation 1."""
    if len(frames) < SPAN:
        raise MocogenError(
            f"a clip of {len(frames)} frames is too short to name its action: "
            f"at least {SPAN} are needed"
        )
    small = torch.from_numpy(np.ascontiguousarray(reduce(frames, SIZE)))
    return _normalised(small.float().mean(-1))


def _normalised(images: Tensor) -> Tensor:
    deviation, mean = torch.std_mean(images, dim=(-2, -1), keepdim=True)
    return (images - mean) / (deviation + 1e-3)


def _colour(frames: Frames) -> Tensor:
    """Frames as the person classifier sees them: (T, 3, 32, 32) in [-1, 1]."""
    small = torch.from_numpy(np.ascontiguousarray(reduce(frames, SIZE)))
    return (small.float() / 127.5 - 1).permute(0, 3, 1, 2)


def _views(pictures: Tensor) -> Tensor:
    starts = range(0, len(pictures) - SPAN + 1, STRIDE)
    return torch.stack([pictures[start : start + SPAN : STRIDE] for start in starts])


def _view(pictures: Tensor, draw: torch.Generator) -> Tensor:
    start = _below(len(pictures) - SPAN + 1, draw)
    return pictures[start : start + SPAN : STRIDE]


def _below(limit: int, draw: torch.Generator) -> int:
    return int(torch.randint(limit, (1,), generator=draw))


def _choose(items: Sequence[int], count: int, draw: torch.Generator) -> list[int]:
    return [items[k] for k in torch.randint(len(items), (count,), generator=draw).tolist()]


def _flipped(images: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images, every second one (at random) mirrored, and which ones were: (n,) of 0 and 1."""
    mirrored = torch.randint(2, (len(images),), generator=draw)
    return torch.where(mirrored[:, None, None, None] > 0, images.flip(-1), images), mirrored


def _moved(images: Tensor, training: Training, draw: torch.Generator) -> Tensor:
    """Images (n, c, h, w), each enlarged or reduced, and shifted."""
    count = len(images)
    place = torch.zeros(count, 2, 3)
    spread = 2 * torch.rand(count, 3, generator=draw) - 1
    place[:, 0, 0] = place[:, 1, 1] = torch.exp(training.scale * spread[:, 0])
    place[:, :, 2] = training.shift * spread[:, 1:]
    where = functional.affine_grid(place, list(images.shape), align_corners=False)
    return functional.grid_sample(images, where, padding_mode="reflection", align_corners=False)


def _noisy(images: Tensor, training: Training, draw: torch.Generator) -> Tensor:
    level = training.noise * torch.rand(len(images), 1, 1, 1, generator=draw)
    return images + level * torch.randn(images.shape, generator=draw)


def _fit(
    channels: int,
    classes: int,
    batch: Callable[[torch.Generator], tuple[Tensor, Tensor]],
    training: Training,
    seed: int,
) -> Network:
    """A network trained on what ``batch`` draws; the same one for the same seed."""
    draw = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(seed)  # initial weights and dropout
        network = Network(channels, classes).train()
        optimizer = torch.optim.Adam(network.parameters(), training.rate, weight_decay=1e-4)
        for step in range(training.steps):
            for group in optimizer.param_groups:
                group["lr"] = training.rate * (1 - step / training.steps)
            images, labels = batch(draw)
            loss = functional.cross_entropy(network(images), labels, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval().requires_grad_(False)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Networks this small are done before a second thread has begun, and on a busy machine
    they would spend most of their time waiting for it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _vote(networks: Sequence[Network], images: Tensor) -> NDArray[np.float32]:
    """The networks' geometric mean of probabilities, (n, classes)."""
    with torch.inference_mode(), _one_thread():
        odds = torch.stack([network(images).log_softmax(1) for network in networks])
        return odds.mean(0).softmax(1).numpy()


def _verdict(odds: NDArray[np.float32]) -> int:
    return int(np.log(odds + 1e-9).mean(axis=0).argmax())


def _test(
    network: Network, pictures: Tensor, label: int, people: tuple[str, ...]
) -> tuple[float, float, float]:
    """Shares of frames with the right person, the right group, and the most frequent person."""
    straight, mirrored = (_vote([network], images) for images in (pictures, pictures.flip(-1)))
    group = np.concatenate([straight.argmax(1) == label, mirrored.argmax(1) == label + len(people)])
    named = [mirrored_together(odds).argmax(1) for odds in (straight, mirrored)]
    person = np.concatenate(named) == label
    one = [np.bincount(names).max() / len(names) for names in named]
    return float(person.mean()), float(group.mean()), float(np.mean(one))


def _key(clips: Sequence[RealClip], actions: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    settings = [_VERSION, actions, asdict(ACTION_TRAINING), asdict(PERSON_TRAINING)]
    digest.update(json.dumps(settings).encode())
    for clip in clips:
        digest.update(f"{clip.action}/{clip.person} {clip.frames.shape}".encode())
        digest.update(np.ascontiguousarray(clip.frames).tobytes())
    return digest.hexdigest()


def _write(path: Path, action: ActionClassifier, person: PersonClassifier) -> None:
    from safetensors.torch import save_file

    tensors = {
        f"{name}.{k}.{key}": value.contiguous()
        for name, classifier in (("action", action), ("person", person))
        for k, network in enumerate(classifier.networks)
        for key, value in network.state_dict().items()
    }
    accuracy = json.dumps({"action": action.accuracy, "person": person.accuracy})
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"accuracy": accuracy})


def _read(
    path: Path, actions: tuple[str, ...], people: tuple[str, ...]
) -> tuple[ActionClassifier, PersonClassifier] | None:
    """What :func:`_write` wrote, or None where the file is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            accuracy = json.loads(file.metadata()["accuracy"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        action = _networks(tensors, "action", len(people), VIEW, len(actions))
        person = _networks(tensors, "person", PARTS, 3, 2 * len(people))
        return (
            ActionClassifier(action, actions, accuracy["action"]),
            PersonClassifier(person, people, accuracy["person"]),
        )
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError):
        return None


def _networks(
    tensors: dict[str, Tensor], name: str, count: int, channels: int, classes: int
) -> list[Network]:
    networks: list[Network] = []
    for k in range(count):
        prefix = f"{name}.{k}."
        network = Network(channels, classes).eval().requires_grad_(False)
        network.load_state_dict(
            {key.removeprefix(prefix): v for key, v in tensors.items() if key.startswith(prefix)}
        )
        networks.append(network)
    return networks
