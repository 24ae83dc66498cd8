"""Grids, walks, and the options that steer, as people use them."""

import functools
import json
import re
import shlex
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image, ImageSequence

import mocogen
from mocogen import UsageError, mosaic, video
from mocogen.cli import main
from mocogen.requests import STEERING, Request, Seeds, from_lines
from mocogen.steering import Walk

from .conftest import ROOT

LOAD = functools.cache(mocogen.load)


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run a command in this process, in an empty folder; gives status, stdout and stderr.

    Checkpoints are loaded once for all commands.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mocogen.synthesis.load", LOAD)

    def call(command: str, *more: object) -> tuple[object, str, str]:
        words = [*shlex.split(command), *map(str, more)]
        monkeypatch.setattr("sys.argv", words)
        status: object = 0
        try:
            main()
        except SystemExit as ending:
            status = ending.code or 0
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call


def test_seeds_of_content_and_motion_on_the_command_line(call, tiny: Path, tmp_path: Path):
    common = ("--checkpoint", tiny, "--frames", 20)
    asked = "mocogen sample --content-seed 3 --motion-seed 8 --out c.npy"
    status, _, said = call(asked, *common)
    assert status == 0, said
    assert "content seed 3, motion seed 8" in said
    model = mocogen.load(tiny, "cpu")
    expected = model.sample(20, content_seed=3, motion_seed=8)
    assert np.array_equal(np.load("c.npy"), expected)
    assert call("mocogen sample --content-seed 3 --seeds 7-9 --out {seed}.npy", *common)[0] == 0
    assert np.array_equal(np.load("8.npy"), expected)
    lines = [json.loads(line) for line in Path("manifest.jsonl").read_text().splitlines()]
    assert [(line["seed"], line["content_seed"]) for line in lines] == [(7, 3), (8, 3), (9, 3)]
    assert not {"motion_seed", "speed", "loop"} & lines[0].keys()


def test_a_manifest_tells_people_apart(call, tiny: Path):
    """A second run with another content may not take the first one's clips for its own."""
    common = ("--checkpoint", tiny, "--frames", 2, "--count", 2, "--seed", 0, "--out", "x/")
    assert call("mocogen sample --content-seed 3", *common)[0] == 0
    for other in ("", "--content-seed 4", "--content-seed 3 --speed 2"):
        status, _, said = call(f"mocogen sample {other}", *common)
        assert status == 2
        assert "belongs to another run, with " in said
    status, _, said = call("mocogen sample --content-seed 3", *common)
    assert "2 were there" in said


def test_json_lines_steer_every_clip(call, tiny: Path):
    Path("jobs.jsonl").write_text(
        '{"content_seed": 3, "motion_seed": 8}\n'
        '{"content_seed": 4, "motion_seed": 8, "speed": 0.5}\n'
        '{"seed": 8, "loop": true}\n'
    )
    common = ("--checkpoint", tiny, "--frames", 20, "--seeds-from", "jobs.jsonl")
    out = "{index}-{content_seed}-{motion_seed}-{seed}.npy"
    status, _, said = call("mocogen sample", *common, "--out", out)
    assert status == 0, said
    model = mocogen.load(tiny, "cpu")
    for name, options in (
        ("0-3-8-8", {"content_seed": 3, "motion_seed": 8}),
        ("1-4-8-8", {"content_seed": 4, "motion_seed": 8, "speed": 0.5}),
        ("2-8-8-8", {"seed": 8, "loop": True}),
    ):
        assert np.array_equal(np.load(f"{name}.npy"), model.sample(20, **options)), name
    lines = [json.loads(line) for line in Path("manifest.jsonl").read_text().splitlines()]
    assert [{k: line[k] for k in STEERING if k in line} for line in lines] == [
        {"content_seed": 3, "motion_seed": 8},
        {"content_seed": 4, "motion_seed": 8, "speed": 0.5},
        {"loop": True},
    ]


