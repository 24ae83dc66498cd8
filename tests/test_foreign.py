"""Networks that others trained: told by keys and shapes, sampled in their own manner."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import mocogen
from mocogen import MocogenError, UsageError, foreign, latents
from mocogen.backend_choice import open_backend
from mocogen.generator import Generator

from .conftest import BACKENDS


def course_generator(path: Path, image_size: int = 64, inputs: int = 60) -> Path:
    """An untrained image generator in a torch-saved file of the course's layout."""
    torch.manual_seed(1)
    state = Generator(latent_size=inputs, width=4, image_size=image_size).state_dict()
    state = {k: v * 8 if v.dim() == 4 else v for k, v in state.items()}
    torch.save(state, path)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return course_generator(tmp_path / "Generator_I-120000.model")


def authors_module(path: Path, categories: int) -> Path:
    """Generator and GRU in one state dict, as extracted from the authors' module."""
    torch.manual_seed(2)
    state = {f"recurrent.{k}": v for k, v in nn.GRUCell(10, 10).state_dict().items()}
    generator = Generator(latent_size=60, categories=categories, width=4, image_size=64)
    torch.save({**state, **generator.state_dict()}, path)
    return path


def model_of(image: Path, motion: Path | None, backend: str) -> mocogen.Model:
    spec, tensors = foreign.read_pair(image, motion)
    return mocogen.Model(spec, open_backend(backend, "cpu", spec, tensors))


def motion_codes(model: mocogen.Model, seed: int, frames: int) -> np.ndarray:
    return np.concatenate([codes for _, codes in model._latents([model.clip(seed, frames=frames)])])


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_courses_pair(image: Path, data: Path, backend: str):
    """One noise vector for the whole clip; torch's own LSTM cell gives the same motion."""
    weights = data / "course" / "LSTM-120000.model"
    model = model_of(image, weights, backend)
    spec = model.spec
    assert (spec.cell, spec.noise_mode, spec.pixel_range) == ("lstm", "constant", (0.0, 1.0))
    assert (spec.motion, spec.content, spec.image_size) == (10, 50, 64)
    assert spec.latent_order == ("motion", "content")

    state = torch.load(weights, map_location="cpu", weights_only=True)
    cell = nn.LSTMCell(10, 100)
    cell.load_state_dict({k[5:]: v for k, v in state.items() if k.startswith("lstm.")})
    h = c = torch.zeros(1, 100)
    noise = torch.from_numpy(latents.noise(3, 0, 1, 10))
    expected = []
    with torch.no_grad():
        for _ in range(20):
            h, c = cell(noise, (h, c))
            code = h @ state["linear.weight"].T + state["linear.bias"]
            spread = (state["bn.running_var"] + 1e-5).sqrt()
            expected.append(((code - state["bn.running_mean"]) / spread)[0].numpy())
    got = motion_codes(model, 3, 20)
    assert np.allclose(got[:, :10], expected, atol=1e-4)
    assert np.array_equal(got[0, 10:], latents.content(3, 50))


@pytest.mark.parametrize("backend", BACKENDS)
def test_dlhacks_pair(image: Path, data: Path, backend: str):
    """The GRU is fed with its own linear output, ahead of the batch norm."""
    weights = data / "dlhacks" / "GRU_epoch-120000.model"
    model = model_of(image, weights, backend)
    assert (model.spec.cell, model.spec.noise_mode) == ("gru", "feedback")

    state = torch.load(weights, map_location="cpu", weights_only=True)
    cell = nn.GRUCell(10, 100)
    cell.load_state_dict({k[4:]: v for k, v in state.items() if k.startswith("gru.")})
    h = torch.zeros(1, 100)
    inputs = torch.from_numpy(latents.noise(3, 0, 1, 10))
    expected = []
    with torch.no_grad():
        for _ in range(20):
            h = cell(inputs, h)
            inputs = h @ state["linear.weight"].T + state["linear.bias"]
            spread = (state["bn.running_var"] + 1e-5).sqrt()
            expected.append(((inputs - state["bn.running_mean"]) / spread)[0].numpy())
    assert np.allclose(motion_codes(model, 3, 20)[:, :10], expected, atol=1e-4)


