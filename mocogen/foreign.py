"""Networks that others trained, told by the keys and shapes of their tensors.

Three layouts exist in the field:

- the course (ECE 417 MP6): an image generator and an LSTM motion network in two torch-saved
  state dicts; one noise vector for the whole clip; pixels from 0 to 1.
- DLHacks/mocogan: the same generator, and a GRU that is fed with its own output.
- sergeytulyakov/mocogan, the authors' own: generator and GRU in one module, the content
  first; a state that starts from noise; a category, if any, in the generator's input.

Files are read without running any code that may be pickled in them.
"""

from __future__ import annotations

import hashlib
import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import checkpoint, files
from .errors import MocogenError, UsageError
from .spec import ModelSpec

if TYPE_CHECKING:
    from .backends import Tensors

_AUTHORS_CONTENT = 50  # the authors' default; a category takes what is left of the input


def read_pair(generator_path: Path, motion_path: Path | None) -> tuple[ModelSpec, Tensors]:
    """A spec and tensors, as :func:`mocogen.checkpoint.read` gives them, from others' files.

    Args:
        generator_path: a torch-saved state dict of an image generator.
        motion_path: one of a motion network, or None where the generator's file has both.

    Raises:
        MocogenError: a file is missing, is no state dict, or has an unknown layout.
        UsageError: a motion network is missing, or there is one too many.
    """
    image = _state_dict(generator_path)
    recurrent = {k: image.pop(k) for k in list(image) if k.startswith("recurrent.")}
    _expect_generator(image, generator_path)
    if recurrent:
        if motion_path is not None:
            raise UsageError(
                f"{generator_path} has a motion network of its own: leave out --motion"
            )
        motion = {k.replace("recurrent.", "gru."): v for k, v in recurrent.items()}
        origin = generator_path
    elif motion_path is None:
        raise UsageError(f"{generator_path} is an image generator alone: add --motion FILE")
    else:
        motion, origin = _state_dict(motion_path), motion_path
    spec = _recognise(image, motion, generator_path, origin)
    return spec, {
        **_arrays(spec, "motion.", motion, f"{origin} (motion network)"),
        **_arrays(spec, "generator.", image, f"{generator_path} (image generator)"),
    }


def pair_sha256(generator_path: Path, motion_path: Path | None) -> str:
    """One hash for both files of a pair, in hexadecimal."""
    paths = [generator_path, *([motion_path] if motion_path else [])]
    joined = "".join(files.sha256(path) for path in paths)
    return hashlib.sha256(joined.encode()).hexdigest()


