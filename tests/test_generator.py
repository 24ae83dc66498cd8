"""The image generator: the course's layout, its sizes, and its pixels."""

import pytest
import torch

from mocogen import UsageError
from mocogen.generator import Generator, from_pixels, to_pixels

# From the course's checkpoint: key and shape of every kernel.
COURSE = {
    "main.0.weight": (60, 512, 6, 6),
    "main.3.weight": (512, 256, 4, 4),
    "main.6.weight": (256, 128, 4, 4),
    "main.9.weight": (128, 64, 4, 4),
    "main.12.weight": (64, 3, 4, 4),
}


def test_the_layout_is_the_courses():
    state = Generator().state_dict()
    kernels = {k: tuple(v.shape) for k, v in state.items() if v.dim() == 4}
    assert kernels == COURSE
    norms = {
        f"main.{i}.{name}"
        for i in (1, 4, 7, 10)
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    assert set(state) == set(COURSE) | norms


@pytest.mark.parametrize(("size", "categories"), [(96, 0), (64, 0), (64, 4), (32, 1)])
def test_sizes(size: int, categories: int):
    generator = Generator(latent_size=20, categories=categories, width=4, image_size=size)
    images = generator(torch.randn(2, 20 + categories))
    assert images.shape == (2, 3, size, size)
    assert images.abs().max() <= 1


def test_an_odd_size_is_refused():
    with pytest.raises(UsageError, match="multiple of 16"):
        Generator(image_size=100)


def test_folding_changes_nothing_but_rounding():
    torch.manual_seed(0)
    generator = Generator(width=8).eval()
    for layer in generator.main:
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.5)
            layer.running_var.uniform_(0.2, 2)
            layer.weight.data.uniform_(0.5, 2)
            layer.bias.data.normal_()
    latent = torch.randn(3, 60)
    folded = generator.train().folded()
    assert generator.training, "the generator itself is left as it was"
    assert all(p.requires_grad for p in generator.parameters())
    generator.eval()
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in folded)
    with torch.no_grad():
        assert torch.allclose(folded(latent[:, :, None, None]), generator(latent), atol=1e-5)


def test_pixels_are_clamped_and_rounded_never_wrapped():
    values = torch.tensor([-9.0, -1.0, 0.0, 0.5, 1.0, 9.0]).reshape(1, 1, 1, 6)
    wide = to_pixels(values.expand(1, 3, 1, 6), -1, 1)
    assert wide.shape == (1, 1, 6, 3)
    assert wide[0, 0, :, 0].tolist() == [0, 0, 128, 191, 255, 255]
    narrow = to_pixels(values.expand(1, 3, 1, 6), 0, 1)
    assert narrow[0, 0, :, 0].tolist() == [0, 0, 0, 128, 255, 255]


def test_pixels_there_and_back():
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3).view(2, 1, 2, 64, 3)
    images = from_pixels(pixels)
    assert images.shape == (2, 1, 3, 2, 64)
    assert (float(images.min()), float(images.max())) == (-1, 1)
    assert torch.equal(to_pixels(images.flatten(0, 1), -1.0, 1.0), pixels.flatten(0, 1))
