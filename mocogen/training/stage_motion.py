"""Second stage: the motion network learns to make the trajectories that the encoder finds.

A sequential variational autoencoder (Chung et al. 2015 in spirit): a bidirectional GRU sees
a trajectory and gives, for every frame, mean and variance of the noise that the motion
network would need to make it; the motion network turns noise and action into a trajectory.
The KL divergence from N(0, I) is weak for the first frame, whose noise chooses phase and
style, and strong for the later ones, so that the movement does not need their noise and does
not jitter with it. A critic compares trajectories from pure noise with real ones.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from ..errors import MocogenError
from ..generator import from_pixels
from ..motion import MotionNetwork
from .augment import encoder_view
from .codes import MotionCodes, swung
from .config import MotionConfig
from .content import ContentRegions, content_mapping, mapped
from .cuda_graphs import moved
from .losses import gaussian_kl, hinge_discriminator
from .networks import MotionEncoder, TrajectoryCritic, image_generator, motion_network
from .optimisation import average_gradients, linear_decay, set_rate, update_average
from .sampling import back_and_forth
from .sheets import grid
from .stage import Context, Stage
from .states import config_of, fingerprint, last_state, norms_frozen, read_state, state_path


@dataclass(frozen=True)
class Trajectories:
    """The clips as paths through motion space, as wide as asked for (``swing``), whitened.

    Attributes:
        paths: (T, motion) each, one for every clip that is not mirrored (a mirrored clip has
            the same path, since the encoder sees it turned back).
        actions: index of each path's action.
        mean: (motion,) of all codes, every clip counting equally.
        whitening: (motion, motion); whitened = (code - mean) @ whitening.
        encoder: names the encoder's weights, so that paths of another are not mixed up.
    """

    paths: list[Tensor]
    actions: list[int]
    mean: Tensor
    whitening: Tensor
    encoder: str

    @property
    def unwhitening(self) -> Tensor:
        """(motion, motion); code = whitened @ unwhitening + mean."""
        return torch.linalg.inv(self.whitening.double()).float()


@dataclass(frozen=True)
class ActionPaths:
    """The paths of one action.

    Attributes:
        action: its index.
        rows: which of :attr:`Trajectories.paths` show it, at least one.
        centre: (motion,), their mean.
        moments: (2, motion), see :func:`moments`.
    """

    action: int
    rows: list[int]
    centre: Tensor
    moments: Tensor


def load_encoder(context: Context) -> MotionEncoder:
    """The averaged motion encoder of the run's generator stage, in eval mode.

    Raises:
        MocogenError: that stage has not been run, or its state does not fit.
    """
    state = last_state(context, "generator")
    if state is None:
        raise MocogenError(
            "the motion stage needs the generator stage's state, and there is no "
            f"{state_path(context.folder, 'generator')}: run that stage first"
        )
    config = context.config
    with torch.random.fork_rng(devices=[]):  # its first values are overwritten
        encoder = MotionCodes(config, len(context.clips.actions)).encoder()
    encoder.load_state_dict(state["modules"]["encoder_average"])
    return encoder.eval().requires_grad_(False)


@torch.no_grad()
def encode_clips(context: Context, encoder: MotionEncoder) -> Trajectories:
    """Whitened trajectories of all clips, each swinging as wide about its mean as the motion
    network is to; those of endless actions are closed to loops."""
    clips, values = context.clips, context.config.motion
    encoder = encoder.to(context.device)
    codes = MotionCodes(context.config, len(clips.actions))
    paths, actions = [], []
    for clip in clips.filmed:
        frames = torch.from_numpy(clips.frames[clip.start : clip.start + clip.length])
        images = from_pixels(frames.to(context.device))
        upright = torch.zeros(len(images), dtype=torch.bool, device=context.device)
        path = encoder(encoder_view(images, upright)).float().cpu()
        action = clips.action_index(clip)
        path = codes.whole(path, torch.full((len(path),), action))
        path = swung(path, path.mean(0), values.swing)
        if clip.action in values.endless:
            path = _closed(path, values.smooth_join)
        paths.append(path)
        actions.append(action)
    # Every clip weighs the same, however long it is.
    mean = torch.stack([path.mean(0) for path in paths]).mean(0)
    spread = torch.stack([(path - mean).t() @ (path - mean) / len(path) for path in paths]).mean(0)
    eigenvalues, vectors = torch.linalg.eigh(spread.double())
    # Directions that hardly vary are not blown up to noise.
    scale = eigenvalues.clamp_min(float(eigenvalues.max()) * 1e-3).rsqrt()
    whitening = (vectors * scale @ vectors.t()).float()
    paths = [(path - mean) @ whitening for path in paths]
    return Trajectories(paths, actions, mean, whitening, fingerprint(encoder.state_dict()))


def moments(paths: Sequence[Tensor], centre: Tensor) -> Tensor:
    """Mean squares of paths (frames, motion): (2, motion), of their distances from the centre
    (motion,) and of their velocities."""
    places = torch.cat([path - centre for path in paths])
    velocities = torch.cat([path[1:] - path[:-1] for path in paths])
    return torch.stack([places.square().mean(0), velocities.square().mean(0)])


def _by_action(trajectories: Trajectories, device: torch.device) -> list[ActionPaths]:
    """The paths on ``device``, action by action; those of which there are none left out."""
    found = []
    for action in sorted(set(trajectories.actions)):
        rows = [k for k, a in enumerate(trajectories.actions) if a == action]
        paths = [trajectories.paths[row].to(device) for row in rows]
        centre = torch.cat(paths).mean(0)
        found.append(ActionPaths(action, rows, centre, moments(paths, centre)))
    return found


def _closed(path: Tensor, frames: int) -> Tensor:
    """A path whose end leads back to its start, by cosine interpolation over ``frames``."""
    if not frames:
        return path
    at = torch.arange(1, frames + 1) / (frames + 1)
    share = (0.5 - 0.5 * torch.cos(torch.pi * at))[:, None]
    return torch.cat([path, path[-1] + share * (path[0] - path[-1])])


class NoisePosterior(nn.Module):
    """From a trajectory and its action to mean and log variance of every frame's noise."""

    def __init__(self, motion: int, noise: int, actions: int, hidden: int) -> None:
        super().__init__()
        self.actions = actions
        self.gru = nn.GRU(motion + actions, hidden, bidirectional=True)
        self.out = nn.Linear(2 * hidden, 2 * noise)
        nn.init.zeros_(self.out.bias)

    def forward(self, path: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Paths (frames, n, motion), actions (n,), to two tensors (frames, n, noise)."""
        named = functional.one_hot(action, self.actions).to(path).expand(len(path), -1, -1)
        hidden = self.gru(torch.cat([path, named], 2))[0]
        mean, log_variance = self.out(hidden).chunk(2, 2)
        return mean, log_variance.clamp(-8.0, 2.0)


class MotionStage(Stage):
    """Motion network, noise posterior and critic.

    The saved ``motion_average`` is the motion network in units of the encoder's codes: its
    linear layer undoes the whitening (see :func:`unwhitened`).
    """

    name = "motion"
    values: MotionConfig

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        config, clips, device = context.config, context.clips, context.device
        self.values = config.motion
        model = config.model
        self.actions = max(1, len(clips.actions))
        self.encoder = load_encoder(context)
        self.trajectories = encode_clips(context, self.encoder)
        self.basis = self.trajectories.encoder
        with context.initialising(self.name):
            motion = motion_network(model, len(clips.actions))
            posterior = NoisePosterior(model.motion, model.noise, self.actions, 96)
            critic = TrajectoryCritic(model.motion, self.actions, self.values.critic_width)
        # The paths are whitened already: batch norm must not change them, so it stays in eval
        # mode with mean 0 and a variance that makes it exactly the identity.
        assert motion.bn is not None
        assert motion.bn.running_var is not None
        motion.bn.running_var.fill_(1.0 - motion.bn.eps)
        self.motion = motion.to(device).eval()
        self.posterior, self.critic = posterior.to(device), critic.to(device)
        self.motion_average = copy.deepcopy(self.motion).requires_grad_(False)
        self.modules = {
            "motion": self.motion,
            "posterior": self.posterior,
            "critic": self.critic,
            "motion_average_whitened": self.motion_average,
        }
        self.trained = [*self.motion.parameters(), *self.posterior.parameters()]
        self.optimisers = {
            "motion": torch.optim.Adam(self.trained, self.values.learning_rate, (0.9, 0.99)),
            "critic": torch.optim.Adam(
                self.critic.parameters(), self.values.critic_rate, (0.5, 0.99)
            ),
        }
        self.local_batch = max(2, self.values.batch // context.fabric.world_size)
        self.by_action = _by_action(self.trajectories, device)
        self.codes = MotionCodes(config, len(clips.actions))
        self.mean = self.trajectories.mean.to(device)
        self.unwhitening = self.trajectories.unwhitening.to(device)

    def extra(self) -> dict[str, Any]:
        """The motion network as the checkpoint wants it."""
        folded = unwhitened(self.motion_average, self.trajectories)
        return {"motion_average": folded.state_dict()}

    def draw(self, length: int) -> tuple[Tensor, Tensor]:
        """Real windows (length, n, motion) and their actions (n,), actions in equal shares.

        A path shorter than the window goes on at its start where its action is endless, and
        back and forth otherwise.
        """
        picks = torch.rand(self.local_batch, 3, generator=self.random).tolist()
        windows, actions = [], []
        for action_pick, clip_pick, start_pick in picks:
            rows = self.by_action[int(action_pick * len(self.by_action))].rows
            row = rows[int(clip_pick * len(rows))]
            path, action = self.trajectories.paths[row], self.trajectories.actions[row]
            named = self.context.clips.actions
            loop = bool(named) and named[action] in self.values.endless
            room = len(path) if loop else max(1, len(path) - length + 1)
            at = int(start_pick * room) + torch.arange(length)
            at = at % len(path) if loop else back_and_forth(at, len(path))
            windows.append(path[at])
            actions.append(action)
        device = self.context.device
        return moved(torch.stack(windows, 1), device), moved(torch.tensor(actions), device)

    def _unroll(self, noise: Tensor, action: Tensor) -> Tensor:
        return self.motion(noise, None, action if self.motion.categories else None)

    def step(self, progress: float) -> dict[str, Tensor]:
        values, fabric = self.values, self.context.fabric
        rate = linear_decay(progress)
        set_rate(self.optimisers["motion"], values.learning_rate * rate)
        set_rate(self.optimisers["critic"], values.critic_rate * rate)
        real, action = self.draw(values.window)

        mean, log_variance = self.posterior(real, action)
        noise = mean + (0.5 * log_variance).exp() * self.normals(*mean.shape)
        made = self._unroll(noise, action)
        position = (made - real).square().sum(2).mean()
        velocity = ((made[1:] - made[:-1]) - (real[1:] - real[:-1])).square().sum(2).mean()
        kl = gaussian_kl(mean, log_variance).mean(1)  # (frames,)
        losses = {"position": position, "velocity": velocity}
        losses["kl_first"], losses["kl_later"] = kl[0], kl[1:].mean()
        frames = len(real)
        # Per frame, like the squared errors: the first frame's KL counts once a window.
        divergence = (values.kl_first * kl[0] + values.kl_later * kl[1:].sum()) / frames
        total = position + values.velocity * velocity + divergence

        free = self._from_prior(action)
        self.critic.requires_grad_(True)
        self.optimisers["critic"].zero_grad()
        losses["critic"] = 0.5 * hinge_discriminator(
            self.critic(real, action), self.critic(free.detach(), action)
        )
        losses["critic"].backward()
        average_gradients(fabric, self.critic.parameters())
        self.optimisers["critic"].step()
        self.critic.requires_grad_(False)
        losses["judged"] = -self.critic(free, action).mean()
        total = total + values.critic * losses["judged"]
        if values.moments:
            losses["moments"] = self._moments_apart(free, action)
            total = total + values.moments * losses["moments"]
        if values.named and self.codes.named:
            codes = free @ self.unwhitening + self.mean
            losses["named"] = self.codes.misnamed(codes, action).mean()
            total = total + values.named * losses["named"]

        self.optimisers["motion"].zero_grad()
        total.backward()
        average_gradients(fabric, self.trained)
        nn.utils.clip_grad_norm_(self.trained, values.clip_norm)
        self.optimisers["motion"].step()
        update_average(self.motion_average, self.motion, values.ema)
        return losses

    def _from_prior(self, action: Tensor) -> Tensor:
        """A window of trajectories from pure noise, for a share out of the middle of long ones."""
        values, noise = self.values, self.motion.noise_size
        before = values.warm_up
        if float(torch.rand((), generator=self.random)) < values.long_share:
            room = values.long_window - values.window
            before += int(torch.randint(room + 1, (), generator=self.random))
        category = action if self.motion.categories else None
        state = None
        if before:
            # What lies before the window only brings the state to where long clips have it.
            with torch.no_grad():
                early = self.normals(before, len(action), noise)
                state = self.motion.unroll(early, None, category)[1]
        late = self.normals(values.window, len(action), noise)
        return self.motion.unroll(late, None, category, state)[0]

    def _moments_apart(self, free: Tensor, action: Tensor) -> Tensor:
        """How far the variances of paths (frames, n, motion) are from those of the clips.

        A path that explains all frames on average moves a little less than any of them, and
        what the network loses at every turn it lacks in the long run. Relative to the whole
        variance, so that what hardly varies does not count; the mean over actions.
        """
        apart = []
        for real in self.by_action:
            mine = action == real.action
            if bool(mine.any()):
                made = moments(free[:, mine].unbind(1), real.centre)
                difference = (made - real.moments).abs().sum(1)
                apart.append((difference / real.moments.sum(1)).sum())
        return torch.stack(apart).mean()

    def sheet(self) -> Image.Image:
        """Frames of each action from the generator and the averaged motion network."""
        state = read_state(state_path(self.context.folder, "generator"))
        model = self.context.config.model
        with torch.random.fork_rng(devices=[]):  # its first values are overwritten
            generator = image_generator(model)
        generator.load_state_dict(state["modules"]["generator_average"])
        generator.to(self.context.device).train(not norms_frozen(state))
        motion = unwhitened(self.motion_average, self.trajectories).to(self.context.device)
        random = torch.Generator().manual_seed(1)
        n = 2 * self.actions
        frames = self.values.warm_up + 64
        noise = torch.randn(frames, n, model.noise, generator=random).to(self.context.device)
        action = torch.arange(n).to(self.context.device) % self.actions
        groups = len(self.context.clips.groups)
        regions = ContentRegions(groups, model.content, self.context.config.run.seed)
        group = torch.randint(groups, (n,), generator=random)
        mapping = content_mapping(config_of(state), self.context.clips)
        content = mapped(mapping, regions.draw(group, random)).to(self.context.device)
        with torch.no_grad():
            codes = motion(noise, None, action if motion.categories else None)
            codes = codes[self.values.warm_up :: 5]
            latent = torch.cat([codes, content.expand(len(codes), -1, -1)], 2)
            images = generator(latent.flatten(0, 1)).unflatten(0, latent.shape[:2])
        return grid([images[:, k] for k in range(n)])


@torch.no_grad()
def unwhitened(motion: MotionNetwork, trajectories: Trajectories) -> MotionNetwork:
    """A copy whose output are the encoder's codes, in eval mode.

    code = whitened @ W^-1 + mean goes into the linear layer; batch norm remains the identity.
    """
    folded = copy.deepcopy(motion).eval()
    assert folded.linear is not None
    inverse = trajectories.unwhitening.to(folded.linear.weight)
    mean = trajectories.mean.to(folded.linear.weight)
    folded.linear.weight.copy_(inverse.t() @ folded.linear.weight)
    folded.linear.bias.copy_(folded.linear.bias @ inverse + mean)
    return folded
