"""The exported networks: valid ONNX, and the same numbers as torch's."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mocogen import checkpoint, onnx_models
from mocogen.cli import main
from mocogen.generator import to_pixels
from mocogen.spec import ModelSpec

from .conftest import ROOT

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

SPEC = ModelSpec(
    content=5, noise=3, hidden=8, motion=4, actions=("hop", "spin"), width=4, image_size=32
)
VARIANTS = {
    "lstm": SPEC,
    "gru": replace(SPEC, cell="gru", actions=()),
    "authors": replace(
        SPEC,
        cell="gru",
        head=False,
        motion=8,
        latent_order=("content", "category", "motion"),
    ),
    "dark": replace(SPEC, pixel_range=(0.0, 1.0)),
}


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> tuple[ModelSpec, Any, Any]:
    """A spec and untrained networks of its sizes, with statistics of their own."""
    spec = VARIANTS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(4)
        motion, generator = checkpoint.build(spec)
        for layer in (*generator.main, motion.bn):
            if isinstance(layer, torch.nn.ConvTranspose2d):
                layer.weight.data *= 8  # visible contrast
            if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                layer.running_mean = torch.randn(layer.num_features) / 10
                layer.running_var = torch.rand(layer.num_features) + 0.5
    return spec, motion.requires_grad_(False), generator.requires_grad_(False)


def session(model: bytes) -> Any:
    """A model in ONNX Runtime, after the format's own checker has seen it."""
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("images", [1, 5])
def test_the_generator(variant: tuple[ModelSpec, Any, Any], split: bool, images: int) -> None:
    spec, motion, generator = variant
    tensors = checkpoint.tensors_of(motion, generator)
    latents = torch.randn(images, generator.input_size)
    made = session(onnx_models.generator(spec, tensors, split))
    (frames,) = made.run(["frames"], {"latents": latents.numpy()})
    expected = to_pixels(generator(latents), *spec.pixel_range).numpy()
    assert frames.dtype == np.uint8
    assert frames.shape == (images, 32, 32, 3)
    assert expected.std() > 5
    assert np.abs(frames.astype(int) - expected).max() <= 1


def test_the_motion_network_goes_on_from_its_state(variant: tuple[ModelSpec, Any, Any]) -> None:
    spec, motion, generator = variant
    made = session(onnx_models.motion(spec, checkpoint.tensors_of(motion, generator)))
    noise = torch.randn(9, 2, spec.noise)
    category = torch.tensor([1, 0]) if spec.motion_categories else None
    state: Any = motion.initial_state(2)
    if spec.cell == "gru":
        state = torch.randn_like(state)
    names = ("h", "c")[: 2 if spec.cell == "lstm" else 1]
    carried = [part.numpy() for part in (state if spec.cell == "lstm" else [state])]
    codes = []
    for piece in (noise[:4], noise[4:]):
        given = {"noise": piece.numpy(), **dict(zip(names, carried, strict=True))}
        if category is not None:
            given["category"] = category.numpy()
        found = dict(zip((o.name for o in made.get_outputs()), made.run(None, given), strict=True))
        carried = [found[f"{name}_after"] for name in names]
        codes.append(found["codes"])
    expected, after = motion.unroll(noise, None, category, state)
    np.testing.assert_allclose(np.concatenate(codes), expected.numpy(), atol=1e-5)
    parts = after if spec.cell == "lstm" else [after]
    for part, wanted in zip(carried, parts, strict=True):
        np.testing.assert_allclose(part, wanted.numpy(), atol=1e-5)
    if motion.linear is not None:
        hidden = torch.from_numpy(carried[0])
        np.testing.assert_allclose(found["raw"][-1], motion.linear(hidden).numpy(), atol=1e-5)


def test_the_command_writes_both_files(run: Any, tiny: Path, tmp_path: Path) -> None:
    done = run("export", tiny, "--out", "to/model.onnx")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    files = sorted((tmp_path / "to").iterdir())
    assert [path.name for path in files] == ["model-generator.onnx", "model-motion.onnx"]
    for path in files:
        assert path.name in done.stderr
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        told = {entry.key: entry.value for entry in model.metadata_props}
        assert ModelSpec.from_json(told["mocogen"]) == checkpoint.read_spec(tiny)


def test_the_page_about_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its program makes a clip that moves, from the files of the command beside it."""
    text = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"```sh\nmocogen (.*?)  #", text)
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["mocogen", *command.split(), "--quiet"])
    with pytest.raises(SystemExit) as ending:
        main()
    assert not ending.value.code
    scope: dict[str, Any] = {}
    exec(program, scope)
    assert scope["frames"].shape == (48, 96, 96, 3)
    assert np.abs(np.diff(scope["frames"].astype(int), axis=0)).mean() > 1


def test_export_needs_neither_torch_nor_onnx(tiny: Path, tmp_path: Path) -> None:
    program = (
        f"import sys; sys.argv = ['mocogen', 'export', {str(tiny)!r}, '-q', '--out', 'm.onnx']\n"
        "from mocogen.cli import main\n"
        "try: main()\n"
        "except SystemExit as ending:\n"
        "    print(ending.code or 0, {'torch', 'onnx', 'onnxruntime'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.strip() == "0 set()", done.stdout + done.stderr
    assert (tmp_path / "m-motion.onnx").exists()
