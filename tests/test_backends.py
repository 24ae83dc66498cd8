"""Backends: which is chosen where, what they share, and 16 bits."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import mocogen
from mocogen import (
    MocogenError,
    UsageError,
    backend_choice,
    checkpoint,
    processors,
    provenance,
    torch_backend,
)
from mocogen.backend_choice import CPU_ONLY, open_backend
from mocogen.backends import Backend
from mocogen.cli import main
from mocogen.spec import NOISE_MODES, ModelSpec

from .conftest import BACKENDS

BEST_ON_A_CPU = [*BACKENDS[1:], "torch"][0]


def opened(path: Path, name: str = "auto", device: str = "auto") -> Backend:
    return open_backend(name, device, *checkpoint.read(path))


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_choice, "_may_have_gpu", lambda: False)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_cpu_gets_the_best_backend_that_is_installed(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    assert opened(tiny, device=device).name == BEST_ON_A_CPU
    monkeypatch.setattr(backend_choice, "_installed", lambda name: False)
    assert opened(tiny, device=device).name == "torch"


def test_where_a_gpu_may_be_torch_is_asked(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_choice, "_may_have_gpu", lambda: True)
    assert opened(tiny).name == "torch"
    assert opened(tiny, device="cpu").name == BEST_ON_A_CPU


@pytest.mark.parametrize("name", CPU_ONLY)
def test_a_backend_that_is_not_installed(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(backend_choice, "_installed", lambda name: False)
    with pytest.raises(MocogenError, match=f"pip install {CPU_ONLY[name]}"):
        opened(tiny, name)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_latents_are_the_same_bits_and_codes_the_same_numbers(tiny: Path, cell: str) -> None:
    """Content and noise do not pass through a backend; motion codes differ by rounding."""
    spec, _ = checkpoint.read(tiny)
    spec = replace(spec, cell=cell)
    tensors = checkpoint.tensors_of(*checkpoint.build_blank(spec))
    made = {
        name: mocogen.Model(spec, open_backend(name, "cpu", spec, tensors)) for name in BACKENDS
    }
    inputs = {
        name: np.concatenate([part for _, part in model._latents([model.clip(3, frames=20)])])
        for name, model in made.items()
    }
    for found in inputs.values():
        codes, content = np.split(found, [spec.motion], axis=1)
        wanted_codes, wanted_content = np.split(inputs["torch"], [spec.motion], axis=1)
        assert np.array_equal(content, wanted_content)
        np.testing.assert_allclose(codes, wanted_codes, atol=1e-5)


@pytest.mark.parametrize(
    ("asked", "wanted"), [("3", 3), ("1", 1), ("0", None), ("many", None), ("", None)]
)
def test_threads(monkeypatch: pytest.MonkeyPatch, asked: str, wanted: int | None) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    found = processors.threads()
    assert found == wanted if wanted else found >= 1


@pytest.mark.skipif("onnx" not in BACKENDS, reason="ONNX Runtime is not installed")
def test_onnx_runtime_gives_the_same_bits_with_any_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        made.append(mocogen.load("weizmann", "cpu", "onnx").sample(40, seed=6))
    assert np.array_equal(*made)


@pytest.mark.parametrize("name", BACKENDS)
def test_threads_that_share_a_model_get_their_own_clips(tiny: Path, name: str) -> None:
    model = mocogen.load(tiny, "cpu", name)
    seeds = range(24)
    alone = [model.sample(32, seed=seed) for seed in seeds]
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda seed: model.sample(32, seed=seed), seeds)
        wrong = [
            seed for seed, clip in zip(seeds, together, strict=True) if (clip != alone[seed]).any()
        ]
    assert wrong == []


@pytest.mark.parametrize("mode", NOISE_MODES)
def test_a_clip_does_not_depend_on_its_callers_autocast(mode: str) -> None:
    spec = ModelSpec(content=5, noise=4, hidden=8, motion=4, width=4, image_size=32)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tensors = checkpoint.tensors_of(*checkpoint.build(spec))
    tensors = {k: v * 8 if k.endswith("weight") and v.ndim == 4 else v for k, v in tensors.items()}
    backend = open_backend("torch", "cpu", spec, tensors)
    called = []
    for part in (backend._motion.linear, backend._generator[0]):  # type: ignore[attr-defined]
        part.register_forward_hook(lambda *_: called.append(torch.is_autocast_enabled("cpu")))
    model = mocogen.Model(spec, backend)
    wanted = model.sample(20, seed=1, noise_mode=mode)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.sample(20, seed=1, noise_mode=mode)
        assert torch.is_autocast_enabled("cpu")
    assert np.array_equal(found, wanted)
    assert called
    assert not any(called)
    assert wanted.std() > 5


def test_threads_leave_the_settings_of_the_process_alone(tiny: Path) -> None:
    """On a CPU they are not touched at all, so that they cannot be restored in a wrong order."""
    model = mocogen.load(tiny, "cpu", "torch")
    settings, seen = torch.backends.cudnn, []
    before = settings.deterministic, settings.allow_tf32
    layer = model.backend._generator[0]  # type: ignore[attr-defined]
    layer.register_forward_hook(
        lambda *_: seen.append((settings.deterministic, settings.allow_tf32))
    )
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: model.sample(32, seed=seed), range(8)))
    assert set(seen) == {before}
    assert (settings.deterministic, settings.allow_tf32) == before


def test_on_a_gpu_one_thread_at_a_time_has_exact_convolutions() -> None:
    settings, cuda = torch.backends.cudnn, torch.device("cuda")
    before = settings.deterministic, settings.allow_tf32
    assert before != (True, False)

    def exact(_: int) -> bool:
        with torch_backend._exact_convolutions(cuda):
            time.sleep(0.002)
            return (settings.deterministic, settings.allow_tf32) == (True, False)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(exact, range(32)))
    assert (settings.deterministic, settings.allow_tf32) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("name", [name for name in BACKENDS if name in CPU_ONLY])
def test_a_forked_process_goes_on_with_the_model(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Not with torch, whose threads a forked process waits for in vain."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    model = mocogen.load(tiny, "cpu", name)
    clip = model.sample(20, seed=1)
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork"), _keep, (model,)) as pool:
        try:
            again = pool.submit(_sample_kept).result(timeout=60)
        except TimeoutError:
            for process in list(pool._processes.values()):
                process.kill()
            raise
    assert np.array_equal(again, clip)
    assert np.array_equal(model.sample(20, seed=1), clip)


def _keep(model: mocogen.Model) -> None:
    _kept.append(model)


def _sample_kept() -> np.ndarray:
    return np.asarray(_kept[-1].sample(20, seed=1))


_kept: list[mocogen.Model] = []


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@pytest.mark.parametrize("name", BACKENDS)
def test_a_copy_of_a_model_makes_the_same_frames(
    tiny: Path, name: str, again: Callable[[mocogen.Model], mocogen.Model]
) -> None:
    model = mocogen.load(tiny, "cpu", name)
    copied = again(model)
    assert copied.backend is not model.backend
    assert copied.spec == model.spec
    for mode in ("per-frame", "constant"):
        wanted = model.sample(20, seed=1, noise_mode=mode)
        assert np.array_equal(copied.sample(20, seed=1, noise_mode=mode), wanted)
    # A copy of a copy, which has never seen the checkpoint.
    assert np.array_equal(again(copied).sample(20, seed=1), model.sample(20, seed=1))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_sixteen_bits_are_the_same_clip(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """On a CPU, where it is refused otherwise: slow, but the arithmetic can be looked at."""
    exact = mocogen.load(tiny, "cpu", "torch").sample(16, seed=1)
    with pytest.raises(UsageError, match="CUDA"):
        mocogen.load(tiny, "cpu", "torch", precision)
    monkeypatch.setattr(torch_backend, "check_precision", lambda precision, device: None)
    model = mocogen.load(tiny, "cpu", "torch", precision)
    assert model.backend.precision == precision
    off = np.abs(model.sample(16, seed=1).astype(int) - exact)
    assert 0 < off.mean() < 0.5
    assert exact.std() > 10


def test_a_clip_and_its_batch_tell_of_sixteen_bits(
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch_backend, "check_precision", lambda precision, device: None)

    def sample(*words: str) -> int | str | None:
        command = ["sample", "--checkpoint", str(tiny), "--count", "2", "--frames", "2", *words]
        monkeypatch.setattr("sys.argv", ["mocogen", *command, "--seed", "0", "--out", "x/"])
        with pytest.raises(SystemExit) as ending:
            main()
        return ending.value.code

    monkeypatch.chdir(tmp_path)
    assert not sample("--backend", "torch", "--precision", "bf16")
    made_by = provenance.read(tmp_path / "x" / "000000.gif")
    assert "--precision bf16" in provenance.command(made_by)
    capsys.readouterr()
    assert sample("--backend", "torch") == 2
    assert "precision bf16 instead of fp32" in capsys.readouterr().err


@pytest.mark.parametrize("name", BACKENDS)
def test_nothing_is_noted_in_the_home_folder(tiny: Path, tmp_path: Path, name: str) -> None:
    """Where a runtime keeps what it would report to its makers."""
    home = {key: str(tmp_path) for key in ("HOME", "USERPROFILE", "XDG_CACHE_HOME")}
    code = "import mocogen, sys; mocogen.load(sys.argv[1], backend=sys.argv[2]).sample(2, 0)"
    words = [sys.executable, "-c", code, str(tiny), name]
    subprocess.run(words, env={**os.environ, **home}, check=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send oneself")
@pytest.mark.parametrize("name", BACKENDS)
def test_ctrl_c_is_handled_when_models_went_in_the_order_in_which_they_came(
    tiny: Path, name: str
) -> None:
    """Runtimes with a stack of their own for signals must not leave Python's handler one that
    is gone."""
    code = """if True:
        import mocogen, os, signal, sys, time
        models = [mocogen.load(sys.argv[1], "cpu", sys.argv[2]) for _ in range(2)]
        for model in models:
            model.sample(2, 0)
        del model, models[0], models[0]
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except KeyboardInterrupt:
            print("interrupted")
    """
    words = [sys.executable, "-c", code, str(tiny), name]
    ended = subprocess.run(words, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "interrupted\n"), ended.stderr