def test_clips_of_one_motion_have_names_of_their_own_in_archives(call, tiny: Path):
    import tarfile

    Path("jobs.jsonl").write_text(
        "".join(f'{{"content_seed": {c}, "motion_seed": 8}}\n' for c in (1, 2)) + '{"seed": 8}\n'
    )
    common = ("--checkpoint", tiny, "--frames", 2, "--seeds-from", "jobs.jsonl")
    assert call("mocogen sample --format npy --shards {shard}.tar", *common)[0] == 0
    with tarfile.open("0.tar") as archive:
        names = [name for name in archive.getnames() if name.endswith("npy")]
    assert names == ["000001-000008.npy", "000002-000008.npy", "000008.npy"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"content_seed": 1}', "it has no seed"),
        ('{"seed": 1, "content_seed": "x"}', "content_seed 'x': use a whole number"),
        ('{"seed": 1, "motion_seed": -1}', "motion_seed -1: use a whole number"),
        ('{"seed": 1, "speed": "slow"}', "speed 'slow': use a factor"),
        ('{"seed": 1, "speed": 0}', "speed 0: use a factor"),
        ('{"seed": 1, "loop": 1}', "loop 1: use true or false"),
        ('{"seed": 1, "loop": true, "frames": 3}', "from 8 to 10000"),
    ],
)
def test_lines_that_make_no_sense(line: str, said: str):
    with pytest.raises(UsageError, match=f"line 1 of the requests: .*{said}"):
        list(from_lines([line], Request()))


def test_a_clip_that_nobody_steers_has_the_record_it_always_had(call, tiny: Path):
    status, out, _ = call("mocogen sample --seed 4 --out a.gif --json", "--checkpoint", tiny)
    assert status == 0
    assert not STEERING.keys() & json.loads(out).keys()


@pytest.mark.parametrize(
    ("suffix", "command"),
    [
        ("gif", "mocogen sample --content-seed 3 --motion-seed 8 --speed 0.5 --frames 5"),
        ("mp4", "mocogen sample --seed 2 --content-seed 3 --loop --frames 9"),
        ("gif", "mocogen sample --seed 2 --noise constant --frames 9"),
        ("webp", "mocogen grid --contents 0,5 --motions 3 --actions all --frames 9 --loop"),
        ("gif", "mocogen grid --contents 0 --frames 3 --speed 2 --scale 2"),
        ("mp4", "mocogen interpolate --from 3 --to 7 --what content --frames 9 --steps 4"),
        ("png", "mocogen interpolate --from 3 --to 7 --strip --steps 3 --frames 2 --action spin"),
    ],
)
def test_the_command_inside_a_clip_makes_it_again(call, tiny: Path, command: str, suffix: str):
    clip = Path(f"clip.{suffix}")
    status, _, said = call(command, "--checkpoint", tiny, "--out", clip)
    assert status == 0, said
    before = clip.read_bytes()
    told = call(f"mocogen info {clip}")[1]
    clip.unlink()
    assert call(told.rpartition("\ncommand ")[2])[0] == 0
    assert clip.read_bytes() == before


def cells(picture: np.ndarray, canvas: mosaic.Canvas, size: int) -> list[np.ndarray]:
    """Where the canvas says that its cells lie, row after row."""
    return [picture[:, y : y + size, x : x + size] for y in canvas._tops for x in canvas._lefts]


def test_a_grid_has_a_row_a_content_and_a_column_a_motion(call, tiny: Path):
    command = "mocogen grid --contents 4-5 --motions 10-12 --frames 20 --scale 2 --out g.npy"
    status, out, said = call(command, "--json", "--checkpoint", tiny)
    assert status == 0, said
    told = json.loads(out)
    grid = np.load("g.npy")
    assert grid.shape == (20, told["height"], told["width"], 3)
    model = mocogen.load(tiny, "cpu")
    table = mosaic.grid(model, Seeds.parse("4-5"), Seeds.parse("10-12"), frames=20)
    found = cells(grid, mosaic.Canvas(table, 64), 64)
    seeds = [(c, m) for c in (4, 5) for m in (10, 11, 12)]
    assert len(found) == len(seeds)
    for cell, (content, motion) in zip(found, seeds, strict=True):
        alone = model.sample(20, content_seed=content, motion_seed=motion)
        assert np.array_equal(cell[:, ::2, ::2], alone)


def test_columns_of_actions(tiny: Path):
    model = mocogen.load(tiny, "cpu")
    table = mosaic.grid(model, Seeds.parse("1"), Seeds.parse("5-6"), ["hop", "spin"], frames=2)
    assert [clip.action for clip in table.clips] == [0, 1, 0, 1]
    assert [clip.motion_seed for clip in table.clips] == [5, 5, 6, 6]
    assert table.columns == ("motion 5\nhop", "motion 5\nspin", "motion 6\nhop", "motion 6\nspin")


