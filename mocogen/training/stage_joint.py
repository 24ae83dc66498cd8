"""Third stage: both networks against the discriminators D_I and D_V, as MoCoGAN is trained.

Tulyakov et al. 2018, sections 3.2 and 3.3: D_I judges single frames, D_V clips; D_V also
reads the action off a clip, whose log-likelihood is the category term (the lower bound on
mutual information of InfoGAN, Chen et al. 2016). The stage refines what the generator and
motion stages of the same run have left, and where there is nothing, it starts from noise.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from .config import JointConfig
from .content import mapped
from .cuda_graphs import moved
from .losses import hinge_discriminator, log_discriminator, log_generator
from .networks import ImageDiscriminator, VideoDiscriminator, image_generator, motion_network
from .optimisation import average_gradients, linear_decay, set_rate, update_average
from .sampling import FrameSampler
from .sheets import grid
from .stage import Context, Stage
from .trained import basis_of, separate_networks


class JointStage(Stage):
    """Generator, motion network, D_I and D_V.

    Saved for the checkpoint: ``generator_average``, ``motion_average``.
    """

    name = "joint"
    values: JointConfig

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        config, clips, device = context.config, context.clips, context.device
        self.values = values = config.joint
        model = config.model
        self.actions = len(clips.actions)
        self.sampler = FrameSampler(clips, device)
        with context.initialising(self.name):
            generator = image_generator(model)
            motion = motion_network(model, self.actions)
            images = ImageDiscriminator(values.discriminator_width, values.spectral)
            video = VideoDiscriminator(values.discriminator_width, values.spectral, self.actions)
        earlier = separate_networks(context)
        self.refines, self.mapping = earlier is not None, None
        if earlier is not None:
            self.basis, self.mapping = basis_of(earlier), earlier.mapping
            motion.load_state_dict(earlier.motion.state_dict())
            generator.load_state_dict(earlier.generator.state_dict())
            generator.train(not earlier.norms_frozen)
        channels_last: Any = {"memory_format": torch.channels_last}
        self.generator = generator.to(device, **channels_last)
        self.motion = motion.to(device)
        self.images = images.to(device, **channels_last)
        self.video = video.to(device)
        self.generator_average = copy.deepcopy(self.generator).requires_grad_(False)
        self.motion_average = copy.deepcopy(self.motion).requires_grad_(False)
        # A motion network that comes from its own stage has batch norm switched off.
        self.motion.train(not self.refines)
        self.modules = {
            "generator": self.generator,
            "motion": self.motion,
            "images": self.images,
            "video": self.video,
            "generator_average": self.generator_average,
            "motion_average": self.motion_average,
        }
        self.first = None
        if self.refines:
            self.first = copy.deepcopy(self.generator).requires_grad_(False)
            self.modules["first"] = self.first
        self.trained = [*self.generator.parameters(), *self.motion.parameters()]
        self.judges = [*self.images.parameters(), *self.video.parameters()]
        betas = (values.beta1, values.beta2)
        self.optimisers = {
            "generator": torch.optim.Adam(self.trained, values.learning_rate, betas),
            "discriminators": torch.optim.Adam(self.judges, values.discriminator_rate, betas),
        }
        self.local_batch = max(1, values.batch // context.fabric.world_size)

    def step(self, progress: float) -> dict[str, Tensor]:
        values, fabric = self.values, self.context.fabric
        factor = linear_decay(progress) if values.decay else 1.0
        set_rate(self.optimisers["generator"], values.learning_rate * factor)
        set_rate(self.optimisers["discriminators"], values.discriminator_rate * factor)
        n, frames = self.local_batch, values.frames
        real, action = self.sampler.draw_clips(n, frames, values.skip, self.random)
        losses: dict[str, Tensor] = {}
        with fabric.autocast():
            category = None
            if self.actions:
                category = torch.randint(self.actions, (n,), generator=self.random)
                category = moved(category, self.context.device)
            latent = self._latents(n, category)
            made = self.generator(latent).float()
            clips = made.unflatten(0, (n, frames))
            real_pair, made_pair = self._shown(real), self._shown(clips)

            for judge in (self.images, self.video):
                judge.requires_grad_(True)
            self.optimisers["discriminators"].zero_grad()
            against = hinge_discriminator if values.loss == "hinge" else log_discriminator
            losses["image"] = against(self.images(real_pair[0]), self.images(made_pair[0].detach()))
            judged_real, named_real = self.video(real_pair[1])
            judged_made, _ = self.video(made_pair[1].detach())
            losses["video"] = against(judged_real, judged_made)
            total = losses["image"] + losses["video"]
            if named_real is not None:
                # The clips have labels, so D_V's reading of the action is learned from them.
                losses["category"] = functional.cross_entropy(named_real, action)
                total = total + losses["category"]
            total.backward()

            for judge in (self.images, self.video):
                judge.requires_grad_(False)
            image_logits = self.images(made_pair[0])
            video_logits, named = self.video(made_pair[1])
            fooled = _mean_negative if values.loss == "hinge" else log_generator
            losses["image_fooled"] = fooled(image_logits)
            losses["video_fooled"] = fooled(video_logits)
            total = values.image * losses["image_fooled"] + values.video * losses["video_fooled"]
            if named is not None and category is not None:
                losses["category_made"] = functional.cross_entropy(named, category)
                total = total + values.category * losses["category_made"]
            if self.first is not None and values.keep:
                with torch.no_grad():
                    before = self.first(latent).float()
                losses["kept"] = (made - before).abs().mean()
                total = total + values.keep * losses["kept"]
        self.optimisers["generator"].zero_grad()
        total.backward()
        average_gradients(fabric, self.trained)
        average_gradients(fabric, self.judges)
        self.optimisers["generator"].step()
        self.optimisers["discriminators"].step()
        update_average(self.generator_average, self.generator, values.ema)
        update_average(self.motion_average, self.motion, values.ema)
        return losses

    def extra(self) -> dict[str, Any]:
        return {"norms_frozen": not self.generator.training}

    def _latents(self, n: int, category: Tensor | None) -> Tensor:
        """Latents of n clips, (n * frames, motion + content), every ``skip``-th frame of them."""
        model, values, device = self.context.config.model, self.values, self.context.device
        before = self.context.config.motion.warm_up
        length = before + 1 + (values.frames - 1) * values.skip
        noise = self.normals(length, n, model.noise)
        content = mapped(self.mapping, torch.randn(n, model.content, generator=self.random))
        codes = self.motion(noise, None, category)[before :: values.skip].transpose(0, 1)
        contents = moved(content, device)[:, None].expand(-1, values.frames, -1)
        return torch.cat([codes.float(), contents], 2).flatten(0, 1)

    def _shown(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Clips (n, T, 3, h, w) as the discriminators see them: a frame of each for D_I, and
        (n, 3, T, h, w) for D_V, both with noise, which keeps them from winning too soon."""
        n, frames = clips.shape[:2]
        at = moved(torch.randint(frames, (n,), generator=self.random), clips.device)
        single = clips[torch.arange(n, device=clips.device), at]
        video = clips.transpose(1, 2)
        if self.values.noise:
            single = single + self.values.noise * self.normals(*single.shape)
            video = video + self.values.noise * self.normals(*video.shape)
        return single, video

    def sheet(self) -> Image.Image:
        """Eight clips from the averaged networks, every second of 16 frames."""
        model, device = self.context.config.model, self.context.device
        random = torch.Generator().manual_seed(1)
        before = self.context.config.motion.warm_up
        noise = torch.randn(before + 16, 8, model.noise, generator=random).to(device)
        content = mapped(self.mapping, torch.randn(8, model.content, generator=random)).to(device)
        category = torch.arange(8).to(device) % self.actions if self.actions else None
        motion = copy.deepcopy(self.motion_average).train(not self.refines)
        generator = copy.deepcopy(self.generator_average).train(self.generator.training)
        with torch.no_grad(), self.context.fabric.autocast():
            codes = motion(noise, None, category)[before::2].float()
            latent = torch.cat([codes, content.expand(len(codes), -1, -1)], 2)
            images = generator(latent.flatten(0, 1)).float().unflatten(0, latent.shape[:2])
        return grid([images[:, k] for k in range(8)])


def _mean_negative(logits: Tensor) -> Tensor:
    """The generator's side of the hinge loss."""
    return -logits.mean()
