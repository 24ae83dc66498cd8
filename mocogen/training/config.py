"""Recipes: the values of a training run, from TOML files and the command line.

A recipe file holds every value, so that it can be read as the description of the run. The few
defaults here are what runs did before a setting came. Overrides are dotted,
``generator.steps=13000``. Without torch.
"""

from __future__ import annotations

import math
import tomllib
import types
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

from ..errors import UsageError
from ..spec import LARGEST, MAX_PUSH, MAX_WARM_UP, MIN_BLEND

SAMPLER_STAGES = ("generator", "motion", "joint")
"""The stages that train a sampler, in the order in which they run."""

FLOW_STAGES = ("flow",)
"""The stage that trains a voxel flow network."""

STAGES = SAMPLER_STAGES + FLOW_STAGES

MIN_FRAMES = 4
"""What the convolutions of D_V span in time."""


@dataclass(frozen=True)
class RunConfig:
    """What holds for all stages.

    Attributes:
        stages: which of ``STAGES`` to run, in the order that they have there.
        seed: everything random in the run follows from it.
        precision: "32", "bf16" or "auto", which times both on the CPU and takes the faster.
            The flow stage computes in "32", which "auto" means there.
        log_steps: steps between two lines of the loss file.
        sheet_minutes: minutes between two sample sheets.
        save_minutes: minutes between two saved states.
        graphs: whether the steps of the generator stage are recorded as CUDA graphs, where one
            GPU trains alone.
    """

    stages: tuple[str, ...]
    seed: int
    precision: str
    log_steps: int
    sheet_minutes: float
    save_minutes: float
    graphs: bool = True  # this came later: see _section