@pytest.mark.parametrize("categories", [0, 6])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_authors_own_layout(tmp_path: Path, categories: int, backend: str):
    """Content first, then the category, then a GRU's bare state that starts from noise."""
    model = model_of(authors_module(tmp_path / "authors.pt", categories), None, backend)
    spec = model.spec
    assert (spec.initial_state, spec.noise_mode, spec.head) == ("normal", "per-frame", False)
    assert len(spec.actions) == categories
    got = motion_codes(model, 5, 1)[0]
    assert np.array_equal(got[:50], latents.content(5, 50))
    assert got[50 : 50 + categories].sum() == (1 if categories else 0)

    cell = nn.GRUCell(10, 10)
    state = torch.load(tmp_path / "authors.pt", weights_only=True)
    cell.load_state_dict({k[10:]: v for k, v in state.items() if k.startswith("recurrent.")})
    start = torch.from_numpy(latents.initial_state(5, 10))[None]
    with torch.no_grad():
        first = cell(torch.from_numpy(latents.noise(5, 0, 1, 10)), start)
    assert np.allclose(got[-10:], first[0], atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_action_of_the_authors_layout_is_its_category(tmp_path: Path, backend: str):
    """It comes after the content; what their generator makes of it lies from -1 to 1."""
    model = model_of(authors_module(tmp_path / "authors.pt", 6), None, backend)
    assert model.spec.pixel_range == (-1.0, 1.0)
    for k, one_hot in enumerate(np.eye(6)):
        (_, latent), *_ = model._latents([model.clip(5, frames=4, action=str(k))])
        assert np.array_equal(latent[:, 50:56], np.tile(one_hot, (4, 1)))


def test_a_converted_pair_gives_the_same_clips(run, image: Path, data: Path, tmp_path: Path):
    weights = data / "course" / "LSTM-120000.model"
    done = run("convert", "--generator", image, "--motion", weights, "--out", "mine.safetensors")
    assert done.returncode == 0, done.stderr
    assert "constant noise" in done.stderr
    pair = ("--generator", image, "--motion", weights)
    assert run("sample", *pair, "--seed", 4, "--out", "pair.npy").returncode == 0
    native = run("sample", "--checkpoint", "mine.safetensors", "--seed", 4, "--out", "own.npy")
    assert native.returncode == 0, native.stderr
    frames = np.load(tmp_path / "pair.npy")
    assert frames.shape == (48, 64, 64, 3)
    assert np.array_equal(frames, np.load(tmp_path / "own.npy"))
    # Values below 0 are black and above 1 white; neither wraps around.
    assert frames.min() == 0
    assert all(v.dtype == torch.float32 for v in load_file(tmp_path / "mine.safetensors").values())


def test_a_converted_pair_has_a_name_that_can_be_read(run, image: Path, data: Path, tmp_path: Path):
    pair = ("--generator", image, "--motion", data / "course" / "LSTM-120000.model")
    done = run("convert", *pair, "--out", "my model (1).safetensors")
    assert done.returncode == 0, done.stderr
    assert "--checkpoint 'my model (1).safetensors'" in done.stderr
    assert mocogen.load(tmp_path / "my model (1).safetensors").spec.name == "my-model--1-"
    refused = run("convert", *pair, "--name", "a/b", "--out", "other.safetensors")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "a name begins with a letter" in refused.stderr
    assert not (tmp_path / "other.safetensors").exists()


def test_pickled_code_is_never_run(tmp_path: Path, image: Path):
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(MocogenError, match="save its state_dict"):
        foreign.read_pair(tmp_path / "module.pt", None)
    with pytest.raises(MocogenError, match="save its state_dict"):
        foreign.read_pair(image, tmp_path / "module.pt")


def test_files_that_do_not_fit(tmp_path: Path, image: Path):
    def saved(name: str, value: object) -> Path:
        torch.save(value, tmp_path / name)
        return tmp_path / name

    (tmp_path / "text.pt").write_text("hello")
    lstm = {f"lstm.{k}": v for k, v in nn.LSTMCell(10, 8).state_dict().items()}
    kernel = {"main.12.weight": torch.zeros(4, 3, 4, 4)}
    short = tmp_path / "short.pt"
    short.write_bytes(image.read_bytes()[:5000])
    for generator, motion, said in (
        (tmp_path / "none.pt", None, "no such file"),
        (tmp_path / "text.pt", None, "not a torch-saved"),
        (short, None, "not a torch-saved"),
        (saved("list.pt", [1, 2]), None, "not a state dict"),
        (saved("sparse.pt", {"a": torch.eye(3).to_sparse()}), None, "not a state dict"),
        (
            saved("view.pt", {"a": torch.zeros(1).expand(10**6, 10**6)}),
            None,
            "larger than the file",
        ),
        (
            saved("small.pt", {**kernel, "main.0.weight": torch.zeros(60, 32, 1, 1)}),
            saved("motion.pt", {**lstm, "linear.weight": torch.zeros(10, 8)}),
            "image_size = 16",
        ),
        (saved("other.pt", {"a": torch.zeros(1)}), None, r"no main\.0\.weight"),
        (image, saved("linear.pt", {"a": torch.zeros(1)}), r"neither lstm\.weight_ih nor gru"),
        (image, saved("half.pt", lstm), r"no linear\.weight"),
        (
            image,
            saved("wide.pt", {**lstm, "linear.weight": torch.zeros(70, 8)}),
            "do not belong together",
        ),
        (
            image,
            saved("flat.pt", {**lstm, "linear.weight": torch.zeros(())}),
            r"linear\.weight is no matrix",
        ),
        (
            image,
            saved("bare.pt", {**lstm, "linear.weight": torch.zeros(10, 8)}),
            r"missing linear\.bias, bn\.running_mean, bn\.running_var",
        ),
    ):
        with pytest.raises(MocogenError, match=said):
            foreign.read_pair(generator, motion)


def test_values_that_are_not_finite(tmp_path: Path, image: Path, data: Path):
    state = torch.load(image, weights_only=True)
    state["main.3.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, tmp_path / "nan.pt")
    with pytest.raises(MocogenError, match=r"not finite in main\.3\.weight"):
        foreign.read_pair(tmp_path / "nan.pt", data / "course" / "LSTM-120000.model")


def test_a_generator_alone_is_not_enough(image: Path):
    with pytest.raises(UsageError, match="add --motion"):
        foreign.read_pair(image, None)


def test_a_second_motion_network_is_refused(tmp_path: Path, image: Path):
    both = authors_module(tmp_path / "authors.pt", 0)
    with pytest.raises(UsageError, match="leave out --motion"):
        foreign.read_pair(both, image)


def test_values_of_a_motion_network_that_are_not_finite(tmp_path: Path):
    path = authors_module(tmp_path / "authors.pt", 0)
    state = torch.load(path, weights_only=True)
    state["recurrent.bias_hh"][0] = float("inf")
    torch.save(state, path)
    with pytest.raises(MocogenError, match=r"\(motion network\).*not finite in gru\.bias_hh"):
        foreign.read_pair(path, None)


def test_the_hash_of_a_pair_tells_all_pairs_apart(tmp_path: Path):
    for name in "abc":
        (tmp_path / name).write_text(name)
    a, b, c = (tmp_path / name for name in "abc")
    pairs = [(a, None), (a, b), (a, c), (b, a), (b, c)]
    assert len({foreign.pair_sha256(*pair) for pair in pairs}) == len(pairs)
