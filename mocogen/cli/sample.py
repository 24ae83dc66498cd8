"""``mocogen sample``: clips from seeds."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from ..requests import STEERING, Request, Seeds, from_lines, part_of
from . import common, complete

if TYPE_CHECKING:
    from ..batch import Render
    from ..manifest import Manifest
    from ..stores import Store
    from ..synthesis import Blueprint

OUT = "clip.gif"
IF_EXISTS = ("overwrite", "skip", "error")
BATCH = "Many clips"
ENGINES = ("local", "ray")


def sample(
    frames: common.Frames = 48,
    out: Annotated[
        str,
        typer.Option(
            help="A file (.gif .mp4 .webp .png = filmstrip .npy), a folder, a name with "
            "{seed}, {index}, {action}, {checkpoint}, {content_seed}, {motion_seed} in it, or - "
            "for a pipe."
        ),
    ] = OUT,
    seed: Annotated[
        int | None, typer.Option(help="Makes the clip repeatable. \\[default: random, printed]")
    ] = None,
    content_seed: Annotated[
        int | None, typer.Option(help="Decides who and where. \\[default: SEED]")
    ] = None,
    motion_seed: Annotated[
        int | None, typer.Option(help="Decides the movement. \\[default: SEED]")
    ] = None,
    action: Annotated[
        str | None,
        typer.Option(
            help="What they do. \\[default: as the motion seed has it]",
            autocompletion=complete.actions,
        ),
    ] = None,
    speed: common.Speed = 1.0,
    loop: common.Loop = False,
    fps: common.Fps = None,
    scale: common.Scale = 1,
    noise: common.Noise = None,
    checkpoint: common.Checkpoint = None,
    generator: common.Generator = None,
    motion: common.Motion = None,
    device: common.Device = "auto",
    backend: common.Backend = "auto",
    precision: common.Precision = "fp32",
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="For --out -: mp4, gif, rgb24 (bare frames). In shards: mp4, npy. "
            "\\[default: mp4]",
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(help="How many clips, of seeds SEED, SEED + 1, ...", rich_help_panel=BATCH),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds such as 0-99,200,300-310.", rich_help_panel=BATCH)
    ] = None,
    seeds_from: Annotated[
        str | None,
        typer.Option(
            help="A file, or - for standard input (eight clips at a time on a CPU): one JSON "
            "object a line with a seed and any of frames, action, fps, scale, noise, out, "
            "content_seed, motion_seed, speed, loop.",
            rich_help_panel=BATCH,
        ),
    ] = None,
    shards: Annotated[
        str | None,
        typer.Option(
            help="Instead of files: tar archives for WebDataset, such as "
            "data/clips-{shard:05d}.tar.",
            rich_help_panel=BATCH,
        ),
    ] = None,
    shard_size: Annotated[
        int, typer.Option(help="Clips in an archive.", rich_help_panel=BATCH)
    ] = 1000,
    shard_of: Annotated[
        str | None,
        typer.Option(
            help="K/N: only the Kth of N equal parts, for job arrays.", rich_help_panel=BATCH
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(help="Skip what the manifest lists and is whole.", rich_help_panel=BATCH),
    ] = True,
    if_exists: Annotated[
        str,
        typer.Option(
            help="For files that no manifest lists: overwrite, skip, error.", rich_help_panel=BATCH
        ),
    ] = "overwrite",
    engine: Annotated[
        str,
        typer.Option(help="local, or ray: the cores or GPUs of a cluster.", rich_help_panel=BATCH),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            help="The Ray cluster: auto, local or an address. \\[default: auto]",
            rich_help_panel=BATCH,
        ),
    ] = None,
    num_workers: Annotated[
        int | None,
        typer.Option(
            help="How many of the cluster's cores or GPUs. \\[default: all]", rich_help_panel=BATCH
        ),
    ] = None,
    as_json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Sample clips: a person or a shape that moves, made from noise."""
    defaults = Request(
        seed=0 if seed is None else seed,
        frames=frames,
        action=action,
        noise=noise,
        fps=fps,
        scale=scale,
        out=out,
        content_seed=content_seed,
        motion_seed=motion_seed,
        speed=speed,
        loop=loop,
    )
    common.check_source(checkpoint, generator, motion)
    if if_exists not in IF_EXISTS:
        raise UsageError(f"--if-exists {if_exists}: use one of {', '.join(IF_EXISTS)}")
    both = None if content_seed is None else motion_seed
    wanted = _wanted(seed, count, seeds, seeds_from, both)
    told = any(option is not None for option in (seed, seeds, seeds_from, both))
    if shard_of is not None and not told:
        raise UsageError("--shard-of needs a --seed: each part would begin at a random one")
    piped = out == "-"
    container = form or "mp4"
    if engine not in ENGINES:
        raise UsageError(f"--engine {engine}: use one of {', '.join(ENGINES)}")
    if engine == "local" and (address is not None or num_workers is not None):
        raise UsageError("--address and --num-workers belong to a cluster: add --engine ray")
    from ..stores import open_store

    store, where = open_store(shards or out)
    if shards is not None:
        from ..shards import check_shards

        if out != OUT:
            raise UsageError("--shards and --out both say where clips go: choose one")
        check_shards(where, shard_size, container)
        defaults = replace(defaults, out="{seed:06d}." + container)
    elif piped:
        _check_pipe(container, wanted, as_json)
    else:
        if form is not None and not where.endswith(f".{form}"):
            raise UsageError(
                f"--format {form} is for --out - and --shards: a file's name tells its format"
            )
        from ..templates import check_template

        where = check_template(where, store)
        defaults = replace(defaults, out=where)
    unit = shard_size if shards else 1
    requests, total, length = _requests(wanted, seeds_from, shard_of, unit, defaults, piped)

    from .. import batch
    from ..batch import distinct, remaining
    from ..jobs import plan
    from ..sinks import FileSink, PipeSink, Sink
    from ..templates import own_paths
    from .report import Report

    named = (checkpoint, generator, motion, device, backend, precision)
    drawn = None if told or wanted is None else wanted.runs[0][0]
    show = Report(total, length, as_json, quiet, drawn)
    with ExitStack() as stack:
        model: Blueprint
        render: Render
        if engine == "ray":
            from ..cluster import Cluster, Networks

            spec, tensors, sha256, source = common.read_networks(*named)
            networks = Networks(spec, tensors, sha256, device, backend, precision)
            cluster = stack.enter_context(Cluster(networks, address or "auto", num_workers))
            model, render = networks.blueprint, partial(cluster.render, total=total)
        else:
            opened, source = common.load_model(*named)
            model, render = opened, partial(batch.render, opened)
        if piped:
            source["format"] = container
        manifest = None
        if shards is not None or (_is_batch(wanted, count, seeds, where) and not piped):
            settings = None if seeds_from else defaults
            listed = _manifest(model, precision, where, settings, resume, store)
            manifest = stack.enter_context(listed)
        sink: Sink
        if shards is not None and manifest is not None:
            from ..shards import ShardSink

            sink = ShardSink(where, shard_size, container, manifest, store)
        elif piped:
            sink = PipeSink(sys.stdout.buffer, container)
        else:
            sink = FileSink(manifest, store)
        stack.enter_context(sink)
        if seeds_from:
            apart = shards is None and store.on_disk and not piped
            requests = own_paths(requests, defaults.out, apart)
        jobs = plan(model, requests, source)
        if not piped:
            if seeds_from:
                jobs = distinct(jobs, sink)
            if seeds_from and total is not None:
                # A file is checked as a whole before the first clip is made.
                jobs = iter(list(jobs))
            jobs = remaining(jobs, sink, if_exists, show.skipped)
        on_frames = stack.enter_context(show.progress())
        # Closed ahead of the manifest, in which the clip in hand may still be listed.
        made = stack.enter_context(closing(render(jobs, sink, on_frames)))
        for outcome in made:
            show.finished(outcome, sink)
    show.summary(shards or out)
    if show.failed:
        raise typer.Exit(1)


