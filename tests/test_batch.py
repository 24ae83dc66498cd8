"""Many clips: what is asked for, what is kept, and what a killed run leaves behind."""

import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

import mocogen
from mocogen import UsageError, batch, files, manifest, templates, video
from mocogen.cli import sample as command
from mocogen.cli.report import Report
from mocogen.errors import DiskFullError, MocogenError
from mocogen.jobs import plan
from mocogen.requests import Request, Seeds, from_lines, part_of
from mocogen.shards import ShardSink
from mocogen.sinks import FileSink

from .conftest import ROOT


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, dot files too."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_seeds_are_read_as_written():
    assert list(Seeds.parse("3")) == [3]
    assert list(Seeds.parse("0-2, 9,4-5")) == [0, 1, 2, 9, 4, 5]
    assert len(Seeds.parse("0-99,200,300-310")) == 112


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5-3", "write 3-5"),
        ("1-5,5", "seed 5 is there twice"),
        ("1,2,1", "seed 1 is there twice"),
        ("0-9223372036854775807", "at most 9223372036854775807 clips"),
        ("", "is no seed"),
        ("1,,2", "is no seed"),
        ("-4", "is no seed"),
        ("1-2-3", "is no seed"),
        ("9223372036854775808", "from 0 to"),
        ("9" * 5000, "is no seed"),
    ],
)
def test_seeds_that_make_no_sense(text: str, said: str):
    with pytest.raises(UsageError, match=said):
        Seeds.parse(text)


def test_parts_cover_everything_once():
    for count in (0, 1, 7, 100):
        parts = [part_of(f"{k}/8", count) for k in range(1, 9)]
        assert [i for part in parts for i in part] == list(range(count))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for text in ("0/8", "9/8", "1", "a/b", "1/0", f"1/{'9' * 5000}"):
        with pytest.raises(UsageError, match="write K/N"):
            part_of(text, 10)


def test_a_part_of_some_seeds_is_found_without_a_walk_through_them():
    seeds = Seeds.parse("5-9,0-2,100")
    for start in range(10):
        for stop in range(start, 10):
            assert list(seeds.part(range(start, stop))) == list(seeds)[start:stop]
    many = Seeds.count(7, 2**62)
    assert list(many.part(range(2**61, 2**61 + 2))) == [2**61 + 7, 2**61 + 8]


def test_a_small_part_of_a_large_batch(run, tiny: Path, tmp_path: Path):
    command = ("sample", "--checkpoint", tiny, "--frames", 1, "--seed", 5, "--count", 2 * 10**12)
    done = run(*command, "--shard-of", "1000000000000/1000000000000", "--out", "s/{index}.npy")
    assert done.returncode == 0, done.stderr
    made = [f"{index}.npy" for index in (2 * 10**12 - 2, 2 * 10**12 - 1)]
    assert sorted(contents(tmp_path / "s")) == [*made, "manifest.jsonl"]


def test_requests_from_lines():
    lines = ['{"seed": 4, "frames": 7}\n', "\n", '{"seed": 5, "out": "b/{seed}.gif"}\n']
    got = list(from_lines(lines, Request(frames=9, out="a-{index}.gif")))
    assert [(r.seed, r.index, r.frames, r.out) for r in got] == [
        (4, 0, 7, "a-{index}.gif"),
        (5, 1, 9, "b/{seed}.gif"),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("hello", "line 2 of the requests: it is no JSON"),
        ("[1]", "no JSON object"),
        ("{}", "it has no seed"),
        ('{"seed": "x"}', "whole number"),
        ('{"seed": 1, "frames": 0}', "at least 1 frame"),
        ('{"seed": 1, "colour": 2}', "unknown option 'colour': use action, content_seed, fps"),
        ('{"seed": 1, "out": "../up.gif"}', "leads out of this folder"),
        ('{"seed": 1, "out": "/etc/up.gif"}', "leads out of this folder"),
        ('{"seed": 1, "out": "a/../../up.gif"}', "leads out of this folder"),
        (r'{"seed": 1, "out": "a\\..\\..\\up.gif"}', "leads out of this folder"),
        ('{"seed": 1, "scale": 0}', "scale 0: use a whole number from 1 to 32"),
        ('{"seed": 1, "scale": 33}', "scale 33: use a whole number from 1 to 32"),
        ('{"seed": 1, "fps": "fast"}', "frames a second"),
        ('{"seed": 1, "fps": true}', "fps True: use a rate"),
        ('{"seed": 1, "out": null}', "out None: use the name of a file"),
        (r'{"seed": 1, "out": "a\u0000b.gif"}', "use the name of a file"),
        (r'{"seed": 1, "out": "a\ud800b.gif"}', "use the name of a file"),
        ('{"seed": %s}' % ("9" * 5000), "no JSON that can be read"),
        ("[" * 200_000, "no JSON that can be read"),
    ],
)
def test_requests_that_make_no_sense(line: str, said: str):
    with pytest.raises(UsageError, match=f"line 2 .*{said}" if "line" not in said else said):
        list(from_lines(['{"seed": 1}', line], Request()))


def test_a_request_makes_the_bytes_of_the_command_line(run, tiny: Path, tmp_path: Path):
    common = ("sample", "--checkpoint", tiny, "--frames", 4)
    (tmp_path / "jobs").write_text('{"seed": 1, "fps": 20, "speed": 2, "out": "a/x.gif"}')
    assert run(*common, "--seeds-from", "jobs", "--out", "{seed}.gif").returncode == 0
    options = ("--seed", 1, "--fps", 20, "--speed", 2, "--out", "b/x.gif")
    assert run(*common, *options).returncode == 0
    assert (tmp_path / "a/x.gif").read_bytes() == (tmp_path / "b/x.gif").read_bytes()


def test_the_manifest_lies_in_the_folder_that_all_clips_share():
    assert templates.home("clips/{action}/{seed}.mp4") == Path("clips")
    assert templates.home("a/b/{seed}.mp4") == Path("a/b")
    assert templates.home("{seed}.mp4") == Path()
    assert templates.home("/x/{seed}/a.mp4") == Path("/x")
    assert templates.home("g{{x}}/{seed}.mp4") == Path("g{x}")