def test_labels_are_dark_on_light_whole_and_beside_their_cells(tiny: Path):
    """The longest seed's label is wider than a cell: the cells must make room for it."""
    model = mocogen.load(tiny, "cpu")
    longest = str(2**63 - 1)
    table = mosaic.grid(model, Seeds.parse(f"1,{longest}"), Seeds.parse(f"2,{longest}"), frames=1)
    canvas = mosaic.Canvas(table, 32)
    picture = canvas.filled(np.zeros((1, 4, 32, 32, 3), np.uint8))[0, ..., 0]
    top, left = canvas._tops[0], canvas._lefts[0]
    for text, beside in (("rows", picture[:, : left - 20]), ("columns", picture[: top - 2])):
        ink = beside < 100
        assert ink.sum() > 100, f"{text} have labels"
        for edge in (ink[0], ink[-1], ink[:, 0], ink[:, -1]):
            assert not edge.any(), f"labels of {text} are cut off"
    ink = (picture[: top - 2] < 100).any(0)
    starts = np.flatnonzero(ink)
    assert np.diff(starts).max() > 4, "the labels of neighbouring columns do not touch"


@pytest.mark.parametrize("suffix", ["gif", "mp4", "webp", "png"])
def test_a_grid_in_every_format(call, tiny: Path, suffix: str):
    out = f"g.{suffix}"
    status, _, said = call("mocogen grid --contents 0 --frames 4 --out", out, "--checkpoint", tiny)
    assert status == 0, said
    assert "1 x 4 clips of 4 frames" in said
    if suffix == "mp4":
        pictures = iio.imread(out, plugin="FFMPEG")
    else:
        with Image.open(out) as image:
            pictures = np.stack(
                [np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(image)]
            )
    if suffix == "png":  # the frames side by side
        pictures = np.stack(np.split(pictures[0], 4, axis=1))
    assert len(pictures) == 4
    assert pictures.shape[1] % 2 == pictures.shape[2] % 2 == 0
    assert not np.array_equal(pictures[0], pictures[3]), "it plays"


def test_a_walk_as_one_clip(call, tiny: Path):
    """It begins as the one seed's clip and ends as the other's, the movement going on."""
    command = "mocogen interpolate --from 3 --to 7 --what content --frames 20 --out w.npy"
    status, _, said = call(command, "--checkpoint", tiny)
    assert status == 0, said
    walk = np.load("w.npy")
    model = mocogen.load(tiny, "cpu")
    start = model.sample(20, 3)
    end = model.sample(20, content_seed=7, motion_seed=3)
    assert np.array_equal(walk[0], start[0])
    assert np.array_equal(walk[-1], end[-1])
    assert not np.array_equal(walk[10], start[10])
    assert not np.array_equal(walk[10], end[10])


def test_a_walk_in_steps_stays_at_every_station(call, tiny: Path):
    command = "mocogen interpolate --from 3 --to 7 --what content --frames 20 --steps 2 --out w.npy"
    assert call(command, "--checkpoint", tiny)[0] == 0
    model = mocogen.load(tiny, "cpu")
    assert np.array_equal(np.load("w.npy")[:10], model.sample(20, 3)[:10])
    end = model.sample(20, content_seed=7, motion_seed=3)
    assert np.array_equal(np.load("w.npy")[10:], end[10:])


@pytest.mark.parametrize("what", ["content", "motion", "both"])
def test_a_walk_as_a_strip(tiny: Path, what: str):
    model = mocogen.load(tiny, "cpu")
    walk = Walk(7, what != "motion", what != "content")
    table = mosaic.stations(model, model.clip(3, frames=18, action="hop"), walk, 4)
    assert table.columns == ("seed 3", "0.33", "0.67", "seed 7")
    playing = np.concatenate(list(model.side_by_side(table.clips)))
    content, motion = (7 if walk.content else 3), (7 if walk.motion else 3)
    last = model.sample(18, action="hop", content_seed=content, motion_seed=motion)
    assert np.array_equal(playing[:, 0], model.sample(18, 3, action="hop"))
    assert np.array_equal(playing[:, -1], last)
    between = [np.abs(playing[:, k].astype(int) - playing[:, k + 1]).max() for k in range(3)]
    assert min(between) > 0