@dataclass(frozen=True)
class DataConfig:
    """How clips are read; see :func:`mocogen.training.data.load_clips`.

    Attributes:
        actions: names in the order of their one-hot vector; empty for the sorted folder names.
        groups: who is on screen: "stem" (the file's name), "none", or a CSV's path, from
            the clips' folder or from the working one.
        attributes: columns of that CSV with numbers that tell contents apart by degrees.
        mirror: whether every clip also counts mirrored, as a group of its own.
        fit: how frames become square: "crop" (the middle) or "stretch".
        min_frames: shorter clips are skipped.
        memory_mb: bound on the decoded frames.
        light: "match" brings all clips of a group into one light, "keep" does not.
        other_look: clips (ACTION/NAME) in which somebody looks otherwise than in the rest, in
            other clothes say. They teach their motion; no content of the prior is shown with it.
        fps: frames a second that the checkpoint states.
        name: what the checkpoint calls the data; empty for "clips of one's own".
        license: what the checkpoint states as the terms of the weights.
    """

    actions: tuple[str, ...]
    groups: str
    mirror: bool
    fit: str
    min_frames: int
    memory_mb: int
    fps: float
    name: str
    license: str
    attributes: tuple[str, ...] = ()  # these came later: see _section
    light: str = "keep"
    other_look: tuple[str, ...] = ()

    @property
    def stated_name(self) -> str:
        """What the checkpoint calls the data."""
        return self.name or "clips of one's own"


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the networks that the checkpoint keeps; see :class:`mocogen.spec.ModelSpec`."""

    name: str
    content: int
    noise: int
    hidden: int
    motion: int
    width: int
    image_size: int


@dataclass(frozen=True)
class GeneratorConfig:
    """Image generator and motion encoder. Fractions (0 to 1) are parts of the stage.

    Attributes:
        steps: length of the stage.
        hours: if not 0, the stage also ends after so many hours; schedules follow whichever
            of the two is further on. Such a run is not repeatable step by step.
        batch: real frames a step, over all processes.
        swapped: frames a step that pair one clip's motion with a content from the prior.
        learning_rate, final_rate: of Adam; the first holds until the discriminator starts,
            then 0.5 of it falls to the second by a half cosine.
        discriminator_rate: of the discriminator's Adam, falling in the same proportion.
        beta1, beta2: of Adam.
        clip_norm: bound on the norm of the generator's gradients.
        ema: share of the current weights in their moving average, a step.
        content_push: how far, at first, contents are pushed into their group's region.
        push_hold, push_end: until when the push is whole, and from when it is down to
            ``push_kept``.
        push_kept: the push that stays, in sampling too (:mod:`mocogen.mapping`).
        push_blend: difference of two projections over which pushes blend at a border.
        margin_start, margin_end: lead of a content's group over the second from which a
            frame's losses count fully, at the start of the stage and at its end.
        code_noise: deviation of the noise that is added to motion codes.
        code_noise_kept: the same from ``encoder_freeze`` on, when codes no longer change and need
            no wide berth of each other; 0 for ``code_noise``.
        encoder_width, encoder_freeze: channels of the motion encoder's first layer, and the
            fraction after which it no longer changes.
        encoder_shift: how far its frames are moved and scaled at random, as a share of their
            size: 0 where place is what moves.
        discriminator_width, discriminator_size, discriminator_start: channels of its first
            layer, the size in pixels at which it looks at frames (what is finer than that is
            judged by nobody), and when it starts.
        l1, l2, edges, adversarial, features, identity, action, cycle: weights of the losses
            (see :mod:`mocogen.training.losses`).
        moving: how much more an error counts where a clip moves, beside 1 elsewhere.
        steady: weight of the change between two frames of one content, where the frames
            whose motion they have show none.
        tint: weight of the difference in mean colour between a real frame and what is rebuilt of
            it, where both shine; and between two frames of one content, where each shines as
            the one does whose motion it has. For bright shapes on black.
        norm_freeze: the fraction from which on batch norm takes no longer a batch's own
            statistics, but those of the training so far: the generator keeps the ones that it
            has then, the encoder's go on following. 1 for never. Not before they have seen 50
            steps.
        counterpart: weight of the difference between a frame of one clip's motion with another
            content and the real frame of that content's group and the action whose motion code
            is nearest, both averaged to 24x24 cells; from ``encoder_freeze`` on. Only where all
            clips of a group show it alike: not with attributes.
        lent: frames a step, of one clip's motion each with a content of any group, which are to be
            the real frame of that content's group and the action whose motion code is nearest:
            they cost what a rebuilt frame costs. From ``encoder_freeze`` on, and where
            ``counterpart`` may be; 0 for none.
        lent_among: of how many nearest frames the one that is most like what was made is meant.
        lent_noise: standard deviation of the noise on their motion codes, which makes a nearest
            frame known for codes that no clip shows, too.
        hard: a rebuilt or lent frame's error counts in proportion to its own size to the power of
            this, so that frames which are seldom like the others are learned all the same; 0
            for equally.
        action_code: size of the action's one-hot vector at the end of every motion code, of whose
            ``model.motion`` numbers the pose has the rest; 0 for codes of the pose alone.
        encoder_bottleneck: how many numbers the encoder first reduces a frame to, of which it then
            makes the motion code; 0 for no such step. The fewer, the less a code says of who it
            was made from.
        start: a checkpoint, by its path or the name of one that ships, whose generator the stage
            goes on with; empty to begin from noise.
        hold: with ``start``, the fraction up to which that generator is left as it is, while a new
            encoder learns its motion codes.
    """

    steps: int
    hours: float
    batch: int
    swapped: int
    learning_rate: float
    final_rate: float
    discriminator_rate: float
    beta1: float
    beta2: float
    clip_norm: float
    ema: float
    content_push: float
    push_hold: float
    push_end: float
    margin_start: float
    margin_end: float
    code_noise: float
    encoder_width: int
    encoder_freeze: float
    encoder_shift: float
    discriminator_width: int
    discriminator_size: int
    discriminator_start: float
    l1: float
    edges: float
    adversarial: float
    features: float
    identity: float
    action: float
    cycle: float
    moving: float
    steady: float
    l2: float = 0.0  # these came later: see _section
    push_kept: float = 0.0
    push_blend: float = 0.05
    tint: float = 0.0
    norm_freeze: float = 1.0
    counterpart: float = 0.0
    lent: int = 0
    lent_noise: float = 0.0
    lent_among: int = 1
    hard: float = 0.0
    code_noise_kept: float = 0.0
    action_code: float = 0.0
    encoder_bottleneck: int = 0
    start: str = ""
    hold: float = 0.0


@dataclass(frozen=True)
class MotionConfig:
    """The motion network as a sequential variational autoencoder with a critic.

    Attributes:
        steps, hours, ema, clip_norm: as in :class:`GeneratorConfig`.
        batch: clips a step.
        window: frames of a training window.
        warm_up: steps before the first frame of what is made from noise, in training and ever
            after (:attr:`mocogen.spec.ModelSpec.warm_up`); the joint stage makes them too.
        long_window, long_share: frames of the unrolls out of which the critic sees a window, and
            its share of all windows from noise; the others are the beginning of a clip.
        learning_rate: of Adam, falling linearly to 0 over the second half.
        velocity: weight of the squared error of velocities beside that of positions.
        kl_first, kl_later: weights of the KL divergence of the first frame and of others.
        critic: weight of the critic's judgement.
        moments: weight of the difference in variance, of positions and of velocities, between
            paths from noise and real ones.
        named: weight of the squared error of the action's part of the codes along paths from noise,
            where they have one (``action_code``): it must not slip, however long a clip.
        critic_width: channels of the critic.
        critic_rate: of its Adam, falling in the same proportion as ``learning_rate``.
        smooth_join: frames that join the end of a clip to its start, for the actions named in
            ``endless``.
        endless: actions that begin and end in the same pose, and go on by starting again.
        swing: how far the network's codes move about the mean of each clip, in units of the clip's
            own. A generator shows a little less movement than its codes say. The codes of lent
            frames (:attr:`GeneratorConfig.lent`) swing as wide.
    """

    steps: int
    hours: float
    batch: int
    window: int
    long_window: int
    learning_rate: float
    ema: float
    clip_norm: float
    velocity: float
    kl_first: float
    kl_later: float
    critic: float
    critic_width: int
    critic_rate: float
    smooth_join: int
    endless: tuple[str, ...]
    long_share: float = 0.25  # these came later: see _section
    warm_up: int = 0
    moments: float = 0.0
    named: float = 0.0
    swing: float = 1.0


@dataclass(frozen=True)
class JointConfig:
    """Adversarial training of both networks with D_I and D_V (Tulyakov et al. 2018).

    Attributes:
        steps, hours, beta1, beta2, ema: as in :class:`GeneratorConfig`.
        batch: clips a step, over all processes.
        frames: length of the clips that D_V sees (16 in the paper).
        skip: D_V sees every so many-th frame (2 in the authors' experiments).
        learning_rate: of the two networks' Adam; falls linearly to 0 over the second half
            where ``decay`` is true.
        discriminator_rate: of the discriminators' Adam, falling in the same proportion.
        loss: "hinge", or "log" for the paper's cross-entropy.
        discriminator_width: channels of the discriminators' first layer.
        spectral: whether the discriminators are spectrally normalised.
        image, video: weights of the two discriminators.
        category: weight of the category term, the action that D_V reads off a clip.
        noise: deviation of the noise on the discriminators' inputs.
        keep: weight of a term that holds the generator near the one it started from; of use
            only after the generator stage.
    """

    steps: int
    hours: float
    batch: int
    frames: int
    skip: int
    learning_rate: float
    decay: bool
    discriminator_rate: float
    beta1: float
    beta2: float
    ema: float
    loss: str
    discriminator_width: int
    spectral: bool
    image: float
    video: float
    category: float
    noise: float
    keep: float


@dataclass(frozen=True)
class FlowConfig:
    """A voxel flow network (:mod:`mocogen.voxel_flow`): hide frames and predict them.

    Attributes:
        name: what the checkpoint calls the network.
        steps, hours, ema: as in :class:`GeneratorConfig`.
        batch: hidden frames a step, over all processes.
        width: channels of the network at full size.
        image_size: height and width that clips are resized to, in pixels.
        crop: height and width of what a step sees of them, a multiple of 8.
        candidates: crops that are drawn for each one used, the one in which most moves.
        span: a frame is hidden between two that are 2 to so many frames apart.
        learning_rate: of Adam; falls to 0 by a half cosine from ``decay_start`` on, a
            fraction of the stage.
        smooth_flow, smooth_mask: weights of the total variation of flow (a pixel's shift
            a pixel) and mask.
        hold_out: groups that are left out of training, to be measured on.
    """

    name: str
    steps: int
    hours: float
    batch: int
    width: int
    image_size: int
    crop: int
    candidates: int
    span: int
    learning_rate: float
    decay_start: float
    ema: float
    smooth_flow: float
    smooth_mask: float
    hold_out: tuple[str, ...]


_COMMON: dict[str, type] = {"run": RunConfig, "data": DataConfig}
_SAMPLER: dict[str, type] = {
    "model": ModelConfig,
    "generator": GeneratorConfig,
    "motion": MotionConfig,
    "joint": JointConfig,
}
_FLOW: dict[str, type] = {"flow": FlowConfig}
_SECTIONS = {**_COMMON, **_SAMPLER, **_FLOW}


@dataclass(frozen=True)
class TrainConfig:
    """A whole recipe with its overrides.

    A recipe is for one kind of network, a sampler or a voxel flow network, and has the
    sections of that kind, all of them. Asking for another's is a mistake of the caller's.

    Attributes:
        sections: those beside [run] and [data], by name.
    """

    recipe: str
    run: RunConfig
    data: DataConfig
    sections: dict[str, Any]

    @property
    def is_flow(self) -> bool:
        """Whether it trains a voxel flow network, and not a sampler."""
        return "flow" in self.sections

    @property
    def image_size(self) -> int:
        """Height and width that clips are resized to, in pixels."""
        return self.flow.image_size if self.is_flow else self.model.image_size

    @property
    def model(self) -> ModelConfig:
        return self.sections["model"]

    @property
    def generator(self) -> GeneratorConfig:
        return self.sections["generator"]

    @property
    def motion(self) -> MotionConfig:
        return self.sections["motion"]

    @property
    def joint(self) -> JointConfig:
        return self.sections["joint"]

    @property
    def flow(self) -> FlowConfig:
        return self.sections["flow"]

    def to_dict(self) -> dict[str, Any]:
        """Plain values by section, ready for JSON."""
        return {"recipe": self.recipe, **{name: asdict(self[name]) for name in self.names}}

    @property
    def names(self) -> tuple[str, ...]:
        """Its sections, in the order in which they are written."""
        return ("run", "data", *self.sections)

    def __getitem__(self, name: str) -> Any:
        """A section by its name."""
        return getattr(self, name)


def recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    folder = Path(__file__).parent / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_config(recipe: str, overrides: Sequence[str] = (), checked: bool = True) -> TrainConfig:
    """Read a recipe, by the name of one that comes with the package or by a file's path.

    Args:
        recipe: "split", "mocogan", "voxel-flow", or the path of a TOML file that holds every value.
        overrides: dotted settings such as ``generator.steps=13000``; values are TOML, and
            bare words are taken as text.
        checked: as in :func:`from_dict`.

    Raises:
        UsageError: no such recipe or key, or a value of the wrong type or range.
    """
    known = recipes()
    path = known.get(recipe, Path(recipe))
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError:
        raise UsageError(
            f"no recipe {recipe!r}: give the path of a TOML file or one of {', '.join(known)}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read recipe {path}: {error}") from None
    for setting in overrides:
        _override(values, setting)
    return from_dict({"recipe": path.stem, **values}, checked)


def from_dict(values: Mapping[str, Any], checked: bool = True) -> TrainConfig:
    """A configuration from plain values, as :meth:`TrainConfig.to_dict` gives them.

    Args:
        checked: whether to refuse what no stage could use. A record of what a run has used
            may be older than some of the bounds.

    Raises:
        UsageError: a section or key is unknown or missing, or a value makes no sense.
    """
    sections = {key: value for key, value in values.items() if key != "recipe"}
    _refuse_unknown("section", sections, list(_SECTIONS))
    common = _parts(_COMMON, sections)
    asked = common["run"].stages
    flow = _trains_flow(asked)
    # In the order in which they build on each other, none twice.
    common["run"] = replace(common["run"], stages=tuple(s for s in STAGES if s in asked))
    own = _FLOW if flow else _SAMPLER
    foreign = [name for name in sections if name not in _COMMON and name not in own]
    if foreign:
        stages = ", ".join(common["run"].stages)
        raise UsageError(
            f"section [{foreign[0]}] is of no use for stage {stages}: leave it out, or use "
            "another recipe"
        )
    config = TrainConfig(
        recipe=str(values.get("recipe", "unnamed")), sections=_parts(own, sections), **common
    )
    if checked:
        _check(config)
    return config


def _parts(kinds: Mapping[str, type], sections: Mapping[str, Any]) -> dict[str, Any]:
    """The sections that ``kinds`` names, all of which must be there."""
    parts = {}
    for name, kind in kinds.items():
        if not isinstance(sections.get(name), Mapping):
            raise UsageError(f"the recipe has no section [{name}]")
        parts[name] = _section(name, kind, sections[name])
    return parts


def _trains_flow(stages: Sequence[str]) -> bool:
    """Whether the stages are those of a voxel flow network; they are of one kind.

    Raises:
        UsageError: no stage, an unknown one, or stages of both kinds.
    """
    for stage in stages:
        if stage not in STAGES:
            raise UsageError(f"unknown stage {stage!r}: use {', '.join(STAGES)}")
    if not stages:
        raise UsageError("no stage to run: name some of " + ", ".join(STAGES))
    flow = [stage in FLOW_STAGES for stage in stages]
    if any(flow) and not all(flow):
        raise UsageError("stage flow trains another kind of network than the other stages do")
    return all(flow)


def _override(values: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    section, dot, name = key.strip().partition(".")
    if not equals or not dot:
        raise UsageError(f"setting {setting!r}: write it as section.name=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    _refuse_unknown("section", [section], list(_SECTIONS))
    values.setdefault(section, {})[name] = value


def _refuse_unknown(what: str, names: Any, known: list[str]) -> None:
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise UsageError(f"unknown {what} {name!r}: {hint}known are {', '.join(known)}")


def _section(name: str, kind: type, values: Mapping[str, Any]) -> Any:
    """One section, every setting of which must be there, but for those that have a default:
    they came after the first runs were recorded, and it is what those runs did."""
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    _refuse_unknown(f"setting of [{name}]", values, names)
    missing = [f.name for f in fields(kind) if f.name not in values and f.default is MISSING]
    if missing:
        raise UsageError(f"section [{name}] of the recipe lacks {', '.join(missing)}")
    return kind(
        **{key: _value(f"{name}.{key}", value, hints[key]) for key, value in values.items()}
    )


def _value(key: str, value: Any, wanted: Any) -> Any:
    if isinstance(wanted, types.GenericAlias):  # tuple[str, ...]
        items = value.split(",") if isinstance(value, str) else value
        if isinstance(items, list | tuple) and all(isinstance(item, str) for item in items):
            return tuple(item.strip() for item in items if item.strip())
        raise UsageError(f"{key} = {value!r}: a list of names is wanted")
    if wanted is float and type(value) in (int, str):  # TOML does not know ".5" for a number
        try:
            return float(value)
        except OverflowError:
            raise UsageError(f"{key}: the number is too large") from None
        except ValueError:
            pass
    if wanted is str and type(value) in (int, float):
        return str(value)
    if type(value) is not wanted:
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        raise UsageError(f"{key} = {value!r}: {words[wanted]} is wanted")
    return value


def _check(config: TrainConfig) -> None:
    """Refuse what no stage could use, with the name of the setting."""
    precisions = ("auto", "32") if config.is_flow else ("auto", "32", "bf16")
    _choose("run.precision", config.run.precision, precisions)
    _choose("data.fit", config.data.fit, ("crop", "stretch"))
    _choose("data.light", config.data.light, ("keep", "match"))
    for name in config.names:
        for key, value in asdict(config[name]).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                _check_number(f"{name}.{key}", value)
    if config.is_flow:
        _check_flow(config)
        return
    _choose("joint.loss", config.joint.loss, ("hinge", "log"))
    size = config.generator.discriminator_size
    if size < 32 or size % 16:
        raise UsageError(f"generator.discriminator_size = {size}: use a multiple of 16 from 32 up")
    if config.generator.final_rate > config.generator.learning_rate:
        raise UsageError("generator.final_rate is above generator.learning_rate")
    if config.generator.push_hold > config.generator.push_end:
        raise UsageError("generator.push_hold is after generator.push_end")
    for key in ("counterpart", "lent"):
        if getattr(config.generator, key) and config.data.attributes:
            raise UsageError(
                f"generator.{key} is of no use with data.attributes: clips of one group show "
                f"other sizes or colours. Add --set generator.{key}=0"
            )
    if config.generator.hold and not config.generator.start:
        raise UsageError("generator.hold is of no use without generator.start, a checkpoint")
    if config.generator.hold > config.generator.encoder_freeze:
        raise UsageError("generator.hold ends after generator.encoder_freeze: nothing would learn")
    if config.joint.frames < MIN_FRAMES:
        raise UsageError(
            f"joint.frames = {config.joint.frames}: D_V looks at {MIN_FRAMES} frames at least"
        )
    if config.motion.long_window < config.motion.window:
        raise UsageError("motion.long_window is shorter than motion.window")


_POSITIVE = (
    "steps", "batch", "swapped", "learning_rate", "discriminator_rate", "critic_rate",
    "window", "frames", "skip", "encoder_width", "discriminator_width", "critic_width",
    "log_steps", "min_frames", "memory_mb", "fps", "content", "model.noise", "hidden", "motion",
    "width", "image_size", "clip_norm", "crop", "candidates", "lent_among", "swing",
)  # fmt: skip
"""Numbers of which 0 is too small; none is below it."""

_SHARES = (
    "push_hold", "push_end", "encoder_freeze", "encoder_shift", "discriminator_start",
    "norm_freeze", "long_share", "decay_start", "hold",
)  # fmt: skip
"""Fractions of a stage, and shares of something else."""

_LEAST = {
    "generator.push_blend": MIN_BLEND,
    "motion.window": 2,  # or there is no velocity
    "joint.batch": 2,  # batch norm compares clips
    "data.min_frames": 2,
}

_MOST: dict[str, float] = {
    "generator.content_push": MAX_PUSH,
    "generator.push_kept": MAX_PUSH,
    "generator.push_blend": MAX_PUSH,
    "motion.warm_up": MAX_WARM_UP,
    "run.seed": 2**63 - 1,
}

_ENDLESS = ("steps", "log_steps", "memory_mb")
"""Whole numbers that are the length of nothing in memory."""


def _check_number(name: str, value: float) -> None:
    """Refuse a number beyond what its setting, ``section.key``, can mean."""
    key = name.partition(".")[2]

    def named(keys: Collection[str]) -> bool:
        return key in keys or name in keys

    trouble = ""
    if isinstance(value, float) and not math.isfinite(value):
        trouble = "a finite number is wanted"
    elif named(_SHARES) and not 0 <= value <= 1:
        trouble = "use a number from 0 to 1"
    elif key == "ema" and not 0 < value <= 1:
        trouble = "use a number above 0, at most 1"
    elif key in ("beta1", "beta2") and not 0 <= value < 1:
        trouble = "use a number from 0 on, below 1"
    elif value < 0 or (named(_POSITIVE) and value == 0):
        trouble = "it is too small"
    elif value < _LEAST.get(name, 0):
        trouble = f"use at least {_LEAST[name]}"
    most = _MOST.get(name, math.inf if isinstance(value, float) or named(_ENDLESS) else LARGEST)
    if not trouble and value > most:
        trouble = f"use at most {most}"
    if trouble:
        raise UsageError(f"{name} = {value}: {trouble}")


def _check_flow(config: TrainConfig) -> None:
    flow = config.flow
    if flow.crop % 8 or flow.crop > flow.image_size:
        raise UsageError(
            f"flow.crop = {flow.crop}: use a multiple of 8, at most flow.image_size "
            f"({flow.image_size})"
        )
    if flow.span < 2:
        raise UsageError(f"flow.span = {flow.span}: a frame lies between two from 2 on")
    if config.data.min_frames <= flow.span:
        raise UsageError(
            f"data.min_frames = {config.data.min_frames}: clips need more frames than flow.span "
            f"({flow.span})"
        )


def _choose(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{key} = {value!r}: use one of {', '.join(allowed)}")


def to_toml(config: TrainConfig) -> str:
    """The configuration as a TOML file that :func:`load_config` reads."""
    lines = [f"recipe = {_toml(config.recipe)}", ""]
    for name in config.names:
        lines.append(f"[{name}]")
        for key, value in asdict(config[name]).items():
            lines.append(f"{key} = {_toml(value)}")
        lines.append("")
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return repr(value)


_LASTING = {
    "generator": (
        "encoder_width",
        "discriminator_width",
        "discriminator_size",
        "action_code",
        "encoder_bottleneck",
    ),
    "motion": ("critic_width",),
    "joint": ("discriminator_width", "spectral"),
    "flow": ("width", "hold_out"),
}
"""Settings of its own section that a stage's state depends on for good."""


def differing_settings(ours: TrainConfig, theirs: TrainConfig, stage: str) -> list[str]:
    """The settings that a stage's state depends on for good, where two configurations differ.

    They decide the shapes of tensors, where contents lie (which follows from the seed), or
    which clips were kept out of training.
    """
    if ours.is_flow != theirs.is_flow:
        return ["it is of another kind of network"]
    keys = [f"{stage}.{name}" for name in _LASTING[stage]]
    if not ours.is_flow:
        elsewhere = {"name", *(("noise", "hidden") if stage == "generator" else ())}
        sizes = [field.name for field in fields(ModelConfig) if field.name not in elsewhere]
        keys += [f"model.{name}" for name in sizes]
        keys += ["run.seed", "data.attributes"]
    differing = []
    for key in keys:
        section, name = key.split(".")
        mine, other = getattr(ours[section], name), getattr(theirs[section], name)
        if mine != other:
            differing.append(f"{key} is {mine!r} here and was {other!r}")
    return differing
