"""The command line, as people and scripts use it."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mocogen import __version__, checkpoint, provenance
from mocogen.cli import main
from mocogen.cli.info import info

from .conftest import BACKENDS

HEAVY = ("torch", "numpy", "imageio", "PIL", "av", "safetensors", "rich")


def words(command: str) -> list[str]:
    return shlex.split(command)[1:]


def test_the_first_command_of_the_readme(run, tmp_path: Path):
    done = run("sample", "--frames", 48, "--out", "clip.gif")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "clip.gif: seed " in done.stderr
    with Image.open(tmp_path / "clip.gif") as image:
        assert image.size == (96, 96)
        assert image.n_frames == 48


def test_the_printed_seed_makes_the_clip_again(run, tmp_path: Path):
    first = run("sample", "--out", "a.gif")
    again = run("sample", "--out", "b.gif", "--seed", first.stderr.split("seed ")[1].split(",")[0])
    assert again.returncode == 0, again.stderr
    with Image.open(tmp_path / "a.gif") as a, Image.open(tmp_path / "b.gif") as b:
        assert np.array_equal(np.asarray(a.convert("RGB")), np.asarray(b.convert("RGB")))


@pytest.mark.parametrize("suffix", ["gif", "mp4", "webp", "png"])
def test_a_clip_tells_the_command_that_makes_it_again(run, tmp_path: Path, suffix: str):
    clip = tmp_path / f"clip.{suffix}"
    options = ("--action", "bend", "--fps", 12.5, "--scale", 2, "--frames", 5, "--seed", 9)
    assert run("sample", "--out", clip.name, *options).returncode == 0
    before = clip.read_bytes()
    told = run("info", clip.name)
    assert told.returncode == 0, told.stderr
    command = told.stdout.split("command")[1].strip()
    clip.unlink()
    assert run(*words(command)).returncode == 0
    assert clip.read_bytes() == before


def test_a_folder_of_clips_and_json_lines(run, tiny: Path, tmp_path: Path):
    done = run(
        "sample",
        "--checkpoint",
        tiny,
        "--count",
        3,
        "--seed",
        8,
        "--out",
        "many/",
        "--json",
        "--frames",
        4,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["seed"] for line in lines] == [8, 9, 10]
    files = sorted(path.name for path in (tmp_path / "many").iterdir())
    assert files == ["000008.gif", "000009.gif", "000010.gif", "manifest.jsonl"]
    assert all((tmp_path / line["file"]).is_file() for line in lines)
    assert all(len(line["sha256"]) == 64 for line in lines)


def test_clip_k_of_a_count_is_the_clip_of_seed_plus_k(run, tiny: Path, tmp_path: Path):
    template = "{checkpoint}-{action}/{index:03d}-{seed}.npy"
    common = ("--checkpoint", tiny, "--frames", 7)
    assert run("sample", *common, "--count", 4, "--seed", 20, "--out", template).returncode == 0
    (third,) = tmp_path.glob("tiny-*/002-22.npy")
    assert run("sample", *common, "--seed", 22, "--out", "alone.npy").returncode == 0
    assert np.array_equal(np.load(third), np.load(tmp_path / "alone.npy"))


def test_scale_enlarges_pixels(run, tiny: Path, tmp_path: Path):
    for scale in (1, 3):
        out = f"x{scale}.npy"
        done = run("sample", "--checkpoint", tiny, "--seed", 1, "--out", out, "--scale", scale)
        assert done.returncode == 0, done.stderr
    small, large = (np.load(tmp_path / f"x{scale}.npy") for scale in (1, 3))
    assert large.shape == (48, 96, 96, 3)
    assert np.array_equal(large[:, 1::3, 1::3], small)


def test_quiet_is_quiet(run, tiny: Path):
    done = run("sample", "--checkpoint", tiny, "--out", "c.gif", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_real_rate_of_a_gif_is_told(run, tiny: Path):
    done = run("sample", "--checkpoint", tiny, "--out", "c.gif", "--fps", 100)
    assert "50 frames/s" in done.stderr


def test_info_of_a_checkpoint(run):
    told = json.loads(run("info", "weizmann", "--json").stdout)
    assert told["actions"] == ["wave1", "wave2", "jack", "bend"]
    assert (told["content"], told["motion"], told["image_size"]) == (50, 14, 96)
    assert len(told["sha256"]) == 64
    plain = run("info")
    assert "wave1, wave2, jack, bend" in plain.stdout


def test_info_prints_no_long_list_of_files_for_people(run):
    files = json.loads(run("info", "shapes", "--json").stdout)["training"]["files"]
    assert len(files) == 600
    plain = run("info", "shapes").stdout
    assert "600 of them (--json prints them)" in plain
    assert "horizontal/000.png" not in plain


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("mocogen sample --frames 0", 2, "at least 1 frame"),
        ("mocogen sample --frames -5", 2, "at least 1 frame"),
        ("mocogen sample --frames many", 2, "--frames"),
        ("mocogen sample --count 0", 2, "at least 1 clip"),
        ("mocogen sample --count 2", 2, "{seed}"),
        ("mocogen sample --count 2 --out {action}.gif", 2, "{index}"),
        ("mocogen sample --out {who}.gif", 2, "{seed}, {index}, {action}, {checkpoint}"),
        ("mocogen sample --out {seed.gif", 2, "cannot read the fields"),
        ("mocogen sample --out {seed.real}.gif", 2, "cannot read the fields"),
        ("mocogen sample --out clip.avi", 2, ".gif, .mp4, .webp, .png, .npy"),
        ("mocogen sample --out clip", 2, "no suffix"),
        ("mocogen sample --out ''", 2, "out is empty"),
        ("mocogen sample --count 2 --out many", 2, "a folder's name in a slash"),
        ("mocogen sample --count 2 --seed 9223372036854775807 --out s/", 2, "for 2 seeds"),
        ("mocogen sample --count 9223372036854775808 --seed 0 --out s/", 2, "at most 92233"),
        ("mocogen info no\x1b[31mfile.gif", 1, r"no\x1b[31mfile.gif"),
        ("mocogen sample --seed -1", 2, "seed -1"),
        ("mocogen sample --fps 0", 2, "fps 0"),
        ("mocogen sample --fps nan", 2, "fps nan"),
        ("mocogen sample --scale 0", 2, "scale 0"),
        ("mocogen sample --action fly", 2, "wave1, wave2, jack, bend"),
        ("mocogen sample --noise loud", 2, "per-frame, constant, feedback"),
        ("mocogen sample --device gpu", 2, "auto, cpu, cuda"),
        ("mocogen sample --device cuda:99", 1, "cuda:99 is not there"),
        ("mocogen sample --precision fp8", 2, "fp32, fp16, bf16"),
        ("mocogen sample --precision fp16 --device cpu", 2, "needs a CUDA GPU"),
        ("mocogen sample --precision bf16 --backend onnx", 2, "needs a CUDA GPU"),
        ("mocogen sample --checkpoint nobody", 1, "weizmann"),
        ("mocogen sample --checkpoint ''", 1, "weizmann"),
        ("mocogen sample --checkpoint here.txt", 1, "not a mocogen checkpoint"),
        ("mocogen sample --motion here.txt", 2, "add --generator"),
        ("mocogen sample --generator a --checkpoint b", 2, "not both"),
        ("mocogen sample --generator here.txt", 1, "not a torch-saved state dict"),
        ("mocogen sample --out here.txt/clip.gif", 1, "here.txt is a file, no folder"),
        ("mocogen sample --out /proc/clip.gif", 1, "cannot write"),
        ("mocogen sample --frames 2000 --out clip.png", 2, "too wide"),
        ("mocogen info nobody", 1, "no checkpoint 'nobody'"),
        ("mocogen info here.gif", 1, "no such file"),
        ("mocogen convert --generator x --out y.gif", 2, ".safetensors"),
        ("mocogen export --out model.pt", 2, ".onnx"),
        ("mocogen export nobody", 1, "weizmann"),
        ("mocogen export --out here.txt/model.onnx", 1, "cannot write"),
        ("mocogen export --out s3://b/m.onnx", 2, "`mocogen sample` alone to a URL"),
        ("mocogen grid --contents 0 --motions 0 --out s3://b/y.gif", 2, "writes to a disk"),
        ("mocogen dataset shapes --out gs://b/y", 2, "writes to a disk"),
        ("mocogen gallery . --out s3://b/y.html", 2, "writes to a disk"),
        ("mocogen sample --out ://b/y.gif", 2, "no protocol"),
        ("mocogen sample --out github://b/y.gif", 1, "github:// cannot be used"),
        ("mocogen fly", 2, "fly"),
    ],
)
def test_bad_input_gets_a_clear_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    status: int,
    said: str,
):
    """In this process, since most of a process's time is spent on importing torch."""
    (tmp_path / "here.txt").write_text("hello")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["mocogen", *words(command)])
    with pytest.raises(SystemExit) as ending:
        main()
    printed = capsys.readouterr()
    assert ending.value.code == status, printed.err
    assert said in printed.err
    assert printed.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["here.txt"], "nothing half-written"


