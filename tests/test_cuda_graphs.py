"""Steps as CUDA graphs, and steps where there are none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning_fabric")

from mocogen.training.cuda_graphs import Recorder, Tensors, moved
from mocogen.training.run import train
from tests.test_training import losses, tiny
from tests.test_training_data import frames, write_strip

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def counting(total: torch.Tensor, random: torch.Generator, calls: list[int]):
    def work(given: Tensors) -> Tensors:
        calls.append(1)
        total.add_(given["more"])
        return {"total": total + torch.rand(2, generator=random, device=total.device)}

    return work


@pytest.mark.parametrize("enabled", [True, False])
def test_without_a_gpu_the_work_is_just_done(enabled: bool) -> None:
    random, calls, total = torch.Generator().manual_seed(0), [], torch.zeros(2)
    recorder = Recorder(torch.device("cpu"), random, enabled)
    assert not recorder.enabled
    work = counting(total, random, calls)
    for _ in range(6):
        result = recorder("sum", work, {"more": torch.tensor([1.0, 2.0])})
    assert len(calls) == 6
    assert total.tolist() == [6.0, 12.0]
    assert ((result["total"] - total) < 1).all()


@needs_cuda
def test_a_recorded_step_goes_on_as_the_first_ones_did() -> None:
    device, results = torch.device("cuda"), {}
    for enabled in (True, False):
        random = torch.Generator(device).manual_seed(0)
        total, calls = torch.zeros(2, device=device), []
        recorder = Recorder(device, random, enabled)
        work = counting(total, random, calls)
        for k in range(8):
            given = {"more": torch.tensor([1.0, float(k)])}
            results[enabled, k] = recorder("sum", work, given)["total"].tolist()
        assert len(calls) == (4 if enabled else 8)
    for k in range(8):
        assert results[True, k] == results[False, k]


@needs_cuda
def test_copies_to_a_gpu_arrive() -> None:
    many = [torch.full((1000,), k) for k in range(50)]
    there = [moved(x, torch.device("cuda")) for x in many]
    assert all(torch.equal(x, y.cpu()) for x, y in zip(many, there, strict=True))


@needs_cuda
def test_a_run_learns_the_same_with_graphs_and_without(tmp_path: Path) -> None:
    for action in ("a", "b"):
        for person in range(2):
            write_strip(tmp_path / "clips" / action / f"p{person}.png", frames(10, 32, person))
    steps = ["generator.steps=36", "generator.encoder_freeze=0.6", "run.stages=generator"]
    for graphs in ("true", "false"):
        train(tmp_path / "clips", tmp_path / graphs, tiny(*steps, f"run.graphs={graphs}"), "cuda")
    pairs = [losses(tmp_path / graphs, "generator") for graphs in ("true", "false")]
    for recorded, plain in zip(*pairs, strict=True):
        assert recorded == pytest.approx(plain, rel=0.1, abs=0.05)


@needs_cuda
def test_a_state_of_the_gpu_goes_on_on_the_cpu_and_back(tmp_path: Path) -> None:
    for action in ("a", "b"):
        write_strip(tmp_path / "clips" / action / "p.png", frames(10, 32, 0))
    for count, device in ((8, "cuda"), (12, "cpu"), (20, "cuda")):
        config = tiny("run.stages=generator", f"generator.steps={count}")
        train(tmp_path / "clips", tmp_path / "run", config, device, resume=count > 8)
    assert [line["step"] for line in losses(tmp_path / "run", "generator")] == list(range(1, 21))
