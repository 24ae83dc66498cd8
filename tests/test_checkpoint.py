"""The checkpoint format: what a good file gives and what a bad one says."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import mocogen
from mocogen import MocogenError, checkpoint, latents
from mocogen.backend_choice import open_backend
from mocogen.generator import Generator
from mocogen.spec import FORMAT, ModelSpec


def rewrite(source: Path, target: Path, tensors: dict | None = None, **changes: object) -> Path:
    """A copy of a checkpoint with other tensors or metadata."""
    metadata = {**json.loads(checkpoint.read_spec(source).to_json()), **changes}
    metadata = {key: value for key, value in metadata.items() if value is not None}
    save_file(tensors or load_file(source), target, {"mocogen": json.dumps(metadata)})
    return target


def test_what_is_saved_is_loaded(tiny: Path, tmp_path: Path):
    spec, motion, generator = checkpoint.load(tiny)
    again = tmp_path / "again.safetensors"
    checkpoint.save(again, spec, motion, generator, half=False)
    loaded_spec, *loaded = checkpoint.load(again)
    assert loaded_spec == spec
    for before, after in zip((motion, generator), loaded, strict=True):
        for key, value in before.state_dict().items():
            assert torch.equal(value, after.state_dict()[key]), key


def test_a_path_may_be_a_text(tiny: Path, tmp_path: Path):
    spec, motion, generator = checkpoint.load(str(tiny))
    again = tmp_path / "again.safetensors"
    checkpoint.save(str(again), spec, motion, generator)
    assert checkpoint.read_spec(str(again)) == spec
    assert checkpoint.read(str(again))[0] == spec
    with pytest.raises(MocogenError, match="cannot read nowhere"):
        checkpoint.read("nowhere")


@pytest.mark.parametrize("half", [True, False])
def test_the_layout_of_the_memory_is_not_that_of_the_file(tiny: Path, tmp_path: Path, half: bool):
    spec, motion, generator = checkpoint.load(tiny)
    generator.to(memory_format=torch.channels_last)
    motion.lstm.weight_ih.data = motion.lstm.weight_ih.data.t().contiguous().t()
    again = tmp_path / "again.safetensors"
    checkpoint.save(again, spec, motion, generator, half)
    before, after = load_file(tiny), load_file(again)
    assert all(torch.equal(value.float(), after[key].float()) for key, value in before.items())


def with_value(value: float) -> Callable[[Generator], None]:
    def change(generator: Generator) -> None:
        generator.main[3].weight.data[0, 0, 0, 0] = value

    return change


def with_a_variance_below_zero(generator: Generator) -> None:
    generator.main[4].running_var[1] = -1.0


@pytest.mark.parametrize(
    ("changes", "change", "half", "said"),
    [
        ({"hidden": 9}, None, True, r"lstm.weight_ih \(32, 5\) instead of \(36, 5\)"),
        ({"actions": ()}, None, True, r"lstm.weight_ih \(32, 5\) instead of \(32, 3\)"),
        ({"cell": "gru"}, None, True, r"missing motion.gru.weight_ih"),
        ({"regions": 2, "content_push": 1.0}, None, True, r"missing content\.regions"),
        ({"width": 0}, None, True, "width = 0"),
        ({"pixel_range": 7}, None, True, "wrong kind"),
        ({"format": FORMAT + 1}, None, True, "update mocogen"),
        ({}, with_value(float("nan")), False, r"not finite in generator\.main\.3\.weight"),
        ({}, with_value(1e5), True, r"not finite in generator\.main\.3\.weight"),
        ({}, with_a_variance_below_zero, False, r"below 0 in generator\.main\.4\.running_var"),
    ],
)
def test_what_could_not_be_read_is_not_written(
    tiny: Path,
    tmp_path: Path,
    changes: dict,
    change: Callable[[Generator], None] | None,
    half: bool,
    said: str,
):
    spec, motion, generator = checkpoint.load(tiny)
    if change is not None:
        change(generator.requires_grad_(False))
    target = tmp_path / "model.safetensors"
    with pytest.raises(MocogenError, match=said):
        checkpoint.save(target, replace(spec, **changes), motion, generator, half)
    assert not list(tmp_path.iterdir())


def test_full_storage_has_room_for_what_half_has_not(tiny: Path, tmp_path: Path):
    spec, motion, generator = checkpoint.load(tiny)
    with_value(1e5)(generator.requires_grad_(False))
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, spec, motion, generator, half=False)
    assert checkpoint.read(path)[1]["generator.main.3.weight"].max() == 1e5


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"actions": ("a", "b"), "image_size": 64, "width": 8},
        {"cell": "gru", "head": False, "motion": 8},
        {"actions": ("a",), "latent_order": ("content", "category", "motion")},
    ],
)
def test_the_layout_is_that_of_the_networks(options: dict):
    spec = ModelSpec(**{"content": 5, "noise": 3, "hidden": 8, "motion": 4, "width": 4, **options})
    tensors = checkpoint.tensors_of(*checkpoint.build(spec))
    assert {k: v.shape for k, v in tensors.items()} == checkpoint.layout(spec)


def test_half_storage_keeps_statistics_in_full(tiny: Path):
    for key, value in load_file(tiny).items():
        assert value.dtype == (torch.float16 if value.dim() > 1 else torch.float32), key


def test_the_shipped_names():
    assert "weizmann" in checkpoint.shipped()
    spec = checkpoint.read_spec(checkpoint.find("weizmann"))
    assert spec.actions == ("wave1", "wave2", "jack", "bend")
    assert spec.noise_mode == "per-frame"


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(MocogenError, match=r"no checkpoint 'nobody'.*weizmann"):
        mocogen.load("nobody")


def test_missing_and_unexpected_tensors_are_named(tiny: Path, tmp_path: Path):
    tensors = load_file(tiny)
    tensors["motion.lstm.weight"] = tensors.pop("motion.lstm.weight_ih")
    bad = rewrite(tiny, tmp_path / "bad.safetensors", tensors)
    with pytest.raises(
        MocogenError, match=r"missing motion.lstm.weight_ih; unexpected motion.lstm.weight"
    ):
        mocogen.load(bad)


def test_another_shape_is_named(tiny: Path, tmp_path: Path):
    bad = rewrite(tiny, tmp_path / "bad.safetensors", hidden=9)
    with pytest.raises(MocogenError, match=r"lstm.weight_ih \(32, 5\) instead of \(36, 5\)"):
        mocogen.load(bad)


def test_strange_tensors_are_named(tiny: Path, tmp_path: Path):
    tensors = {**load_file(tiny), "optimizer.step": torch.zeros(1)}
    bad = rewrite(tiny, tmp_path / "bad.safetensors", tensors)
    with pytest.raises(MocogenError, match=r"unexpected optimizer\.step"):
        mocogen.load(bad)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": FORMAT + 1}, "update mocogen"),
        ({"content": None}, "lacks 'content'"),
        ({"content": 0}, "content = 0"),
        ({"noise_mode": "loud"}, "noise_mode = 'loud'"),
        ({"latent_order": ["motion"]}, "latent_order"),
        ({"pixel_range": [1, 1]}, "pixel_range"),
        ({"pixel_range": ["a", "b"]}, "pixel_range"),
        ({"pixel_range": 7}, "wrong kind"),
        ({"pixel_range": [False, True]}, "pixel_range"),
        ({"pixel_range": [float("-inf"), 1]}, "pixel_range"),
        ({"pixel_range": [0, 1e-300]}, "pixel_range"),
        ({"format": 1e400}, "damaged"),
        ({"format": -1}, "damaged"),
        ({"head": "no"}, "head = 'no'"),
        ({"latent_order": [["motion"], "content"]}, "wrong kind"),
        ({"image_size": 40}, "image_size = 40"),
        ({"image_size": "96"}, "wrong kind"),
        ({"width": 10**9}, "width = 1000000000"),
        ({"width": 10**4000}, "width = 1000"),
        ({"width": 10**5}, "of another shape"),
        ({"head": False, "hidden": 8, "motion": 4}, "motion = 4"),
        ({"kind": "\x1b[31mevil\n"}, r"holds a \\x1b\[31mevil\\n network"),
        ({"warm_up": -1}, "warm_up = -1"),
        ({"warm_up": 10**6}, "warm_up = 1000000"),
        ({"warm_up": 1.5}, "warm_up = 1.5"),
        ({"fps": 0}, "fps = 0"),
        ({"fps": float("nan")}, "fps = nan"),
        ({"actions": ["../../up"]}, "actions"),
        ({"actions": {"hop": 1, "spin": 2}}, "actions"),
        ({"actions": ["hop", "hop"]}, "actions"),
    ],
)
def test_metadata_that_makes_no_sense(tiny: Path, tmp_path: Path, changes: dict, said: str):
    bad = rewrite(tiny, tmp_path / "bad.safetensors", **changes)
    with pytest.raises(MocogenError, match=said):
        mocogen.load(bad)


def test_metadata_without_end(tiny: Path, tmp_path: Path):
    bad = tmp_path / "bad.safetensors"
    save_file(load_file(tiny), bad, {"mocogen": "[" * 100_000})
    with pytest.raises(MocogenError, match="damaged"):
        mocogen.load(bad)


KERNEL, VARIANCE = "generator.main.3.weight", "motion.bn.running_var"


@pytest.mark.parametrize(
    ("key", "change", "said"),
    [
        (KERNEL, lambda t: t * float("nan"), rf"not finite in {KERNEL}"),
        (KERNEL, lambda t: t / 0, rf"not finite in {KERNEL}"),
        (VARIANCE, lambda t: -1 - t, rf"below 0 in {VARIANCE}"),
        (KERNEL, lambda t: t.bfloat16(), rf"not of F16, F32: {KERNEL}"),
        (KERNEL, lambda t: t.to(torch.float8_e4m3fn), rf"not of F16, F32: {KERNEL}"),
        (KERNEL, lambda t: t.to(torch.complex64), rf"not of F16, F32: {KERNEL}"),
        (KERNEL, lambda t: t.to(torch.int64), rf"not of F16, F32: {KERNEL}"),
        (KERNEL, lambda _: torch.zeros(()), r"of another shape .* \(\) instead of"),
    ],
)
def test_tensors_that_no_training_ends_in(
    tiny: Path, tmp_path: Path, key: str, change: Callable[[Tensor], Tensor], said: str
):
    tensors = load_file(tiny)
    tensors[key] = change(tensors[key])
    bad = rewrite(tiny, tmp_path / "bad.safetensors", tensors)
    with pytest.raises(MocogenError, match=said):
        mocogen.load(bad)


def test_files_that_are_no_checkpoints(tiny: Path, tmp_path: Path):
    stranger = tmp_path / "stranger.safetensors"
    save_file({"a": torch.zeros(2)}, stranger)
    text = tmp_path / "text.safetensors"
    text.write_text("hello")
    short = tmp_path / "short.safetensors"
    short.write_bytes(tiny.read_bytes()[:-100])
    endless = tmp_path / "endless.safetensors"
    endless.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    empty = tmp_path / "empty.safetensors"
    empty.touch()
    pickled = tmp_path / "model.pt"
    torch.save({"a": torch.zeros(2)}, pickled)
    for path, said in (
        (stranger, "not a mocogen checkpoint"),
        (text, "not a mocogen checkpoint"),
        (short, "damaged or cut-off"),
        (endless, "not a mocogen checkpoint"),
        (empty, "not a mocogen checkpoint"),
        (pickled, "mocogen convert"),
    ):
        with pytest.raises(MocogenError, match=said):
            mocogen.load(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda header: {**header, KERNEL: {}}, "damaged or cut-off"),
        (lambda header: [header], "damaged or cut-off"),
        (lambda header: {**header, "__metadata__": "none"}, "not a mocogen checkpoint"),
        (
            lambda header: {
                **header,
                KERNEL: {**header[KERNEL], "data_offsets": [1, header[KERNEL]["data_offsets"][1]]},
            },
            "its tensors are damaged",
        ),
    ],
)
def test_headers_that_make_no_sense(
    tiny: Path, tmp_path: Path, change: Callable[[dict], object], said: str
):
    content = tiny.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(change(json.loads(content[8 : 8 + length]))).encode()
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    with pytest.raises(MocogenError, match=said):
        mocogen.load(bad)


def test_a_failed_save_leaves_the_old_file(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    target = tmp_path / "model.safetensors"
    target.write_bytes(tiny.read_bytes())

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full_disk)
    with pytest.raises(MocogenError, match="No space left"):
        checkpoint.save(target, *checkpoint.load(tiny))
    assert target.read_bytes() == tiny.read_bytes()
    assert list(tmp_path.iterdir()) == [target]


def test_categories_enter_the_generator_where_the_order_says_so():
    spec = ModelSpec(
        content=5,
        noise=3,
        hidden=8,
        motion=4,
        actions=("a", "b"),
        width=4,
        image_size=32,
        latent_order=("content", "category", "motion"),
    )
    motion, generator = checkpoint.build(spec)
    assert motion.categories == 0
    assert generator.input_size == 5 + 2 + 4
    backend = open_backend("torch", "cpu", spec, checkpoint.tensors_of(motion, generator))
    model = mocogen.Model(spec, backend)
    assert model.sample(3, seed=1, action="b").shape == (3, 32, 32, 3)
    (_, latent), *_ = model._latents([model.clip(1, frames=3, action="b")])
    noise = torch.from_numpy(latents.noise(1, 0, 3, 3))[:, None]
    with torch.no_grad():
        codes = motion.eval()(noise)[:, 0]
    assert np.array_equal(latent[:, :5], np.tile(latents.content(1, 5), (3, 1)))
    assert latent[:, 5:7].tolist() == [[0, 1]] * 3
    assert np.allclose(latent[:, 7:], codes, atol=1e-5)