def _wanted(
    seed: int | None,
    count: int | None,
    seeds: str | None,
    seeds_from: str | None,
    pinned: int | None,
) -> Seeds | None:
    """The seeds that the options name, or None where a file of requests does.

    ``pinned`` is the motion seed where content has a seed of its own as well: then one clip is
    all there is.
    """
    named = [
        name
        for name, value in (("seeds", seeds), ("seeds-from", seeds_from), ("count", count))
        if value is not None
    ]
    if len(named) > 1 or (seed is not None and named and named != ["count"]):
        raise UsageError("give one of --seed with --count, --seeds, and --seeds-from")
    if seeds_from is not None:
        return None
    if seeds is not None:
        wanted = Seeds.parse(seeds)
    else:
        from ..latents import random_seed

        first = pinned if seed is None else seed
        wanted = Seeds.count(
            random_seed() if first is None else first, 1 if count is None else count
        )
    if pinned is not None and len(wanted) > 1:
        raise UsageError(
            "with --content-seed and --motion-seed both given, all clips are the same: leave "
            "out one of them, or ask for one clip"
        )
    return wanted


def _is_batch(wanted: Seeds | None, count: int | None, seeds: str | None, out: str) -> bool:
    """Whether a manifest is kept: for what is a batch, also where that or a part has one clip."""
    from ..templates import template_fields

    if wanted is None or len(wanted) > 1:
        return True
    named = template_fields(out)
    return bool((count or seeds) and named & {"seed", "index"})


