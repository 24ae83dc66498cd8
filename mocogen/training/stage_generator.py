"""First stage: the image generator, with a motion encoder beside it.

A frame is rebuilt from the code that the encoder gives its pose and from a content that was
assigned to its group (:mod:`mocogen.training.content`). Frames that pair one clip's motion
with another content have no original: a discriminator that knows group and action judges
them, and the encoder must find the motion in them again.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from .augment import discriminator_view, encoder_view, flip_where, jitter, view_draws
from .codes import MotionCodes, swung
from .config import GeneratorConfig
from .content import ContentRegions, mapped
from .counterparts import Counterparts
from .cuda_graphs import Recorder, Tensors
from .losses import (
    cells_l1,
    edge_l1,
    feature_l1,
    hinge_discriminator,
    regard_for_errors,
    regard_for_movement,
    restlessness,
    reverse_gradient,
    shared,
    shining,
    stillness,
    tint,
    tint_apart,
    weighted_l1,
    weighted_l2,
)
from .networks import Classifier, FrameDiscriminator, image_generator
from .optimisation import adam, average_gradients, half_cosine, ramp, set_rate, update_average
from .sampling import FrameSampler
from .sheets import grid
from .stage import Context, Stage
from .start import start_with, started_with

Module = TypeVar("Module", bound=nn.Module)

SETTLING = 50
"""Batches that running statistics follow, at a momentum of 0.1, before they can be relied on."""


@dataclass(frozen=True)
class Swapped:
    """Motion codes of clips with contents of any group, one row each.

    Attributes:
        group, action: (n,), of the content and of the motion.
        code: (n, pose), without the action.
        latent: (n, motion + content), what the generator takes.
        weight: (n,), how clearly the content belongs to its group.
    """

    group: Tensor
    action: Tensor
    code: Tensor
    latent: Tensor
    weight: Tensor


class GeneratorStage(Stage):
    """Generator, encoder, discriminator and two classifiers, trained together.

    Later stages and the checkpoint read ``generator_average`` and ``encoder_average`` from the
    saved state; the rest is for going on.
    """

    name = "generator"
    values: GeneratorConfig

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        config, clips, device = context.config, context.clips, context.device
        self.values = values = config.generator
        model = config.model
        self.regions = ContentRegions(
            len(clips.groups), model.content, config.run.seed, len(config.data.attributes),
            bool(clips.other_looks),
        )  # fmt: skip
        self.sampler = FrameSampler(clips, device)
        self.codes = MotionCodes(config, len(clips.actions))
        actions, people = max(1, len(clips.actions)), len(clips.people)
        with context.initialising(self.name):
            generator = image_generator(model)
            encoder = self.codes.encoder()
            action = Classifier(self.codes.pose, actions)
            identity = Classifier(self.codes.pose, people, hidden=64)
            discriminator = FrameDiscriminator(
                values.discriminator_size, values.discriminator_width, self.sampler.seen
            )
        started = started_with(context)
        if started is None and values.start:
            started = start_with(generator, values.start, model)
        self.started = started or ""  # names what was begun with
        generator.train(not self.started)
        channels_last: Any = {"memory_format": torch.channels_last}
        self.generator = generator.to(device, **channels_last)
        self.encoder = encoder.to(device, **channels_last)
        self.action, self.identity = action.to(device), identity.to(device)
        self.discriminator = discriminator.to(device, **channels_last)
        self.projector = self.regions.projector().to(device)
        self._project()
        self.generator_average = _average_of(self.generator)
        self.encoder_average = _average_of(self.encoder)
        self.action_average = _average_of(self.action)
        self.modules = {
            "generator": self.generator,
            "encoder": self.encoder,
            "action": self.action,
            "identity": self.identity,
            "discriminator": self.discriminator,
            "generator_average": self.generator_average,
            "encoder_average": self.encoder_average,
            "action_average": self.action_average,
        }
        self.trained = [
            p
            for module in (self.generator, self.encoder, self.action, self.identity)
            for p in module.parameters()
        ]
        self.recorder = Recorder(
            device, self.device_random, config.run.graphs and context.fabric.world_size == 1
        )
        betas, recorded = (values.beta1, values.beta2), self.recorder.enabled
        judging = self.discriminator.parameters()
        self.optimisers = {
            "generator": adam(self.trained, values.learning_rate, betas, recorded),
            "discriminator": adam(judging, values.discriminator_rate, betas, recorded),
        }
        self.local_batch = max(2, values.batch // context.fabric.world_size)
        self.local_lent = -(-values.lent // context.fabric.world_size)
        self.counterparts: Counterparts | None = None  # as soon as the encoder is frozen
        # Two of one content; no more contents than there are clips whose motion they take.
        share = max(2, values.swapped // context.fabric.world_size)
        self.local_swapped = 2 * min(share // 2, self.local_batch)

    def step(self, progress: float) -> dict[str, Tensor]:
        values = self.values
        judged = progress >= values.discriminator_start
        frozen, held = progress >= values.encoder_freeze, progress < values.hold
        self.generator.requires_grad_(not held)
        self._freeze_norms(progress >= values.norm_freeze and self._settled())
        self._set_rates(progress, judged)
        lent = values.lent > 0 and frozen
        compared = lent or (values.counterpart and judged and frozen)
        if compared and self.counterparts is None:
            self.counterparts = Counterparts(self.sampler, self.encoder_average)
        return self.recorder(
            (judged, frozen, held, lent, self.generator.training),
            lambda drawn: self._learn(drawn, judged, frozen),
            self._draw(progress, judged, lent),
        )

    def _draw(self, progress: float, judged: bool, lent: bool) -> Tensors:
        """What changes from step to step, on the CPU: frames, contents, and what they count."""
        values = self.values
        frames, group, scores = self.sampler.draw_pairs(self.local_batch, self.random)
        content, weight = self._contents(group, progress, scores)
        drawn = {"frames": frames, "content": content, "weight": weight}
        if judged:
            drawn |= self._draw_others("other", self.local_swapped // 2, progress)
            start = values.discriminator_start
            drawn["judgement"] = torch.tensor(ramp(progress, start - 0.02, start + 0.03))
        if lent:
            drawn["lent"] = self.sampler.draw_pairs(self.local_lent, self.random)[0]
            drawn |= self._draw_others("lent_to", self.local_lent, progress)
        return drawn

    def _draw_others(self, name: str, n: int, progress: float) -> Tensors:
        """Groups as ``name``, (n,), and beside them their contents and the weights of these."""
        group = torch.randint(len(self.regions.directions), (n,), generator=self.random)
        content, weight = self._contents(group, progress)
        return {name: group, f"{name}_content": content, f"{name}_weight": weight}

    def _learn(self, drawn: Tensors, judged: bool, frozen: bool) -> Tensors:
        """A step on the device, from what was drawn for it."""
        values, fabric = self.values, self.context.fabric
        pairs = self.sampler.frames_of(drawn["frames"])
        real, second, group, action = pairs.first, pairs.second, pairs.group, pairs.action
        content, weight = drawn["content"], drawn["weight"]
        losses: dict[str, Tensor] = {}
        with fabric.autocast():
            code = self._encode(real, group, frozen)
            noise = (frozen and values.code_noise_kept) or values.code_noise
            noisy = self._noisy(code, noise)
            made_group, made_action = group, action
            latent = self._latent(noisy, action, content)
            if judged:
                swapped = self._swap(noisy.detach(), noise, second, group, action, drawn)
                made_group = torch.cat([group, swapped.group])
                made_action = torch.cat([action, swapped.action])
                latent = torch.cat([latent, swapped.latent])
            n_judged = len(latent)
            if "lent" in drawn:
                lent = self._lend(drawn)
                latent = torch.cat([latent, lent.latent])
            made, borrowed = self.generator(latent).float().tensor_split([n_judged])
            rebuilt, foreign = made.tensor_split([len(real)])
            regard, counts = self._regard(rebuilt, real, pairs.mean, weight)
            losses["l1"] = weighted_l1(rebuilt, real, counts, regard)
            losses["edges"] = edge_l1(rebuilt, real, counts, regard)
            total = values.l1 * losses["l1"] + values.edges * losses["edges"]
            if "lent" in drawn:
                total = total + self._as_counterparts(borrowed, lent, losses)
            if values.l2:
                losses["l2"] = weighted_l2(rebuilt, real, counts, regard)
                total = total + values.l2 * losses["l2"]
            if values.tint:
                shines = shining(real)
                # Where both shine: a shape a little beside its place has no other colour.
                both = shared(shines, shining(rebuilt))
                losses["tint"] = tint_apart(tint(rebuilt, both), tint(real, both), weight)
                total = total + values.tint * losses["tint"]
            if not frozen:
                losses["action"] = functional.cross_entropy(self.action(code), action)
                person = self.sampler.person[group]
                guess = self.identity(reverse_gradient(code))
                losses["identity"] = functional.cross_entropy(guess, person)
                total = total + values.action * losses["action"]
                total = total + values.identity * losses["identity"]
            if judged:
                terms = self._judge(
                    real, group, action, made, made_group, made_action, weight, losses
                )
                total = total + drawn["judgement"] * terms
                total = total + values.cycle * self._cycle(foreign, swapped, losses)
                one, other = foreign.chunk(2)
                n, turned = len(one), self._turned(group, swapped.group)
                still = flip_where(stillness(real[:n], second[:n]), turned)
                losses["steady"] = restlessness(one, other, still)
                total = total + values.steady * losses["steady"]
                if values.counterpart and self.counterparts is not None:
                    losses["counterpart"] = self._beside_counterparts(foreign, swapped)
                    total = total + values.counterpart * losses["counterpart"]
                if values.tint:
                    mine, theirs = (
                        tint(x, shared(flip_where(place, turned), shining(x)))
                        for x, place in ((one, shines[:n]), (other, shining(second[:n])))
                    )
                    losses["tint_kept"] = tint_apart(mine, theirs, swapped.weight[:n])
                    total = total + values.tint * losses["tint_kept"]

        self.optimisers["generator"].zero_grad()
        total.backward()
        average_gradients(fabric, self.trained)
        nn.utils.clip_grad_norm_(self.trained, values.clip_norm)
        self.optimisers["generator"].step()
        self._project()
        if judged:
            average_gradients(fabric, self.discriminator.parameters())
            self.optimisers["discriminator"].step()
        update_average(self.generator_average, self.generator, values.ema)
        if not frozen:
            update_average(self.encoder_average, self.encoder, values.ema)
            update_average(self.action_average, self.action, values.ema)
        return {name: loss.detach() for name, loss in losses.items()}

    def sheet(self) -> Image.Image:
        """Real frames, the same rebuilt, and their motion with six contents from the prior."""
        random = torch.Generator().manual_seed(1)
        frames, owner, scores = self.sampler.draw_pairs(12, random)
        pairs = self.sampler.frames_of(frames.to(self.context.device))
        real, group = pairs.first, pairs.group
        others = torch.randint(len(self.regions.directions), (6,), generator=random)
        contents = [self._contents(o.expand(1), 1.0, None, random)[0] for o in others]
        own = self._contents(owner, 1.0, scores, random)[0]
        with torch.no_grad(), self.context.fabric.autocast():
            code = self.codes.whole(self.encoder_average(self._view(real, group)), pairs.action)
            # Batch statistics: those of the averaged weights are made at the end only.
            latents = [torch.cat([code, own.to(code)], 1)]
            latents += [torch.cat([code, c.to(code).expand(len(code), -1)], 1) for c in contents]
            generator = copy.deepcopy(self.generator_average).train(self.generator.training)
            made = generator(torch.cat(latents)).float()
        return grid([real, *made.split(len(real))])

    def extra(self) -> dict[str, Any]:
        return {"norms_frozen": not self.generator.training, "start_sha256": self.started}

    # Parts of a step

    def _freeze_norms(self, freeze: bool) -> None:
        """Whether batch norm takes the statistics of the training so far, not of the batch.

        What a batch of 16 happens to hold moves its statistics, and with them every code and
        every colour: noise that keeps a picture from being exact. The generator keeps the
        statistics that it has; the encoder's go on following, or it could outgrow the noise
        that is added to its codes.
        """
        fabric = self.context.fabric
        if freeze and self.generator.training and fabric.world_size > 1:
            for buffer in self.generator.buffers():
                if buffer.is_floating_point():  # one generator, whose gradients are averaged
                    buffer.copy_(fabric.all_reduce(buffer, reduce_op="mean"))  # type: ignore[arg-type]
        self.encoder.settled = freeze and _followed(self.encoder.bn)
        # A checkpoint's generator goes on with the statistics that it was made for.
        self.generator.train(not (freeze or bool(self.started)))

    def _settled(self) -> bool:
        """Whether the generator's statistics can be relied on, or are already."""
        if not self.generator.training:
            return True
        norm = next(m for m in self.generator.modules() if isinstance(m, nn.BatchNorm2d))
        return _followed(norm)

    def _set_rates(self, progress: float, judged: bool) -> None:
        values = self.values
        factor = 1.0
        if judged:
            end = values.final_rate / values.learning_rate
            factor = end + (0.5 - end) * half_cosine(progress, values.discriminator_start)
        set_rate(self.optimisers["discriminator"], values.discriminator_rate * 2 * factor)
        if self.started and progress >= values.hold:
            # Adam knows nothing yet of the gradients of weights that are good already.
            factor *= ramp(progress, values.hold, values.hold + 0.02)
        set_rate(self.optimisers["generator"], values.learning_rate * factor)

    def _push(self, progress: float) -> float:
        values = self.values
        gone = ramp(progress, values.push_hold, values.push_end)
        return values.content_push + gone * (values.push_kept - values.content_push)

    def _contents(
        self, look: Tensor, progress: float, scores: Tensor | None = None,
        random: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Contents of looks (n,), (n, content), and the weight of their frames, (n,).

        At a border between two regions no clear picture of one person is asked for; how near
        is near shrinks in the course of the training.
        """
        values, group = self.values, self.sampler.host[look]
        drawn = self.regions.draw(group, random or self.random, scores)
        drawn = mapped(self.regions.mapping(self._push(progress), values.push_blend), drawn)
        lead = self.regions.winner(drawn)[1]
        margin = values.margin_start + progress * (values.margin_end - values.margin_start)
        weight = (lead / max(margin, 1e-6)).clamp(max=1.0)
        other = look >= len(self.regions.directions)
        if bool(other.any()):
            drawn = torch.where(other[:, None], self.regions.other_look(drawn), drawn)
        return drawn, weight

    def _view(self, images: Tensor, group: Tensor) -> Tensor:
        return encoder_view(images, self.sampler.mirrored[group])

    def _encode(self, real: Tensor, group: Tensor, frozen: bool) -> Tensor:
        view = self._view(real, group)
        if frozen:
            with torch.no_grad():
                return self.encoder_average(view)
        return self.encoder(jitter(view, self.device_random, self.values.encoder_shift))

    def _noisy(self, code: Tensor, deviation: float) -> Tensor:
        return code + deviation * self.normals(*code.shape)

    def _swap(
        self, code: Tensor, noise: float, second: Tensor, group: Tensor, action: Tensor,
        drawn: Tensors,
    ) -> Swapped:  # fmt: skip
        """Two motion codes with each of as many contents as half of the swapped frames.

        The second half of them has the contents of the first, and of every clip the frame
        ``second`` (images, in which the clips' groups are ``group``).
        """
        n = self.local_swapped // 2
        with torch.no_grad():
            later = self.encoder_average(self._view(second[:n], group[:n]))
        codes = torch.cat([code[:n], self._noisy(later, noise)])
        other, weight = drawn["other"].repeat(2), drawn["other_weight"].repeat(2)
        actions = action[:n].repeat(2)
        latent = self._latent(codes, actions, drawn["other_content"].repeat(2, 1))
        return Swapped(other, actions, codes, latent, weight)

    def _latent(self, pose: Tensor, action: Tensor, content: Tensor) -> Tensor:
        return torch.cat([self.codes.whole(pose, action), content], 1)

    def _turned(self, group: Tensor, other: Tensor) -> Tensor:
        """Which of the pairs of swapped frames, whose contents' groups are the first half of
        ``other``, are mirror images of the clips ``group`` that lend them their motion."""
        n, mirrored = len(other) // 2, self.sampler.mirrored
        return mirrored[group[:n]] ^ mirrored[other[:n]]

    def _judge(
        self, real: Tensor, group: Tensor, action: Tensor, made: Tensor, made_group: Tensor,
        made_action: Tensor, weight: Tensor, losses: dict[str, Tensor],
    ) -> Tensor:  # fmt: skip
        """The discriminator's gradients (left in place), and the generator's terms.

        Frames of a pair of group and action that no clip shows are judged by their patches.
        """
        values, n = self.values, len(real)
        size, half = values.discriminator_size, max(1, n // 3)
        # Of the rebuilt frames a third is judged, all of the swapped ones.
        judged, *labels = (torch.cat([x[:half], x[n:]]) for x in (made, made_group, made_action))
        known = self.discriminator.seen[labels[0], labels[1]]
        draws = view_draws(n, self.device_random)
        made_draws = torch.cat([draws[:half], view_draws(len(made) - n, self.device_random)])
        real_view = discriminator_view(real, size, draws)
        made_view = discriminator_view(judged, size, made_draws)

        self.discriminator.requires_grad_(True)
        self.optimisers["discriminator"].zero_grad()
        whole, patches, features = self.discriminator(
            torch.cat([real_view, made_view.detach()]),
            torch.cat([group, labels[0]]),
            torch.cat([action, labels[1]]),
        )
        against = hinge_discriminator(whole[:n], whole[n:].where(known, -1.0))  # no loss
        against = against + hinge_discriminator(patches[:n], patches[n:])
        losses["discriminator"] = 0.5 * against
        losses["discriminator"].backward()

        self.discriminator.requires_grad_(False)
        whole, patches, made_features = self.discriminator(made_view, *labels)
        losses["adversarial"] = -(whole * known).mean() - patches.mean()
        losses["features"] = feature_l1(
            [f[:half] for f in made_features], [f[:half] for f in features], weight[:half]
        )
        return values.adversarial * losses["adversarial"] + values.features * losses["features"]

    def _beside_counterparts(self, made: Tensor, swapped: Swapped) -> Tensor:
        """How far swapped frames are from what their group shows in nearly their pose."""
        assert self.counterparts is not None
        real, mean, found = self.counterparts.of(swapped.code, swapped.group, swapped.action)
        regard = regard_for_movement(real, mean, self.values.moving)
        return cells_l1(made, real, swapped.weight * found, regard)

    def _lend(self, drawn: Tensors) -> Swapped:
        """The motion codes of frames, as wide as the motion network is to swing, each with a
        content of its own."""
        assert self.counterparts is not None
        frames, _, _, group, action = drawn["lent"]
        with torch.no_grad():
            images = self.sampler.images(frames, self.sampler.mirrored[group])
            code = self.encoder_average(self._view(images, group))
        code = swung(code, self.counterparts.middles[frames], self.context.config.motion.swing)
        code = self._noisy(code, self.values.lent_noise)
        latent = self._latent(code, action, drawn["lent_to_content"])
        return Swapped(drawn["lent_to"], action, code, latent, drawn["lent_to_weight"])

    def _as_counterparts(self, made: Tensor, lent: Swapped, losses: dict[str, Tensor]) -> Tensor:
        """What it costs that lent frames are not those which their group shows most nearly."""
        assert self.counterparts is not None
        values = self.values
        labels = (lent.code, lent.group, lent.action)
        real, mean, found = self.counterparts.of(*labels, made, values.lent_among)
        regard, counts = self._regard(made, real, mean, lent.weight * found)
        losses["lent_l1"] = weighted_l1(made, real, counts, regard)
        losses["lent_edges"] = edge_l1(made, real, counts, regard)
        return values.l1 * losses["lent_l1"] + values.edges * losses["lent_edges"]

    def _regard(
        self, made: Tensor, real: Tensor, mean: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """How much pixels, (n, 1, h, w), and frames, (n,), of an error count, the latter beside
        their ``weight``."""
        regard = regard_for_movement(real, mean, self.values.moving)
        if not self.values.hard:
            return regard, weight
        return regard, weight * regard_for_errors(made, real, regard, self.values.hard)

    def _cycle(self, made: Tensor, swapped: Swapped, losses: dict[str, Tensor]) -> Tensor:
        """The averaged encoder must find the motion code that swapped frames were made from."""
        weight = swapped.weight
        view = self._view(made, swapped.group)
        view = jitter(view, self.device_random, self.values.encoder_shift)
        found = self.encoder_average(view)
        apart = functional.smooth_l1_loss(found, swapped.code, reduction="none").mean(1)
        losses["cycle"] = (apart * weight).mean()
        if not self.values.action:  # an action that no single frame shows has no classifier
            return losses["cycle"]
        logits = self.action_average(found)
        named = functional.cross_entropy(logits, swapped.action, reduction="none")
        losses["cycle_right"] = (logits.argmax(1) == swapped.action).float().mean()
        return losses["cycle"] + 0.5 * (named * weight).mean()

    @torch.no_grad()
    def _project(self) -> None:
        """Keep the first layer blind to the directions of content that belong to no group.

        They are noise to every loss; what the layer made of them would only be unlearned.
        """
        kernel = self.generator.main[0].weight
        assert isinstance(kernel, Tensor)
        first = len(kernel) - len(self.projector)
        content = kernel[first:].flatten(1)
        kernel[first:] = (self.projector @ content).view_as(kernel[first:])


def _followed(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> bool:
    """Whether running statistics have seen enough batches to be relied on."""
    return norm.num_batches_tracked is not None and int(norm.num_batches_tracked) >= SETTLING


def _average_of(module: Module) -> Module:
    return copy.deepcopy(module).eval().requires_grad_(False)
