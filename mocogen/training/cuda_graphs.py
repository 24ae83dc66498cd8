"""Steps as CUDA graphs: a GPU goes through thousands of small kernels without waiting for Python.

A training step at this size is some 1,500 kernels of a few microseconds; to launch them one by
one takes Python longer than the GPU to compute them. Recorded once, they are launched in one go
(Nguyen et al. 2021, "Accelerating PyTorch with CUDA Graphs"). What a graph may not do is to ask
the GPU for a number, or to take one from the CPU: all that changes from step to step comes as
tensors, in memory of the graph's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Tensors = dict[str, Tensor]

REHEARSALS = 3
"""Steps before recording: layers and optimisers set themselves up in their first ones."""


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU's on ``device``.

    A plain copy to a GPU waits until everything before it is done, and the GPU then until the
    next kernels come; out of page-locked memory it is one of the GPU's tasks like the others.
    """
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class Recorder:
    """Runs a kind of work, and from the fourth time on replays it.

    Args:
        device: where the work runs. Only CUDA has graphs; elsewhere the work is just done.
        random: the device's generator of random numbers that the work uses.
        enabled: whether to record at all.
    """

    def __init__(self, device: torch.device, random: torch.Generator, enabled: bool) -> None:
        self.device, self.random = device, random
        self.enabled = enabled and device.type == "cuda"
        self._rehearsed: dict[Any, int] = {}
        self._graphs: dict[Any, tuple[torch.cuda.CUDAGraph, Tensors, Tensors]] = {}

    def __call__(
        self, kind: Any, work: Callable[[Tensors], Tensors], given: Mapping[str, Tensor]
    ) -> Tensors:
        """The result of ``work(given)``, with the tensors ``given`` on the device.

        Args:
            kind: names the work. All calls of one kind run the same code on tensors of the same
                shapes.
            work: depends on nothing else that changes, and leaves what it learns in place.
            given: on the CPU.

        Returns:
            Tensors on the device, which the next call may overwrite.
        """
        if not self.enabled:
            return work({name: moved(x, self.device) for name, x in given.items()})
        if kind in self._graphs:
            graph, inputs, results = self._graphs[kind]
            for name, x in given.items():
                inputs[name].copy_(x.pin_memory(), non_blocking=True)
            graph.replay()
            return results
        inputs = {name: moved(x, self.device) for name, x in given.items()}
        times = self._rehearsed[kind] = self._rehearsed.get(kind, 0) + 1
        if times <= REHEARSALS:
            return self._rehearse(work, inputs)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.random)
        with torch.cuda.graph(graph):
            results = work(inputs)
        self._graphs[kind] = graph, inputs, results
        graph.replay()
        return results

    def _rehearse(self, work: Callable[[Tensors], Tensors], inputs: Tensors) -> Tensors:
        # On a stream of its own, as what is recorded will be.
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            results = work(inputs)
        here.wait_stream(aside)
        return results