def test_one_sentence_without_a_frame(run):
    done = run("sample", "--action", "fly")
    assert done.stderr.startswith("mocogen: unknown action 'fly'")
    assert done.stderr.count("\n") == 1


def ended_while_writing(tmp_path: Path, number: int, *command: str) -> tuple[int, str]:
    """Exit status and last words of a process that got a signal when its file had begun."""
    words = [sys.executable, "-m", "mocogen", "sample", "--frames", "10000000", *command]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.time() + 60
        while not list(tmp_path.glob(".clip.*")) and time.time() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
    return process.returncode, said


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_long_clip_that_is_ended_leaves_nothing(
    tiny: Path, tmp_path: Path, number: int, status: int
):
    (tmp_path / "clip.npy").write_text("older")
    command = ("--checkpoint", str(tiny), "--out", "clip.npy")
    assert ended_while_writing(tmp_path, number, *command) == (status, "")
    assert [path.name for path in tmp_path.iterdir()] == ["clip.npy"]
    assert (tmp_path / "clip.npy").read_text() == "older"


def test_ctrl_c_during_the_imports_is_quiet(tmp_path: Path):
    program = (
        "import sys, builtins, mocogen.cli\n"
        "load = builtins.__import__\n"
        "def interrupted(name, *rest):\n"
        "    if name == 'typer': raise KeyboardInterrupt\n"
        "    return load(name, *rest)\n"
        "builtins.__import__ = interrupted\n"
        "mocogen.cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["info"], ["info", "--json"], ["--version"]])
def test_standard_output_without_room_is_told(words: list[str]):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mocogen", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == "mocogen: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_clip_needs_no_open_streams(tiny: Path, tmp_path: Path, closed: str):
    command = f"sample --checkpoint '{tiny}' --frames 2 --out clip.npy --json"
    line = f"'{sys.executable}' -m mocogen {command} {closed}"
    assert subprocess.run(line, shell=True, cwd=tmp_path, check=False).returncode == 0
    assert np.load(tmp_path / "clip.npy").shape == (2, 32, 32, 3)


def test_a_clip_into_an_output_that_is_closed_is_refused(tiny: Path):
    line = f"'{sys.executable}' -m mocogen sample --checkpoint '{tiny}' --seed 1 --out - >&-"
    done = subprocess.run(line, shell=True, check=False, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert "standard output, which is closed" in done.stderr


def test_names_that_the_terminal_cannot_show(run, tiny: Path, tmp_path: Path):
    name = "häuser \udcff.gif"
    assert run("sample", "--checkpoint", tiny, "--frames", 2, "--out", name).returncode == 0
    told = run("info", name, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (told.returncode, told.stderr) == (0, "")
    assert "h\\xe4user \\udcff.gif" in told.stdout


def test_control_characters_of_strangers_are_shown_not_obeyed(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    spec, *networks = checkpoint.load(tiny)
    path = tmp_path / "odd.safetensors"
    checkpoint.save(path, replace(spec, data="\x1b[2J\nname spoofed"), *networks)
    info(str(path), as_json=False)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert r"data             \x1b[2J\nname spoofed" in shown


def test_a_piped_gif_tells_how_to_pipe_it_again(tiny: Path, tmp_path: Path):
    def piped(words: list[str]) -> bytes:
        command = [sys.executable, "-m", "mocogen", *words]
        return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout

    options = ["--checkpoint", str(tiny), "--frames", "3", "--backend", "torch"]
    made = piped(["sample", *options, "--out", "-", "--format", "gif"])
    (tmp_path / "clip.gif").write_bytes(made)
    command = provenance.command(provenance.read(tmp_path / "clip.gif"))
    assert "--backend torch --format gif" in command
    assert piped(words(command)) == made


def test_ctrl_c_keeps_what_is_finished_and_leaves_nothing_else(tiny: Path, tmp_path: Path):
    command = [sys.executable, "-m", "mocogen", "sample", "--checkpoint", str(tiny)]
    command += ["--count", "100000", "--frames", "50", "--out", f"{tmp_path}/{{index:06d}}.gif"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.time() + 60
        while not (tmp_path / "000002.gif").exists() and time.time() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "Traceback" not in said
    left = sorted(path for path in tmp_path.iterdir() if path.name != "manifest.jsonl")
    assert len(left) >= 3
    assert [path.name for path in left] == [f"{i:06d}.gif" for i in range(len(left))]
    with Image.open(left[-1]) as image:
        assert image.n_frames == 50


def test_help_and_version_do_not_pay_for_torch(run):
    program = (
        f"import sys, mocogen.cli.app; print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
    assert run("--version").stdout.strip() == f"mocogen {__version__}"
    assert "sample" in run("--help").stdout


def test_info_does_not_pay_for_torch():
    program = (
        "import sys, contextlib, io, mocogen.cli.info as i\n"
        "with contextlib.redirect_stdout(io.StringIO()): i.info('weizmann', False)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_a_clip_does_not_pay_for_torch(tmp_path: Path, backend: str):
    program = (
        f"import sys; sys.argv = ['mocogen', 'sample', '--backend', '{backend}', '-q']\n"
        "from mocogen.cli import main\n"
        "try: main()\n"
        "except SystemExit as ending: print(ending.code, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.strip() in ("0 False", "None False"), done.stdout + done.stderr
    assert (tmp_path / "clip.gif").exists()


def test_a_backend_is_named_or_refused(run, tiny: Path):
    common = ("sample", "--checkpoint", tiny, "--frames", 2, "--out", "c.npy", "--seed", 1)
    assert run(*common, "--backend", "torch").returncode == 0
    unknown = run(*common, "--backend", "jax")
    assert unknown.returncode == 2
    assert "auto, torch, onnx, openvino" in unknown.stderr
    wrong = run(*common, "--backend", "onnx", "--device", "cuda")
    assert wrong.returncode == 2
    assert "runs on the CPU" in wrong.stderr


def test_training_without_its_extra_says_what_to_install():
    program = (
        "import sys; sys.modules['lightning_fabric'] = None\n"
        "sys.argv = ['mocogen', 'train', 'clips', '--out', 'run']\n"
        "from mocogen.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "lightning_fabric" in done.stderr
    assert "[train]" in done.stderr
