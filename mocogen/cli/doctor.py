"""``mocogen doctor``: what will be used, and whether it works."""

from __future__ import annotations

import json
from dataclasses import asdict

from ..checkpoint import DEFAULT
from ..errors import MocogenError
from . import common


def doctor(
    checkpoint: common.Checkpoint = None,
    device: common.Device = "auto",
    backend: common.Backend = "auto",
    as_json: common.Json = False,
) -> None:
    """Tell what mocogen finds here and will use; exit status 1 if it cannot sample.

    Versions, torch and its build, devices, backends, encoders, checkpoints. Every format is
    tried, and one frame is sampled.
    """
    from ..doctor import examine

    found = []
    section = None
    for finding in examine(checkpoint or DEFAULT, device, backend):
        found.append(finding)
        if as_json:
            continue
        if finding.section != section:
            section = finding.section
            print(f"{section}:")
        mark = "" if finding.ok else "BROKEN: "
        print(f"  {finding.name:<14} {mark}{finding.says}")
    broken = [f for f in found if f.needed and not f.ok]
    if as_json:
        print(json.dumps({"works": not broken, "findings": [asdict(f) for f in found]}))
    if broken:
        told = "; ".join(f"{f.section} {f.name}: {f.says}" for f in broken)
        raise MocogenError(f"sampling does not work here: {told}")
    if not as_json:
        common.say("mocogen can sample here")