def test_a_strip_as_a_picture_has_a_row_a_station(call, tiny: Path):
    command = "mocogen interpolate --from 3 --to 7 --strip --steps 5 --frames 6 --out s.png"
    assert call(command, "--checkpoint", tiny)[0] == 0
    with Image.open("s.png") as image:
        assert image.width == 6 * 32
        assert 5 * 32 <= image.height < 6 * 32
        first = np.asarray(image)[:32].reshape(32, 6, 32, 3).swapaxes(0, 1)
    assert np.array_equal(first, mocogen.load(tiny, "cpu").sample(6, 3))


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("sample --content-seed 1 --motion-seed 2 --count 2 --out x/", "all clips are the same"),
        ("sample --content-seed -1", "content_seed -1"),
        ("sample --motion-seed 9223372036854775808", "motion_seed 9223372036854775808"),
        ("sample --speed 0", "speed 0.0: use a factor from 0.01 to 100"),
        ("sample --speed fast", "--speed"),
        ("sample --loop --frames 7", "from 8 to 10000"),
        ("grid --contents x", "is no seed"),
        ("grid --motions 5-3", "write 3-5"),
        ("grid --contents 0-9223372036854775806", "too large to hold"),
        ("grid --contents 0-200 --frames 1 --out g.gif", "too large to hold"),
        ("grid --contents 0-50 --motions 0-50 --scale 4", "too large to hold"),
        (
            "grid --contents 0-20 --motions 0-20 --frames 100 --out g.webp",
            "frames are too much to hold",
        ),
        ("grid --actions fly", "unknown action 'fly': use one of wave1"),
        ("grid --actions jack,jack", "one is there twice"),
        ("grid --out g.avi", ".gif, .mp4, .webp, .png, .npy"),
        ("grid --frames 0", "at least 1 frame"),
        ("grid --fps 0", "fps 0"),
        ("grid --noise loud", "per-frame, constant, feedback"),
        ("grid --motion here.txt", "add --generator"),
        ("interpolate --from 3 --to 3", "a walk needs two seeds"),
        ("interpolate --from 3", "--to"),
        ("interpolate --from -3 --to 1", "--from -3"),
        ("interpolate --from 3 --to 9223372036854775808", "--to 9223372036854775808"),
        ("interpolate --from 3 --to 7 --what hair", "content, motion, both"),
        ("interpolate --from 3 --to 7 --steps 1", "--steps 1: a way has at least its 2 ends"),
        ("interpolate --from 3 --to 7 --frames 1", "--frames 1: a way has at least its 2 ends"),
        ("interpolate --from 3 --to 7 --steps 49", "steps 49: use 1 to 48"),
        ("interpolate --from 3 --to 7 --strip --steps 500", "too large to hold"),
        ("interpolate --from 3 --to 7 --out w", "no suffix"),
        ("interpolate --from 3 --to 7 --action fly", "unknown action 'fly'"),
    ],
)
def test_bad_input_gets_a_clear_sentence(call, tmp_path: Path, command: str, said: str):
    status, out, err = call(f"mocogen {command}")
    assert status == 2, err
    assert said in err
    assert out == ""
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == [], "nothing half-written"


def test_a_walk_of_motion_needs_noise_for_more_than_the_first_frame(
    call, tmp_path: Path, even: Path
):
    words = f"interpolate --from 3 --to 7 --noise feedback --checkpoint {even}"
    test_bad_input_gets_a_clear_sentence(call, tmp_path, words, "the first frame alone")


def test_a_grid_that_cannot_be_written_leaves_an_older_one_alone(
    call, tiny: Path, monkeypatch: pytest.MonkeyPatch
):
    Path("g.npy").write_text("mine")

    def full(self: video.NpyWriter, frames: np.ndarray) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(video.NpyWriter, "write", full)
    status, _, said = call("mocogen grid --frames 2 --out g.npy", "--checkpoint", tiny)
    assert status == 1
    assert "No space left" in said
    assert Path("g.npy").read_text() == "mine"
    assert [path.name for path in Path().iterdir()] == ["g.npy"]


def test_a_checkpoint_without_actions_has_no_columns_of_them(call, tiny: Path, tmp_path: Path):
    from mocogen import checkpoint
    from mocogen.spec import ModelSpec

    spec = ModelSpec(content=5, noise=3, hidden=8, motion=4, width=4, image_size=32, name="mute")
    checkpoint.save(tmp_path / "mute.safetensors", spec, *checkpoint.build(spec))
    status, _, said = call("mocogen grid --actions all --checkpoint mute.safetensors")
    assert status == 2
    assert "knows no actions" in said
    assert call("mocogen grid --frames 2 --checkpoint mute.safetensors")[0] == 0


DOCS = (ROOT / "docs" / "steering.md").read_text(encoding="utf-8")
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", DOCS, re.S) for line in block.splitlines()
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_docs(call, command: str):
    """As it stands there, but for the length."""
    status, _, said = call(command, "--frames", 8, "--device", "cpu")
    assert status == 0, said
    assert list(Path().iterdir())


def test_a_long_grid_holds_a_few_moments_at_a_time(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    model = mocogen.load(tiny, "cpu")
    table = mosaic.grid(model, Seeds.parse("0-2"), Seeds.parse("0-2"), frames=10_000)
    seen = []
    images = model.backend.begin_images
    monkeypatch.setattr(model.backend, "begin_images", lambda x: seen.append(1) or images(x))
    next(model.side_by_side(table.clips, 4))
    assert len(seen) == -(-9 * 4 // model.backend.blocks.images)