OPTIONS = ("--frames", "6", "--seed", "3", "--out", "{action}/{seed:03d}.mp4")


def test_a_batch_lists_its_files_with_their_hashes(run, tiny: Path, tmp_path: Path):
    done = run("sample", "--checkpoint", tiny, "--count", 5, *OPTIONS)
    assert done.returncode == 0, done.stderr
    assert "5 clips, 30 frames" in done.stderr
    lines = [json.loads(text) for text in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert [line["seed"] for line in lines] == [3, 4, 5, 6, 7]
    for line in lines:
        assert files.sha256(tmp_path / line["file"]) == line["sha256"]
        assert line["file"] == f"{line['action']}/{line['seed']:03d}.mp4"
        assert (line["frames"], line["fps"], len(line["checkpoint"])) == (6, 20.0, 64)


def test_a_second_run_makes_only_what_is_missing_or_damaged(run, tiny: Path, tmp_path: Path):
    command = ("sample", "--checkpoint", tiny, "--count", 6, *OPTIONS)
    assert run(*command).returncode == 0
    before = contents(tmp_path)
    first, second, third = [tmp_path / name for name in sorted(before) if name.endswith("mp4")][:3]
    first.unlink()
    second.write_bytes(b"damaged")
    age = third.stat().st_mtime_ns
    done = run(*command)
    assert done.returncode == 0, done.stderr
    assert "4 were there" in done.stderr
    assert contents(tmp_path) == before
    assert third.stat().st_mtime_ns == age


def test_killed_runs_end_in_the_files_of_an_undisturbed_one(tiny: Path, tmp_path: Path):
    """kill -9, three times, at moments that nobody chose."""

    def start(folder: Path) -> subprocess.Popen[bytes]:
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "mocogen", "sample", "--checkpoint", str(tiny)]
        command += ["--count", "40", "--frames", "40", "--seed", "0", "--quiet", "--scale", "3"]
        command += ["--out", "clips/{action}/{seed:03d}.gif"]
        return subprocess.Popen(command, cwd=folder)

    calm, rough = tmp_path / "calm", tmp_path / "rough"
    assert start(calm).wait(timeout=120) == 0
    chance = random.Random(time.time_ns())
    for round_ in range(3):
        process = start(rough)
        target = 8 * (round_ + 1)
        deadline = time.time() + 60
        while len(list(rough.rglob("*.gif"))) < target and time.time() < deadline:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(list(rough.rglob("*.gif"))) < 40, "it was killed too late to show anything"
    assert start(rough).wait(timeout=120) == 0
    assert contents(rough) == contents(calm)


def test_a_torn_last_line_is_written_again(run, tiny: Path, tmp_path: Path):
    command = ("sample", "--checkpoint", tiny, "--count", 3, *OPTIONS)
    assert run(*command).returncode == 0
    before = contents(tmp_path)
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    assert run(*command).returncode == 0
    assert contents(tmp_path) == before


def test_a_manifest_of_another_run_is_refused(tmp_path: Path):
    path = tmp_path / "manifest.jsonl"
    path.write_text('{"file": "a.gif", "sha256": "0", "frames": 16, "fps": 25.0}\n')
    with pytest.raises(UsageError, match="frames 16 instead of 48"):
        manifest.Manifest(path, {"frames": 48, "fps": 25.0})
    assert path.read_text() != ""
    with manifest.Manifest(path, {"frames": 48}, resume=False) as anew:
        assert anew.done == {}


def test_a_manifest_that_cannot_be_read_or_is_in_use(tmp_path: Path):
    path = tmp_path / "manifest.jsonl"
    path.write_text("hello\n")
    with pytest.raises(MocogenError, match=r"line 1 of .* cannot be read"):
        manifest.Manifest(path, {})
    path.write_text("")
    with (
        manifest.Manifest(path, {}),
        pytest.raises(MocogenError, match="in use by another mocogen"),
    ):
        manifest.Manifest(path, {})


def test_files_that_no_manifest_lists(run, tiny: Path, tmp_path: Path):
    for name in ("007.gif", "008.gif"):
        (tmp_path / name).write_text("mine")
    common = ("--checkpoint", tiny, "--frames", 2, "--seeds", "7-9", "--out", "{seed:03d}.gif")
    refused = run("sample", *common, "--if-exists", "error")
    assert refused.returncode == 1
    assert "007.gif exists" in refused.stderr
    kept = run("sample", *common, "--if-exists", "skip")
    assert kept.returncode == 0, kept.stderr
    assert (tmp_path / "007.gif").read_text() == "mine"
    assert (tmp_path / "009.gif").stat().st_size > 100
    assert run("sample", *common).returncode == 0
    assert (tmp_path / "007.gif").read_bytes().startswith(b"GIF")


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("--seed 0", "--seed 100", "with seed 0 instead of 100"),
        ("--seed 0 --action hop", "--seed 0 --action spin", "with action hop instead of spin"),
    ],
)
def test_other_clips_under_the_names_of_an_earlier_run_are_refused(
    run, tiny: Path, tmp_path: Path, first: str, second: str, said: str
):
    common = ("--checkpoint", tiny, "--frames", 2, "--count", 3, "--out", "{index}.gif")
    assert run("sample", *common, *first.split()).returncode == 0
    before = contents(tmp_path)
    refused = run("sample", *common, *second.split())
    assert refused.returncode == 2
    assert "belongs to another run" in refused.stderr
    assert said in refused.stderr
    assert contents(tmp_path) == before
    anew = run("sample", *common, *second.split(), "--no-resume")
    assert anew.returncode == 0, anew.stderr
    assert len((tmp_path / "manifest.jsonl").read_text().splitlines()) == 3
    assert contents(tmp_path) != before


