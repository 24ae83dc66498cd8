"""Recipes: whole, overridable, and strict about names and types."""

from __future__ import annotations

from pathlib import Path

import pytest

from mocogen.errors import UsageError
from mocogen.training.config import differing_settings, from_dict, load_config, recipes, to_toml


@pytest.mark.parametrize("name", sorted(recipes()))
def test_recipes_are_complete_and_survive_a_round_trip(name: str, tmp_path: Path) -> None:
    config = load_config(name)
    copy = tmp_path / "config.toml"
    copy.write_text(to_toml(config), "utf-8")
    assert load_config(str(copy)) == config
    assert from_dict(config.to_dict()) == config


def test_overrides() -> None:
    config = load_config(
        "split",
        [
            "generator.steps=7", "generator.hold=.2", "generator.start=a.safetensors",
            "run.stages=motion,joint", "data.mirror=false", "model.name=my one",
        ],
    )  # fmt: skip
    assert config.generator.steps == 7
    assert config.generator.hold == 0.2
    assert config.run.stages == ("motion", "joint")
    assert config.data.mirror is False
    assert config.model.name == "my one"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("generator.step=7", "did you mean steps"),
        ("generatr.steps=7", "did you mean generator"),
        ("steps=7", "section.name=value"),
        ("generator.steps", "section.name=value"),
        ("generator.steps=many", "a whole number is wanted"),
        ("generator.hold=much", "a number is wanted"),
        ("generator.steps=0", "too small"),
        ("data.fit=squeeze", "crop, stretch"),
        ("run.stages=everything", "generator, motion, joint"),
        ("run.seed=-1", "too small"),
        ("motion.long_window=20", "shorter than"),
        ("motion.warm_up=2000", "at most 1024"),
        ("model.noise=0", "too small"),
        ("generator.push_blend=0", "at least 0.001"),
        ("generator.push_blend=101", "at most 100"),
        ("generator.push_kept=101", "at most 100"),
        ("generator.content_push=1e39", "at most 100"),
        ("generator.push_hold=0.4", "push_hold is after generator.push_end"),
        ("generator.push_end=1.5", "from 0 to 1"),
        ("generator.encoder_freeze=-0.1", "from 0 to 1"),
        ("generator.discriminator_start=2", "from 0 to 1"),
        ("generator.norm_freeze=1.01", "from 0 to 1"),
        ("generator.encoder_shift=3", "from 0 to 1"),
        ("motion.long_share=3", "from 0 to 1"),
        ("generator.ema=0", "above 0, at most 1"),
        ("motion.ema=5", "above 0, at most 1"),
        ("joint.ema=-0.1", "above 0, at most 1"),
        ("generator.beta1=1.5", "from 0 on, below 1"),
        ("joint.beta2=1", "from 0 on, below 1"),
        ("generator.learning_rate=nan", "a finite number is wanted"),
        ("joint.keep=inf", "a finite number is wanted"),
        ("run.save_minutes=-inf", "a finite number is wanted"),
        (f"generator.l1={10**400}", "too large"),
        ("generator.final_rate=0.01", "final_rate is above generator.learning_rate"),
        ("generator.batch=100000000000000000000", "at most 1048576"),
        ("model.width=2000000", "at most 1048576"),
        ("run.seed=9223372036854775808", "at most 9223372036854775807"),
        ("motion.window=1", "at least 2"),
        ("joint.batch=1", "at least 2"),
        ("data.min_frames=1", "at least 2"),
        ("joint.frames=3", "D_V looks at 4 frames"),
    ],
)
def test_bad_settings_are_refused_by_name(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_config("split", [setting])


@pytest.mark.parametrize(
    "setting",
    [
        "generator.push_hold=0.18",  # as push_end: the push goes at once
        "generator.encoder_freeze=1",
        "generator.norm_freeze=0",
        "generator.encoder_shift=0",
        "generator.ema=1",
        "generator.beta1=0",
        "generator.final_rate=1e-3",
        "generator.steps=10000000",
        "run.seed=9223372036854775807",
        "motion.long_share=1",
        "motion.window=2",
    ],
)
def test_bounds_are_within_what_they_allow(setting: str) -> None:
    load_config("split", [setting])


@pytest.mark.parametrize("key", ["counterpart", "lent"])
def test_counterparts_are_not_for_what_differs_by_degrees(key: str) -> None:
    settings = ["generator.counterpart=0", "generator.lent=0", "data.attributes=red"]
    with pytest.raises(UsageError, match=rf"{key} is of no use with data\.attributes"):
        load_config("split", [*settings, f"generator.{key}=5"])
    load_config("split", settings)


def test_bad_recipes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mocogan, split"):
        load_config("nothing")
    broken = tmp_path / "broken.toml"
    broken.write_text("[run\n", "utf-8")
    with pytest.raises(UsageError, match="cannot read recipe"):
        load_config(str(broken))
    broken.write_text("[run]\nseed = 1\n", "utf-8")
    with pytest.raises(UsageError, match="lacks stages"):
        load_config(str(broken))


def test_a_run_recorded_before_a_setting_came_goes_on_without_it() -> None:
    config = load_config("split", ["generator.l2=7"])
    record = config.to_dict()
    del record["generator"]["l2"]
    assert from_dict(record).generator.l2 == 0
    del record["generator"]["l1"]
    with pytest.raises(UsageError, match=r"\[generator\] of the recipe lacks l1"):
        from_dict(record)


def test_a_record_may_be_older_than_a_bound() -> None:
    record = load_config("split").to_dict()
    record["generator"]["encoder_freeze"] = 2.0
    with pytest.raises(UsageError, match=r"generator\.encoder_freeze = 2\.0: use a number"):
        from_dict(record)
    assert from_dict(record, checked=False).generator.encoder_freeze == 2


def test_what_a_state_depends_on_is_compared() -> None:
    ours = load_config("split")

    def differing(setting: str, stage: str) -> list[str]:
        return differing_settings(ours, load_config("split", [setting]), stage)

    for stage in ("generator", "motion", "joint"):
        assert differing("model.width=64", stage) == ["model.width is 48 here and was 64"]
        assert differing("run.seed=5", stage) == ["run.seed is 0 here and was 5"]
        assert differing("generator.steps=5", stage) == []
    # A discriminator that is not in the state may be of any size.
    assert differing("joint.discriminator_width=8", "joint") != []
    assert differing("joint.discriminator_width=8", "generator") == []


def test_stages_run_in_their_order_and_once() -> None:
    config = load_config("split", ["run.stages=motion,generator,motion"])
    assert config.run.stages == ("generator", "motion")


def test_no_noise_on_what_the_discriminators_see() -> None:
    assert load_config("split", ["joint.noise=0"]).joint.noise == 0