def _check_pipe(form: str, wanted: Seeds | None, as_json: bool) -> None:
    from ..video import PIPE_WRITERS

    if form not in PIPE_WRITERS:
        raise UsageError(f"--format {form}: a pipe takes {', '.join(PIPE_WRITERS)}")
    if form != "rgb24" and (wanted is None or len(wanted) > 1):
        raise UsageError("a pipe takes one clip, or any number of clips with --format rgb24")
    if as_json:
        raise UsageError("--json and --out - both want standard output: choose one")
    if sys.__stdout__ is None:  # closed by whoever started the process
        raise UsageError("--out - writes to standard output, which is closed: open it")
    if sys.stdout.isatty():
        raise UsageError("--out - writes binary data: send it to a file or a program")


def _requests(
    wanted: Seeds | None,
    seeds_from: str | None,
    shard_of: str | None,
    unit: int,
    defaults: Request,
    piped: bool,
) -> tuple[Iterable[Request], int | None, int | None]:
    """The requests of this process, how many, and of how many frames, where that can be known.

    Parts are cut between units of ``unit`` requests, so that no shard belongs to two.

    Raises:
        UsageError: the requests cannot be read, or clips that are no ``piped`` ones would share
            a name.
    """
    from ..templates import check_apart

    def part(count: int) -> range:
        if not shard_of:
            return range(count)
        units = part_of(shard_of, -(-count // unit))
        return range(units.start * unit, min(units.stop * unit, count))

    if wanted is not None:
        if not piped:
            check_apart(defaults.out, len(wanted))
        mine = part(len(wanted))
        numbered = zip(mine, wanted.part(mine), strict=True)
        return (
            (replace(defaults, seed=s, index=i) for i, s in numbered),
            len(mine),
            len(mine) * defaults.frames,
        )
    if seeds_from == "-":
        if shard_of:
            raise UsageError("--shard-of needs requests that can be counted: use a file")
        if not piped:
            check_apart(defaults.out, None)
        return from_lines(_decoded(sys.stdin.buffer), defaults), None, None
    try:
        lines = Path(seeds_from or "").read_bytes().splitlines()
    except OSError as error:
        raise UsageError(f"cannot read --seeds-from {seeds_from}: {error}") from None
    # A file is checked as a whole before the first clip is made.
    asked = list(from_lines(_decoded(lines), defaults))
    if not piped:
        check_apart(defaults.out, sum(request.out == defaults.out for request in asked))
    mine = part(len(asked))
    asked = asked[mine.start : mine.stop]
    return asked, len(asked), sum(request.frames for request in asked)


def _decoded(lines: Iterable[bytes]) -> Iterator[str]:
    """Lines as text, one by one: those before one that is no UTF-8 are good."""
    return (line.decode("utf-8") for line in lines)


def _manifest(
    model: Blueprint,
    precision: str,
    out: str,
    defaults: Request | None,
    resume: bool,
    store: Store,
) -> Manifest:
    """The manifest of the folder that all clips have in common."""
    from .. import manifest
    from ..templates import home

    settings: dict[str, Any] = {"checkpoint": model.sha256, "precision": precision}
    if defaults is not None:
        settings |= {
            "frames": defaults.frames,
            "fps": defaults.fps or model.spec.fps,
            "noise": defaults.noise or model.spec.noise_mode,
            "scale": defaults.scale,
        } | {key: getattr(defaults, key) for key in STEERING}
    return manifest.Manifest(home(out) / manifest.NAME, settings, resume, store)