def test_requests_that_were_changed_are_refused(run, tiny: Path, tmp_path: Path):
    command = ("sample", "--checkpoint", tiny, "--seeds-from", "jobs", "--out", "{seed}.gif")
    (tmp_path / "jobs").write_text('{"seed": 1, "frames": 2}\n{"seed": 2, "frames": 2}')
    assert run(*command).returncode == 0
    (tmp_path / "jobs").write_text('{"seed": 2, "frames": 2}\n{"seed": 1, "frames": 2}')
    assert "2 were there" in run(*command).stderr, "the same clips in another order"
    (tmp_path / "jobs").write_text('{"seed": 1, "frames": 3}\n{"seed": 2, "frames": 2}')
    refused = run(*command)
    assert refused.returncode == 2
    assert "lists 1.gif with frames 2 instead of 3" in refused.stderr


def test_requests_that_no_longer_name_a_content_are_refused(run, tiny: Path, tmp_path: Path):
    """What a line of the manifest names, the request must, too."""
    command = ("sample", "--checkpoint", tiny, "--frames", 2, "--seeds-from", "jobs")
    command += ("--out", "{seed}.gif")
    (tmp_path / "jobs").write_text('{"seed": 1, "content_seed": 3}\n{"seed": 2}')
    assert run(*command).returncode == 0
    (tmp_path / "jobs").write_text('{"seed": 1}\n{"seed": 2}')
    refused = run(*command)
    assert refused.returncode == 2
    assert "lists 1.gif with content_seed 3 instead of None" in refused.stderr


def test_a_shard_of_other_clips_is_not_overwritten(run, tiny: Path, tmp_path: Path):
    command = ("sample", "--checkpoint", tiny, "--frames", 2, "--shards", "{shard}.tar")
    assert run(*command, "--count", 3, "--seed", 0).returncode == 0
    before = contents(tmp_path)
    refused = run(*command, "--count", 3, "--seed", 100)
    assert refused.returncode == 2
    assert "lists 000000.mp4 in 0.tar" in refused.stderr
    assert contents(tmp_path) == before
    assert run(*command, "--count", 5, "--seed", 0).returncode == 0, "a longer batch goes on"


@pytest.mark.parametrize("policy", ["error", "skip"])
@pytest.mark.parametrize("place", [("--out", "{seed}.gif"), ("--shards", "{shard}.tar")])
def test_files_that_a_killed_run_did_not_come_to_list(
    run, tiny: Path, tmp_path: Path, policy: str, place: tuple[str, str]
):
    command = ("sample", "--checkpoint", tiny, "--frames", 2, "--count", 3, "--seed", 0)
    command += (*place, "--if-exists", policy)
    assert run(*command).returncode == 0
    before = contents(tmp_path)
    path = tmp_path / "manifest.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    again = run(*command)
    assert again.returncode == 0, again.stderr
    assert "3 were there" in again.stderr
    assert contents(tmp_path) == before


@pytest.mark.parametrize("place", [("--out", "{seed}.gif"), ("--shards", "{shard}.tar")])
def test_other_clips_that_no_manifest_lists_are_not_taken_for_these(
    run, tiny: Path, tmp_path: Path, place: tuple[str, str]
):
    command = ("sample", "--checkpoint", tiny, "--frames", 2, "--count", 2, "--seed", 0, *place)
    assert run(*command, "--action", "hop").returncode == 0
    (tmp_path / "manifest.jsonl").unlink()
    before = contents(tmp_path)
    refused = run(*command, "--action", "spin", "--if-exists", "error")
    assert refused.returncode == 1
    assert "exists: choose --if-exists" in refused.stderr
    assert contents(tmp_path) == before


def test_starting_anew_leaves_the_manifest_until_there_is_a_clip(run, tiny: Path, tmp_path: Path):
    command = ("sample", "--checkpoint", tiny, "--frames", 2, "--count", 3, "--seed", 0)
    command += ("--out", "{seed}.gif")
    assert run(*command).returncode == 0
    before = contents(tmp_path)
    assert run(*command, "--no-resume", "--action", "fly").returncode == 2
    assert contents(tmp_path) == before
    (tmp_path / "0.gif").write_text("mine")
    assert run(*command, "--no-resume", "--if-exists", "error").returncode == 1
    assert (tmp_path / "manifest.jsonl").read_bytes() == before["manifest.jsonl"]


@pytest.mark.parametrize("words", [("--count", "3", "--shard-of", "1/3"), ("--count", "1")])
def test_a_batch_of_one_clip_is_a_batch(run, tiny: Path, tmp_path: Path, words: tuple[str, ...]):
    command = ("sample", "--checkpoint", tiny, "--frames", 2, "--seed", 0, *words)
    command += ("--out", "{seed}.gif")
    assert run(*command).returncode == 0
    assert sorted(contents(tmp_path)) == ["0.gif", "manifest.jsonl"]
    assert "1 were there" in run(*command).stderr


@pytest.mark.parametrize(
    "out",
    ["{action:.>2.0}/up.gif", "{action}/a.gif", "a/{checkpoint}/a.gif", "{action:.0}/a.gif"],
)
def test_a_field_leads_into_no_other_folder(out: str):
    with pytest.raises(UsageError, match="leads out of its folder"):
        templates.filled(out, {"action": "x/..", "checkpoint": ".."})


def test_fields_fill_their_part_of_a_path():
    fields = {"seed": 7, "action": "jump.up"}
    assert templates.filled("../{action}/{{a}}/{seed:03d}.gif", fields) == Path(
        "../jump.up/{a}/007.gif"
    )
    with pytest.raises(UsageError, match="a slash or a brace within braces"):
        templates.check_template("{seed:/>2}.gif")


