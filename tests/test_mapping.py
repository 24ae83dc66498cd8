"""The content mapping: pushed into a region, without a break, wherever a clip is made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import mocogen
from mocogen import checkpoint, latents, onnx_models
from mocogen.errors import MocogenError
from mocogen.generator import to_pixels
from mocogen.mapping import ContentMapping
from mocogen.spec import ModelSpec


def orthonormal(rows: int, size: int) -> np.ndarray:
    square = np.random.default_rng(3).standard_normal((size, size))
    return np.linalg.qr(square)[0][:rows].astype(np.float32)


@pytest.fixture
def mapping() -> ContentMapping:
    return ContentMapping(orthonormal(6, 20), push=2.0, blend=0.05)


def test_a_content_is_pushed_along_the_direction_that_leads(mapping: ContentMapping) -> None:
    z = np.random.default_rng(0).standard_normal((500, 20)).astype(np.float32)
    before, after = z @ mapping.regions.T, mapping(z) @ mapping.regions.T
    assert (before.argmax(1) == after.argmax(1)).all()
    lead = np.diff(np.sort(before, axis=1)[:, -2:], axis=1)[:, 0]
    clear = lead > 10 * mapping.blend
    assert 100 < clear.sum() < 500
    moved = mapping(z[clear]) - z[clear]
    expected = 2.0 * mapping.regions[before[clear].argmax(1)]
    np.testing.assert_allclose(moved, expected, atol=1e-3)


def test_on_a_border_both_pushes_have_a_half(mapping: ContentMapping) -> None:
    z = 1.5 * (mapping.regions[1] + mapping.regions[4])[None]
    expected = z + 1.0 * (mapping.regions[1] + mapping.regions[4])
    np.testing.assert_allclose(mapping(z), expected, atol=1e-4)


def test_a_way_across_a_border_has_no_break(mapping: ContentMapping) -> None:
    z = np.linspace(2 * mapping.regions[0], 2 * mapping.regions[1], 2001).astype(np.float32)
    steps = np.linalg.norm(np.diff(mapping(z), axis=0), axis=1)
    # By the derivative of a softmax: push / (4 blend) of the difference of two projections.
    assert steps.max() < 1.01 * np.linalg.norm(z[1] - z[0]) * (1 + 2.0 / (2 * 0.05))


def test_the_result_does_not_depend_on_the_rows_beside_it(mapping: ContentMapping) -> None:
    z = np.random.default_rng(1).standard_normal((64, 20)).astype(np.float32)
    np.testing.assert_array_equal(mapping(z)[17:18], mapping(z[17:18]))


def test_the_result_is_rounded_as_all_that_comes_before_a_network(mapping: ContentMapping) -> None:
    z = np.random.default_rng(1).standard_normal((64, 20)).astype(np.float32)
    values = mapping(z).astype(np.float64) * latents.GRID
    np.testing.assert_array_equal(values, np.rint(values))


def test_a_narrow_blend_is_a_clear_choice_and_not_too_large_a_number() -> None:
    mapping = ContentMapping(orthonormal(6, 20), push=2.0, blend=1e-5)
    z = np.random.default_rng(1).standard_normal((64, 20)).astype(np.float32)
    with np.errstate(over="raise", invalid="raise"):
        found = mapping(z)
    leads = (z @ mapping.regions.T).argmax(1)
    np.testing.assert_allclose(found, z + 2.0 * mapping.regions[leads], atol=1e-4)


@pytest.fixture
def mapped(tiny: Path, tmp_path: Path) -> Path:
    """The tiny checkpoint with three regions."""
    spec, motion, generator = checkpoint.load(tiny)
    path = tmp_path / "mapped.safetensors"
    spec = replace(spec, regions=3, content_push=3.0, content_blend=0.1)
    checkpoint.save(path, spec, motion, generator, regions=orthonormal(3, spec.content))
    return path


def test_regions_are_stored_as_they_are_whatever_their_memory_is(
    mapped: Path, tmp_path: Path
) -> None:
    spec, motion, generator = checkpoint.load(mapped)
    regions = orthonormal(3, spec.content)
    turned, path = regions.T.copy().T, tmp_path / "turned.safetensors"
    assert not turned.flags.c_contiguous
    for given in (turned, regions.astype(np.float64)):
        checkpoint.save(path, spec, motion, generator, regions=given)
        np.testing.assert_array_equal(checkpoint.read(path)[1]["content.regions"], regions)


def test_sampling_maps_the_content(mapped: Path, tiny: Path) -> None:
    spec, motion, generator = checkpoint.load(mapped)
    tensors = checkpoint.read(mapped)[1]
    content = latents.content(5, spec.content)
    w = ContentMapping(tensors["content.regions"], 3.0, 0.1)(content[None])
    noise = torch.from_numpy(latents.noise(5, 0, 4, spec.noise))[:, None]
    codes = motion(noise, None, torch.tensor([1]))[:, 0]
    latent = torch.cat([codes, torch.from_numpy(w).expand(4, -1)], 1)
    expected = to_pixels(generator(latent).detach(), *spec.pixel_range).numpy()
    for backend in ("torch", "auto"):
        found = mocogen.load(mapped, backend=backend).sample(frames=4, seed=5, action="spin")
        assert np.abs(np.asarray(found, int) - expected).max() <= 1
    plain = mocogen.load(tiny).sample(frames=4, seed=5, action="spin")
    assert np.abs(np.asarray(plain, int) - expected).max() > 10


def test_the_exported_generator_takes_contents_as_they_are_drawn(mapped: Path) -> None:
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    spec, tensors = checkpoint.read(mapped)
    mapping = ContentMapping.of(spec, tensors)
    assert mapping is not None
    for order in (("motion", "content"), ("content", "motion")):
        turned = replace(spec, latent_order=order)
        parts = {
            "content": np.random.default_rng(2).standard_normal((6, spec.content)),
            "motion": np.random.default_rng(3).standard_normal((6, spec.motion)),
        }
        parts = {name: part.astype(np.float32) for name, part in parts.items()}
        drawn = np.concatenate([parts[name] for name in order], axis=1)
        parts["content"] = mapping(parts["content"])
        ready = np.concatenate([parts[name] for name in order], axis=1)

        def frames(model: bytes, given: np.ndarray) -> Any:
            onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
            session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
            return session.run(["frames"], {"latents": given})[0].astype(int)

        found = frames(onnx_models.generator(turned, tensors, mapped=True), drawn)
        expected = frames(onnx_models.generator(turned, tensors), ready)
        assert expected.std() > 5
        assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"regions": 6}, "regions"), ({"regions": -1}, "regions"), ({"content_blend": 0}, "blend")],
)
def test_impossible_values_are_refused(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(MocogenError, match=named):
        ModelSpec(content=5, noise=3, hidden=8, motion=4, **wrong).check()


def test_regions_must_be_there(tiny: Path, tmp_path: Path) -> None:
    spec = replace(checkpoint.read_spec(tiny), regions=2, content_push=1.0)
    path = tmp_path / "without.safetensors"
    save_file(load_file(tiny), path, {"mocogen": spec.to_json()})
    with pytest.raises(MocogenError, match=r"missing content\.regions"):
        mocogen.load(path)