def _state_dict(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise MocogenError(f"no such file: {path}")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise MocogenError(
            f"{path} holds pickled code, which mocogen never runs: with the program that made "
            "it, save its state_dict() and use that file"
        ) from None
    except Exception:  # whatever a damaged file may lead torch into
        raise MocogenError(f"{path} is not a torch-saved state dict, or is damaged") from None
    if not isinstance(loaded, dict) or not all(_is_plain(v) for v in loaded.values()):
        raise MocogenError(f"{path} is not a state dict: it holds something else than tensors")
    # A view may claim to be any size, and would be made so large when it is copied.
    if sum(v.numel() * v.element_size() for v in loaded.values()) > path.stat().st_size:
        raise MocogenError(f"{path} is damaged: its tensors are larger than the file")
    return {str(key): value for key, value in loaded.items()}


def _is_plain(value: object) -> bool:
    """Whether a value is a tensor of real numbers that numpy can have."""
    return (
        isinstance(value, Tensor)
        and value.device.type == "cpu"
        and value.layout == torch.strided
        and not (value.is_quantized or value.is_complex())
    )


def _arrays(spec: ModelSpec, prefix: str, given: dict[str, Tensor], where: str) -> Tensors:
    """One network's tensors as float32 arrays, by the names that they have in a checkpoint.

    Batch norm's ``num_batches_tracked`` may be missing: sampling never needs it, and files
    from PyTorch 0.2 do not have it.

    Raises:
        MocogenError: tensors are missing, unexpected, of another shape, or have values that
            no training ends in.
    """
    wanted = {
        name.removeprefix(prefix): shape
        for name, shape in checkpoint.layout(spec).items()
        if name.startswith(prefix)
    }
    found = {k: v for k, v in given.items() if not k.endswith("num_batches_tracked")}
    checkpoint.check(wanted, {k: tuple(v.shape) for k, v in found.items()}, where)
    arrays = {name: found[name].detach().float().contiguous().numpy() for name in wanted}
    checkpoint.check_values(arrays, where)
    return {prefix + name: array for name, array in arrays.items()}


def plain_name(path: Path) -> str:
    """A checkpoint's name from a file's, without what no name may have."""
    return re.sub(r"[^\w.+-]", "-", path.stem).lstrip(".+-") or "converted"


def _expect_generator(image: dict[str, Tensor], path: Path) -> None:
    missing = [k for k in ("main.0.weight", "main.12.weight") if k not in image]
    if missing:
        raise MocogenError(
            f"{path} is no image generator of a known layout: it has no {' and no '.join(missing)}"
        )
    kernel = image["main.0.weight"]
    if kernel.dim() != 4 or image["main.12.weight"].dim() != 4:
        raise MocogenError(f"{path} is no image generator of a known layout: its kernels are flat")


def _recognise(
    image: dict[str, Tensor], motion: dict[str, Tensor], image_path: Path, motion_path: Path
) -> ModelSpec:
    cell = next((c for c in ("lstm", "gru") if f"{c}.weight_ih" in motion), None)
    if cell is None or f"{cell}.weight_hh" not in motion:
        raise MocogenError(
            f"{motion_path} is no motion network of a known layout: "
            "it has neither lstm.weight_ih nor gru.weight_ih with its weight_hh"
        )
    matrices = (f"{cell}.weight_ih", f"{cell}.weight_hh", "linear.weight")
    if flat := [k for k in matrices if k in motion and motion[k].dim() != 2]:
        raise MocogenError(
            f"{motion_path} is no motion network of a known layout: {flat[0]} is no matrix"
        )
    noise, hidden = motion[f"{cell}.weight_ih"].shape[-1], motion[f"{cell}.weight_hh"].shape[-1]
    authors = image_path == motion_path
    if not authors and "linear.weight" not in motion:
        raise MocogenError(f"{motion_path} is no motion network: it has no linear.weight")
    code = hidden if authors else len(motion["linear.weight"])
    inputs, kernel = image["main.0.weight"].shape[0], image["main.0.weight"].shape[-1]
    rest = inputs - code
    if rest < 1:
        raise MocogenError(
            f"{image_path} and {motion_path} do not belong together: the generator takes "
            f"{inputs} numbers, and the motion code alone has {code}"
        )
    content = min(rest, _AUTHORS_CONTENT) if authors else rest
    category = rest - content
    spec = ModelSpec(
        content=content,
        noise=noise,
        hidden=hidden,
        motion=code,
        actions=tuple(str(i) for i in range(category)),
        latent_order=("content", "category", "motion")
        if category
        else ("content", "motion")
        if authors
        else ("motion", "content"),
        width=image["main.12.weight"].shape[0],
        image_size=kernel * 16,
        cell=cell,
        head=not authors,
        noise_mode="per-frame" if authors else {"lstm": "constant", "gru": "feedback"}[cell],
        initial_state="normal" if authors else "zeros",
        pixel_range=(-1.0, 1.0) if authors else (0.0, 1.0),
        name=plain_name(image_path),
        data="unknown (weights from elsewhere)",
    )
    try:
        spec.check()
    except MocogenError as error:
        raise MocogenError(f"cannot use {image_path} with {motion_path}: {error}") from None
    return spec