def test_a_reader_of_json_that_leaves_is_no_error_of_writing(tiny: Path, tmp_path: Path):
    command = [sys.executable, "-m", "mocogen", "sample", "--checkpoint", str(tiny), "--quiet"]
    command += ["--count", "400", "--seed", "0", "--frames", "20"]
    command += ["--json", "--shards", "{shard}.tar", "--shard-size", "20"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode != 0
    assert said == ""
    made = contents(tmp_path).keys()
    assert {"0.tar", "manifest.jsonl"} <= made
    assert len(made) < 21
    assert not [name for name in made if name.startswith(".")]


def test_the_example_makes_a_data_set(tmp_path: Path):
    here = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["sh", str(ROOT / "examples" / "small_dataset.sh"), str(tmp_path), "2"]
    done = subprocess.run(command, env=here, capture_output=True, text=True, check=True)
    counts = re.findall(r"(\w+): (\d) clips", done.stdout)
    assert [action for action, _ in counts] == ["wave1", "wave2", "jack", "bend"]
    assert sum(int(count) for _, count in counts) == 2
    assert len(list((tmp_path / "clips").rglob("*.mp4"))) == 2
    assert [path.name for path in (tmp_path / "shards").glob("*.tar")] == ["clips-00000.tar"]


def test_a_plain_line_tells_how_far_a_batch_is(capsys: pytest.CaptureFixture[str]):
    report = Report(10, 48, as_json=False, quiet=False)
    report.done, report.failed, report.kept = 4, 1, 2
    report._count_and_tell(96, every=0.0)
    assert re.match(r"4 clips, 96 frames in .* frames/s\), 3 left, about", capsys.readouterr().err)
    report._count_and_tell(96, every=60.0)
    assert capsys.readouterr().err == ""


def test_parts_of_a_batch_make_the_whole(run, tiny: Path, tmp_path: Path):
    common = ("--checkpoint", tiny, "--frames", 2, "--seeds", "0-6")
    assert run("sample", *common, "--out", "whole/{index}.npy").returncode == 0
    for k in (1, 2, 3):
        done = run("sample", *common, "--shard-of", f"{k}/3", "--out", f"part{k}/{{index}}.npy")
        assert done.returncode == 0, done.stderr
    parts = [p for k in (1, 2, 3) for p in (tmp_path / f"part{k}").glob("*.npy")]
    assert sorted(p.name for p in parts) == [f"{i}.npy" for i in range(7)]
    for path in parts:
        assert path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes()


def test_a_clip_that_cannot_be_written_is_named_and_the_rest_is_done(
    run, tiny: Path, tmp_path: Path
):
    (tmp_path / "001.gif").mkdir()
    common = ("--checkpoint", tiny, "--frames", 40, "--seeds", "0-3")
    done = run("sample", *common, "--out", "{seed:03d}.gif", "--if-exists", "overwrite")
    assert done.returncode == 1
    assert "seed 1: cannot write 001.gif: it is a folder" in done.stderr
    assert "1 FAILED" in done.stderr
    listed = (tmp_path / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["seed"] for line in listed] == [0, 2, 3]


def test_a_full_disk_ends_the_batch_and_keeps_what_is_done(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = mocogen.load(tiny, "cpu")
    requests = [Request(seed=s, index=s, frames=4, out=f"{tmp_path}/{s}.npy") for s in range(4)]
    write = video.NpyWriter.write

    def full(self: video.NpyWriter, frames: np.ndarray) -> None:
        if ".2." in self.path.name:
            raise OSError(28, "No space left on device")
        write(self, frames)

    monkeypatch.setattr(video.NpyWriter, "write", full)
    with manifest.Manifest(tmp_path / "manifest.jsonl", {}) as kept:
        done = batch.render(model, plan(model, requests, {}), FileSink(kept))
        assert next(done).error is None
        assert next(done).error is None
        with pytest.raises(DiskFullError, match="No space left"):
            next(done)
    assert sorted(contents(tmp_path)) == ["0.npy", "1.npy", "manifest.jsonl"]


def test_clips_before_a_request_that_is_refused_are_complete(tiny: Path, tmp_path: Path):
    """It may be found out in the middle of one of them: 21 frames are no whole blocks."""
    model = mocogen.load(tiny, "cpu", "torch")
    asked = [Request(s, s, frames=21, out=f"{tmp_path}/{s:02d}.npy") for s in range(12)]
    asked[8] = replace(asked[8], action="fly")
    done = batch.render(model, plan(model, asked, {}), FileSink())
    outcomes = []
    with pytest.raises(UsageError, match="unknown action 'fly'"):
        outcomes.extend(done)
    assert sorted(contents(tmp_path)) == [f"{s:02d}.npy" for s in range(8)]
    assert all(len(np.load(tmp_path / f"{s:02d}.npy")) == 21 for s in range(8))


@pytest.mark.parametrize(
    ("out", "error"), [("file/clip.npy", MocogenError), ("long.png", UsageError)]
)
def test_what_cannot_be_written_is_told_before_all_frames_are_made(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, error: type[Exception]
):
    (tmp_path / "file").touch()
    model = mocogen.load(tiny, "cpu", "torch")
    blocks = []
    make = model.backend.begin_images
    monkeypatch.setattr(model.backend, "begin_images", lambda x: blocks.append(1) or make(x))
    asked = Request(frames=4000, out=f"{tmp_path}/{out}")
    with pytest.raises(error, match=r"cannot write|too wide"):  # noqa: PT012 - either may raise
        outcome = next(batch.render(model, plan(model, [asked], {}), FileSink()))
        raise outcome.error or AssertionError
    assert len(blocks) <= batch.AHEAD + 2


def test_a_disk_that_is_really_full(run, tiny: Path, tmp_path: Path):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(small)]
    try:
        made = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        pytest.skip("a small disk cannot be mounted here: it takes root on Linux")
    try:
        common = ("--checkpoint", tiny, "--count", 12, "--frames", 16, "--seed", 0)
        out = ("--out", "small/{seed}.gif")
        full = run("sample", *common, *out)
        assert full.returncode == 1
        (stopped,) = re.findall(
            r"^mocogen: cannot write small/(\d+)\.gif: No space left on device$", full.stderr
        )
        whole = {f"{seed}.gif" for seed in range(int(stopped))}
        assert contents(small).keys() == whole | {"manifest.jsonl"}
        assert 1 <= len(whole) < 12
        subprocess.run(["mount", "-o", "remount,size=1m", str(small)], check=True)
        again = run("sample", *common, *out)
        assert f"{stopped} were there" in again.stderr
        assert run("sample", *common, "--out", "calm/{seed}.gif").returncode == 0
        assert contents(small) == contents(tmp_path / "calm")
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_file_that_was_named_before_an_interruption_is_listed(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = mocogen.load(tiny, "cpu")
    template = f"{tmp_path}/{{seed}}.npy"
    jobs = plan(model, [Request(seed=seed, frames=2, out=template) for seed in (1, 2)], {})
    rename = Path.replace

    def rename_and_stop(self: Path, target: Path) -> Path:
        rename(self, target)
        if target.name == "2.npy":
            raise KeyboardInterrupt
        return target

    monkeypatch.setattr(Path, "replace", rename_and_stop)
    with (
        manifest.Manifest(tmp_path / "manifest.jsonl", {}) as listed,
        pytest.raises(KeyboardInterrupt),
    ):
        list(batch.render(model, jobs, FileSink(listed)))
    lines = (tmp_path / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["file"] for line in lines] == ["1.npy", "2.npy"]


def test_ctrl_c_leaves_whole_clips_that_are_listed(tiny: Path, tmp_path: Path):
    command = [sys.executable, "-m", "mocogen", "sample", "--checkpoint", str(tiny), "--quiet"]
    command += ["--count", "5000", "--frames", "40", "--seed", "0", "--out", "{seed}.gif"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        deadline = time.time() + 60
        while len(list(tmp_path.glob("[0-9]*.gif"))) < 5 and time.time() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        assert process.stderr
        assert process.stderr.read() == b""
    assert process.returncode == 130
    lines = [json.loads(text) for text in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert {line["file"] for line in lines} | {"manifest.jsonl"} == contents(tmp_path).keys()
    for line in lines:
        assert files.sha256(tmp_path / line["file"]) == line["sha256"]


def test_frames_are_made_while_others_are_written(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    model = mocogen.load(tiny, "cpu")
    blocks = []
    second = threading.Event()
    images = model.backend.begin_images

    def counted(latents: np.ndarray) -> np.ndarray:
        blocks.append(len(latents))
        if len(blocks) == 2:
            second.set()
        return images(latents)

    write = video.NpyWriter.write
    overlapped = []

    def slow(self: video.NpyWriter, frames: np.ndarray) -> None:
        overlapped.append(second.wait(timeout=10))
        write(self, frames)

    monkeypatch.setattr(model.backend, "begin_images", counted)
    monkeypatch.setattr(video.NpyWriter, "write", slow)
    size = model.backend.blocks.images
    asked = Request(frames=20 * size, out=f"{tmp_path}/clip.npy")
    (outcome,) = batch.render(model, plan(model, [asked], {}), FileSink())
    assert outcome.error is None
    assert overlapped[0], "the second block was not begun before the first was written"
    assert np.array_equal(np.load(tmp_path / "clip.npy"), model.sample(20 * size, seed=0))


def test_one_thread_writes_before_it_goes_on(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    model = mocogen.load(tiny, "cpu")
    write = video.NpyWriter.write
    writers = set()

    def noted(self: video.NpyWriter, frames: np.ndarray) -> None:
        writers.add(threading.current_thread())
        write(self, frames)

    monkeypatch.setattr(video.NpyWriter, "write", noted)
    asked = Request(frames=40, out=f"{tmp_path}/clip.npy")
    (outcome,) = batch.render(model, plan(model, [asked], {}), FileSink())
    assert outcome.error is None
    assert writers == {threading.current_thread()}


def test_frames_do_not_pile_up_ahead_of_a_slow_writer(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    model = mocogen.load(tiny, "cpu")
    made, lead = [0], []
    images = model.backend.begin_images

    def counted(latents: np.ndarray) -> np.ndarray:
        made[0] += 1
        return images(latents)

    def slow(self: video.NpyWriter, frames: np.ndarray) -> None:
        time.sleep(0.01)
        lead.append(made[0] - len(lead))

    monkeypatch.setattr(model.backend, "begin_images", counted)
    monkeypatch.setattr(video.NpyWriter, "write", slow)
    asked = Request(frames=30 * model.backend.blocks.images, out=f"{tmp_path}/clip.npy")
    list(batch.render(model, plan(model, [asked], {}), FileSink()))
    assert 1 < max(lead) <= batch.AHEAD + 2


def test_a_batch_that_is_left_drops_the_clip_in_hand(tiny: Path, tmp_path: Path):
    model = mocogen.load(tiny, "cpu")
    requests = [Request(seed=s, index=s, frames=40, out=f"{tmp_path}/{s}.gif") for s in range(99)]
    with manifest.Manifest(tmp_path / "manifest.jsonl", {}) as kept:
        done = batch.render(model, plan(model, requests, {}), FileSink(kept))
        next(done)
        done.close()
    listed = (tmp_path / "manifest.jsonl").read_text().splitlines()
    assert {json.loads(line)["file"] for line in listed} == contents(tmp_path).keys() - {
        "manifest.jsonl"
    }
    assert 1 <= len(listed) < 20


def test_the_bar_tells_the_speed_and_fits_a_terminal(monkeypatch: pytest.MonkeyPatch):
    from mocogen.cli import report

    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    show = report.Report(100, 4800, as_json=False, quiet=False)
    show.kept, show.kept_frames = 20, 960
    with show.progress() as on_frames:
        on_frames(960)
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue()).replace("\r", "\n")
    assert re.search(r" 25% 960/3840 0 clips/s, [\d.e+]+ frames/s -:--:--$", last, re.M)


def test_the_frames_of_a_batch_are_those_of_its_requests(tmp_path: Path):
    path = tmp_path / "jobs"
    path.write_text('{"seed": 1, "frames": 300}\n{"seed": 2}\n{"seed": 3}\n')
    asked = Request(frames=48)
    assert command._requests(None, str(path), None, 1, asked, True)[1:] == (3, 396)
    assert command._requests(None, str(path), "1/3", 1, asked, True)[1:] == (1, 300)
    assert command._requests(Seeds.parse("0-9"), None, None, 1, asked, True)[1:] == (10, 480)


def piped(tiny: Path, *words: str) -> bytes:
    command = [sys.executable, "-m", "mocogen", "sample", "--checkpoint", str(tiny), *words]
    return subprocess.run(command, capture_output=True, check=True).stdout


def test_a_clip_goes_into_a_pipe(tiny: Path, tmp_path: Path):
    expected = mocogen.load(tiny, "cpu").sample(20, seed=3)
    options = ("--seed", "3", "--frames", "20", "--out", "-", "--format")
    raw = np.frombuffer(piped(tiny, *options, "rgb24"), np.uint8)
    assert np.array_equal(raw.reshape(20, 32, 32, 3), expected)
    for kind in ("mp4", "gif"):
        path = tmp_path / f"clip.{kind}"
        path.write_bytes(piped(tiny, *options, kind))
        assert iio.imread(path, plugin="FFMPEG" if kind == "mp4" else "pillow").shape[0] == 20


def test_a_reader_that_leaves_early_is_no_drama(tiny: Path):
    command = [sys.executable, "-m", "mocogen", "sample", "--checkpoint", str(tiny)]
    command += ["--frames", "100000", "--out", "-", "--format", "rgb24", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert len(process.stdout.read(5000)) == 5000
        process.stdout.close()
        assert process.stderr
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--out", "-", "--format", "avi"), "a pipe takes mp4, gif, rgb24"),
        (("--out", "clip.gif", "--format", "mp4"), "a file's name tells its format"),
        (("--out", "-", "--count", "2"), "one clip"),
        (("--out", "-", "--json"), "both want standard output"),
        (("--seeds", "1", "--seed", "2"), "give one of"),
        (("--seeds", "1", "--count", "2"), "give one of"),
        (("--seeds-from", "nowhere.jsonl", "--out", "x/"), "cannot read --seeds-from"),
        (("--seeds-from", "-", "--out", "one.gif"), "several clips cannot all be one.gif"),
        (("--if-exists", "ask"), "overwrite, skip, error"),
        (("--engine", "spark"), "local, ray"),
        (("--num-workers", "2"), "add --engine ray"),
        (("--out", "nowhere://x/{seed}.gif", "--count", "2"), "no protocol that fsspec knows"),
    ],
)
def test_options_that_do_not_go_together(run, words: tuple[str, ...], said: str):
    done = run("sample", *words)
    assert done.returncode == 2
    assert said in done.stderr


def test_shards_are_what_webdataset_reads(run, tiny: Path, tmp_path: Path):
    import webdataset

    options = ("--shards", "d/clips-{shard:03d}.tar", "--shard-size", "3", "--format", "npy")
    done = run("sample", "--checkpoint", tiny, "--seeds", "10-16", "--frames", 4, *options)
    assert done.returncode == 0, done.stderr
    assert sorted(contents(tmp_path / "d")) == [
        "clips-000.tar",
        "clips-001.tar",
        "clips-002.tar",
        "manifest.jsonl",
    ]
    urls = [str(path) for path in sorted((tmp_path / "d").glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    assert [sample["__key__"] for sample in samples] == [f"{s:06d}" for s in range(10, 17)]
    model = mocogen.load(tiny, "cpu")
    for sample in samples:
        assert np.array_equal(sample["npy"], model.sample(4, seed=sample["json"]["seed"]))


def test_shards_of_killed_runs_and_of_parts_are_the_same(tiny: Path, tmp_path: Path):
    def start(folder: str, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "mocogen", "sample", "--checkpoint", str(tiny)]
        command += ["--count", "40", "--frames", "30", "--seed", "0", "--quiet", "--scale", "3"]
        command += ["--shards", f"{folder}/{{shard}}.tar", "--shard-size", "7", *words]
        return subprocess.Popen(command, cwd=tmp_path)

    assert start("calm").wait(timeout=120) == 0
    process = start("rough")
    deadline = time.time() + 60
    while not (tmp_path / "rough" / "1.tar").exists() and time.time() < deadline:
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert not (tmp_path / "rough" / "5.tar").exists(), "it was killed too late to show anything"
    assert start("rough").wait(timeout=120) == 0
    calm = contents(tmp_path / "calm")
    assert contents(tmp_path / "rough") == calm
    for k in ("1/2", "2/2"):
        assert start("parts", "--shard-of", k).wait(timeout=120) == 0
    assert contents(tmp_path / "parts") == calm


def test_a_shard_with_a_part_of_its_lines_is_made_anew(run, tiny: Path, tmp_path: Path):
    """As after a kill between the first line of a shard and its last."""
    command = ("sample", "--checkpoint", tiny, "--count", 6, "--frames", 3, "--seed", 0)
    command += ("--shards", "{shard}.tar", "--shard-size", 3)
    assert run(*command).returncode == 0
    before = contents(tmp_path)
    path = tmp_path / "manifest.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:4]))
    again = run(*command)
    assert "3 were there" in again.stderr
    assert contents(tmp_path) == before
    (tmp_path / "0.tar").write_bytes(before["0.tar"][:1024])
    assert "3 were there" in run(*command).stderr
    assert contents(tmp_path) == before


def test_a_shard_with_a_damaged_pixel_is_made_anew(run, tiny: Path, tmp_path: Path):
    """It is as long as it was, and an archive still."""
    command = ("sample", "--checkpoint", tiny, "--count", 4, "--frames", 3, "--seed", 0)
    command += ("--shards", "{shard}.tar", "--shard-size", 2, "--format", "npy")
    assert run(*command).returncode == 0
    before = contents(tmp_path)
    damaged = bytearray(before["0.tar"])
    damaged[1000] ^= 1  # in the first clip, after its headers
    (tmp_path / "0.tar").write_bytes(damaged)
    assert "2 were there" in run(*command).stderr
    assert contents(tmp_path) == before


def largest(size: int) -> Callable[[], None]:
    """To run in a process before it starts: it can write no file of more than ``size`` bytes."""
    import resource

    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


SHARDED = ("--frames", 2, "--shards", "{shard}.tar", "--format", "npy", "--shard-size")


def test_a_shard_with_a_failed_clip_takes_no_good_ones_place(run, tiny: Path, tmp_path: Path):
    command = ("sample", "--checkpoint", tiny, "--seeds", "0-2", *SHARDED, 3)
    assert run(*command).returncode == 0
    before = contents(tmp_path)
    failed = run(*command, "--no-resume", "--json", preexec_fn=largest(4096))
    assert failed.returncode == 1
    assert "seed 0: cannot write 0.tar: File too large" in failed.stderr
    assert "seed 2: left out, for a clip of its shard failed: cannot write" in failed.stderr
    assert "3 FAILED" in failed.stderr
    assert failed.stdout == ""
    assert contents(tmp_path) == before


def test_a_shard_that_cannot_be_completed_fails_with_its_own_clips(run, tiny: Path, tmp_path: Path):
    command = ("sample", "--checkpoint", tiny, "--seeds", "0-5", *SHARDED, 4, "--json")
    failed = run(*command, preexec_fn=largest(30_000))  # four clips take more, two less
    assert failed.returncode == 1
    assert re.findall(r"seed (\d): ", failed.stderr) == ["0", "1", "2", "3"]
    assert [json.loads(line)["seed"] for line in failed.stdout.splitlines()] == [4, 5]
    assert contents(tmp_path).keys() == {"1.tar", "manifest.jsonl"}
    assert run(*command).returncode == 0
    assert contents(tmp_path).keys() == {"0.tar", "1.tar", "manifest.jsonl"}


def test_the_clips_of_a_shard_are_told_when_it_is_there(tiny: Path, tmp_path: Path):
    model = mocogen.load(tiny, "cpu")
    requests = [Request(seed=s, index=s, frames=4) for s in range(5)]
    told = []
    with (
        manifest.Manifest(tmp_path / "manifest.jsonl", {}) as kept,
        ShardSink(f"{tmp_path}/{{shard}}.tar", 2, "npy", kept) as sink,
    ):
        for outcome in batch.render(model, plan(model, requests, {}), sink):
            assert sink.place(outcome.job).exists()
            told.append(outcome.job.index)
    assert told == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['{"seed": 1}', '{"seed": 1, "frames": 3}'], "clips 0 and 1 of the batch would both be"),
        (
            ['{"seed": 1, "out": "{foo}.gif"}', '{"seed": 2}'],
            "line 1 of the requests: cannot read",
        ),
        (
            ['{"seed": 1}', '{"seed": 2, "out": "b.avi"}'],
            "line 2 of the requests: b.avi has",
        ),
        (
            ['{"seed": 1}', '{"seed": 2, "out": "s3://b/b.gif"}'],
            "line 2 of the requests: in archives, in pipes and at",
        ),
        (
            ['{"seed": 1}', '{"seed": 2, "action": "fly"}'],
            "line 2 of the requests: unknown",
        ),
    ],
)
def test_requests_whose_clips_cannot_be_told_apart_or_written(
    tiny: Path, lines: list[str], said: str
):
    out = "{seed}.gif"
    asked = templates.own_paths(from_lines(lines, Request(out=out)), out, apart=True)
    with pytest.raises(UsageError, match=re.escape(said)):
        list(batch.distinct(plan(mocogen.load(tiny, "cpu"), asked, {}), FileSink()))


def test_the_path_of_a_request_is_too_long():
    asked = [Request(out="a" * 300 + ".gif", line=1)]
    with pytest.raises(UsageError, match=r"line 1 of .*: out a+\.gif cannot be looked at: File"):
        list(templates.own_paths(asked, "{seed}.gif", apart=True))


def test_a_pipe_takes_no_paths_of_single_requests(run, tiny: Path):
    command = ("sample", "--checkpoint", tiny, "--frames", 2, "--seeds-from", "-")
    done = run(*command, "--out", "-", "--format", "rgb24", input='{"seed":1,"out":"{foo}.gif"}')
    assert done.returncode == 2
    assert "line 1 of the requests: in archives, in pipes and at URLs" in done.stderr


def test_clips_before_a_line_that_is_no_text_are_made(tiny: Path, tmp_path: Path):
    command = [sys.executable, "-m", "mocogen", "sample", "--checkpoint", str(tiny)]
    command += ["--frames", "2", "--seeds-from", "-", "--out", "d/"]
    done = subprocess.run(
        command,
        input=b'{"seed":1}\n{"seed":2}\n{"seed":\xff}\n',
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == b"mocogen: line 3 of the requests is no text in UTF-8\n"
    assert contents(tmp_path / "d").keys() == {"000001.gif", "000002.gif", "manifest.jsonl"}


@pytest.mark.parametrize(
    ("place", "made"),
    [
        (("--out", "{seed}.npy"), ["1.npy", "2.npy", "3.npy"]),
        (("--shards", "{shard}.tar", "--shard-size", 2), ["0.tar", "1.tar"]),
    ],
)
def test_clips_before_a_line_that_is_refused_are_made(
    run, tiny: Path, tmp_path: Path, place: tuple[str, ...], made: list[str]
):
    command = ("sample", "--checkpoint", tiny, "--frames", 2, "--seeds-from", "-", *place)
    good = '{"seed":1}\n{"seed":2}\n{"seed":3}\n'
    done = run(*command, input=good + '{"seed":"x"}\n')
    assert done.returncode == 2
    assert "line 4 of the requests: seed 'x': use a whole number" in done.stderr
    before = contents(tmp_path)
    assert sorted(before) == [*made, "manifest.jsonl"]
    assert run(*command, input=good).returncode == 0
    assert contents(tmp_path) == before


def test_a_file_is_begun_when_all_its_jobs_are_there(tiny: Path, tmp_path: Path):
    model = mocogen.load(tiny, "cpu")
    taken = []

    def asked() -> Iterator[Request]:
        for seed in range(5):
            taken.append(seed)
            yield Request(seed=seed, index=seed, out="{seed}.npy")

    groups = batch.together(plan(model, asked(), {}), FileSink())
    assert [job.index for job in next(groups)] == [0]
    assert taken == [0]
    with manifest.Manifest(tmp_path / "manifest.jsonl", {}) as kept:
        sink = ShardSink("{shard}.tar", 2, "npy", kept)
        groups = batch.together(plan(model, asked(), {}), sink)
        taken.clear()
        assert [job.index for job in next(groups)] == [0, 1]
        assert taken == [0, 1]
        assert [[job.index for job in group] for group in groups] == [[2, 3], [4]]


def test_requests_from_an_input_that_is_closed(tiny: Path, tmp_path: Path):
    command = f"sample --checkpoint '{tiny}' --seeds-from - --out d/"
    line = f"'{sys.executable}' -m mocogen {command} <&-"
    done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0
    assert b"0 clips" in done.stderr


def test_two_clips_of_one_seed_in_a_shard_cannot_be_told_apart_by_index(
    run, tiny: Path, tmp_path: Path
):
    (tmp_path / "jobs").write_text('{"seed": 1, "action": "hop"}\n{"seed": 1, "action": "spin"}\n')
    done = run("sample", "--checkpoint", tiny, "--seeds-from", "jobs", "--shards", "{shard}.tar")
    assert done.returncode == 2
    assert "would both be 0.tar/000001.mp4: a shard calls clips by their seeds" in done.stderr


def test_archives_take_no_paths_of_single_requests():
    with pytest.raises(UsageError, match="line 3 of the requests: in archives, in pipes and"):
        list(templates.own_paths([Request(out="a.gif", line=3)], "{seed}.gif", apart=False))


def test_requests_that_all_have_names_of_their_own_need_none_in_common(
    run, tiny: Path, tmp_path: Path
):
    lines = ['{"seed": 1, "out": "a.gif"}', "", '{"seed": 2, "out": "b.gif"}', '{"seed": 3}']
    (tmp_path / "jobs").write_text("\n".join(lines))
    command = ("sample", "--checkpoint", tiny, "--frames", 2, "--seeds-from", "jobs")
    assert run(*command, "--out", "rest.gif").returncode == 0
    assert {path.name for path in tmp_path.glob("*.gif")} == {"a.gif", "b.gif", "rest.gif"}
    (tmp_path / "jobs").write_text("\n".join([*lines, '{"seed": 4}']))
    done = run(*command, "--out", "rest.gif")
    assert done.returncode == 2
    assert "2 clips cannot all be rest.gif" in done.stderr


def test_a_refused_batch_leaves_no_manifest(run, tiny: Path, tmp_path: Path):
    (tmp_path / "jobs").write_text('\n\n{"seed": 1}\n\n{"seed": 3, "action": "fly"}\n')
    command = ("sample", "--checkpoint", tiny, "--frames", 2, "--seeds-from", "jobs", "--out", "d/")
    done = run(*command)
    assert done.returncode == 2
    assert "line 5 of the requests: unknown action 'fly'" in done.stderr
    assert not list((tmp_path / "d").iterdir())
    (tmp_path / "d" / "manifest.jsonl").touch()  # somebody's own
    run(*command)
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["manifest.jsonl"]


def test_a_seed_that_nobody_gave_is_told(run, tiny: Path, tmp_path: Path):
    command = ("sample", "--checkpoint", tiny, "--frames", 2, "--count", 2, "--out", "{index}.gif")
    done = run(*command)
    told = re.search(r"from seed (\d+) on: ", done.stderr)
    assert told is not None
    lines = (tmp_path / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["seed"] - int(told[1]) for line in lines] == [0, 1]
    assert "from seed" not in run(*command, "--seed", told[1]).stderr
    done = run(*command, "--shard-of", "1/2")
    assert done.returncode == 2
    assert "--shard-of needs a --seed" in done.stderr


def test_a_file_of_requests_is_checked_before_the_first_clip(run, tiny: Path, tmp_path: Path):
    (tmp_path / "jobs.jsonl").write_text('{"seed": 1}\n{"seed": 2, "action": "fly"}')
    done = run("sample", "--checkpoint", tiny, "--seeds-from", "jobs.jsonl", "--out", "{seed}.gif")
    assert done.returncode == 2
    assert "unknown action 'fly'" in done.stderr
    assert not list(tmp_path.glob("*.gif"))


@pytest.mark.parametrize("out", ["{seed:{index}}.gif", "{content_seed:c}.gif", "{seed:c}.gif"])
def test_formats_that_a_large_number_breaks(out: str):
    with pytest.raises(UsageError, match="cannot read the fields of out"):
        templates.check_template(out)


def test_a_format_for_an_action_that_there_is_not():
    with pytest.raises(UsageError, match=r"cannot be filled in .*leave their formats out"):
        templates.filled("{action:>8}.gif", {"action": None})


@pytest.mark.parametrize("loop", [True, False])
def test_a_length_that_no_number_holds(loop: bool):
    with pytest.raises(UsageError, match="a clip has at most 1000000000000"):
        Request(frames=10**400, speed=0.5, loop=loop)


@pytest.mark.parametrize("out", ["{seed:e}.gif", "{action}.gif", "{index!r:.1}.gif"])
def test_names_that_do_not_tell_clips_apart(out: str):
    assert templates.check_template(out) == out
    templates.check_apart(out, 1)
    with pytest.raises(UsageError):
        templates.check_apart(out, 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--shards", "a.tar"), "{shard}"),
        (("--shards", "{shard}.zip"), "ends in .tar"),
        (("--shards", "x-{shard!s:.1}.tar"), "does not tell two shards apart"),
        (("--shards", "{shard:/>9}.tar"), "{shard}"),
        (("--shards", "{shard:{shard}}.tar"), "{shard}"),
        (("--shards", "{shard}.tar", "--shard-size", "0"), "at least 1 clip"),
        (("--shards", "{shard}.tar", "--format", "gif"), "mp4 or npy"),
    ],
)
def test_shards_that_make_no_sense(run, words: tuple[str, ...], said: str):
    done = run("sample", *words)
    assert done.returncode == 2
    assert said in done.stderr
