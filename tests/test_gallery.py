"""The gallery: what is in the page, and that it works under a real browser's clicks and keys."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mocogen import checkpoint, files, gallery, provenance, reading
from mocogen.errors import UsageError
from mocogen.manifest import Manifest
from mocogen.video import ClipFormat, Frames, open_clip

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = shutil.which("chromedriver")


def frames(seed: int, count: int = 6, size: int = 32) -> Frames:
    """A bright square that moves to the right before a colour that is the seed's."""
    colour = np.random.default_rng(seed).integers(40, 160, 3)
    made = np.broadcast_to(colour, (count, size, size, 3)).astype(np.uint8)
    for k, frame in enumerate(made):
        frame[8:20, 2 * k : 2 * k + 8] = 250
    return made


def record(seed: int, action: str | None, checkpoint: str = "weizmann") -> provenance.Record:
    options = {"seed": seed, "frames": 6, "action": action, "fps": 20.0, "out": f"{seed}.mp4"}
    return provenance.record({"checkpoint": checkpoint}, "0" * 64, options)


def add(path: Path, seed: int, action: str | None, checkpoint: str = "weizmann") -> None:
    form = ClipFormat(6, 32, 32, 20.0, record(seed, action, checkpoint))
    with open_clip(path, form) as writer:
        writer.write(frames(seed))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips of four formats, two of them broken and one without a record."""
    folder = tmp_path_factory.mktemp("clips")
    add(folder / "b.mp4", 30, "bend")
    add(folder / "a.gif", 4, "wave")
    add(folder / "c.webp", 200, "bend")
    add(folder / "deep" / "d.png", 7, "wave")
    np.save(folder / "e.npy", frames(1))
    add(folder / "cut.mp4", 5, "bend")
    whole = (folder / "cut.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "not.gif").write_text("no picture")
    return folder


def data_of(page: Path) -> list[dict[str, Any]]:
    text = page.read_text("utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert found is not None
    clips: list[dict[str, Any]] = json.loads(found[1])["clips"]
    return clips


def entries(folder: Path) -> list[gallery.GalleryEntry | gallery.Skipped]:
    return list(gallery.gather(folder, gallery.find(folder)))


@pytest.mark.parametrize("suffix", ["gif", "mp4", "webp", "png", "npy"])
def test_a_clip_is_read_back_as_it_was_written(tmp_path: Path, suffix: str):
    path = tmp_path / f"clip.{suffix}"
    add(path, 3, "wave")
    clip = reading.open_frames(path)
    read = np.stack(list(clip.frames))
    assert read.shape == (6, 32, 32, 3)
    # H.264 keeps colours at half the size, and a GIF has 256 of them.
    assert np.abs(read.astype(int) - frames(3)).mean() < 4
    assert (clip.record or {}).get("seed") == (None if suffix == "npy" else 3)
    assert clip.fps == pytest.approx(25 if suffix == "npy" else 20)
    assert clip.plays_anywhere == (suffix == "mp4")


def test_clips_are_shown_and_broken_ones_named(folder: Path):
    found = entries(folder)
    shown = {e.file: e for e in found if isinstance(e, gallery.GalleryEntry)}
    skipped = {s.file: s.why for s in found if isinstance(s, gallery.Skipped)}
    assert set(shown) == {"a.gif", "b.mp4", "c.webp", "deep/d.png", "e.npy"}
    assert all(e.poster[8:12] == b"WEBP" and e.video[4:8] == b"ftyp" for e in shown.values())
    assert shown["b.mp4"].video == (folder / "b.mp4").read_bytes(), "an MP4 goes in as it is"
    assert set(skipped) == {"cut.mp4", "not.gif"}
    assert all(str(folder / file) in why for file, why in skipped.items())


def test_the_manifest_tells_of_arrays_and_of_lost_clips(tmp_path: Path):
    np.save(tmp_path / "000003.npy", frames(3))
    with Manifest(tmp_path / "manifest.jsonl", {}) as manifest:
        line = {"index": 0, "seed": 3, "action": "bend", "fps": 12.5, "checkpoint": "f" * 64}
        for seed in (3, 4):
            manifest.append(tmp_path / f"00000{seed}.npy", line, "0" * 64)
    shown, lost = entries(tmp_path)
    assert isinstance(shown, gallery.GalleryEntry)
    assert shown.record == {
        "seed": 3,
        "action": "bend",
        "fps": 12.5,
        "checkpoint": "f" * 64,
    }
    assert isinstance(lost, gallery.Skipped)
    assert "000004.npy is in the manifest" in lost.why


def test_a_clip_plays_at_the_rate_that_it_or_the_manifest_says(tmp_path: Path):
    add(tmp_path / "a.gif", 4, "wave")
    np.save(tmp_path / "b.npy", frames(3))
    with Manifest(tmp_path / "manifest.jsonl", {}) as manifest:
        line = {"index": 0, "seed": 3, "fps": 12.5, "checkpoint": "f" * 64}
        manifest.append(tmp_path / "b.npy", line, "0" * 64)
    rates = {}
    for entry in entries(tmp_path):
        assert isinstance(entry, gallery.GalleryEntry)
        with av.open(io.BytesIO(entry.video)) as container:
            rates[entry.file] = container.streams.video[0].average_rate
    assert rates == {"a.gif": 20, "b.npy": 12.5}


def test_clips_that_are_being_written_are_left_out(tmp_path: Path):
    add(tmp_path / "a.gif", 4, "wave")
    (tmp_path / ".b.part.gif").write_text("half of a clip")
    assert gallery.find(tmp_path) == [tmp_path / "a.gif"]


def test_the_manifest_knows_a_shipped_checkpoint_by_its_hash(tmp_path: Path):
    """What it lists within archives is no clip of the folder, and none that is lost."""
    np.save(tmp_path / "a.npy", frames(3))
    known = files.sha256(checkpoint.find("shapes"))
    with Manifest(tmp_path / "manifest.jsonl", {}) as manifest:
        for name in ("a.npy", "0.tar/000003.mp4"):
            line = {"index": 0, "seed": 3, "checkpoint": known}
            manifest.append(tmp_path / name, line, "0" * 64)
    (entry,) = entries(tmp_path)
    assert isinstance(entry, gallery.GalleryEntry)
    assert entry.record == {"seed": 3, "checkpoint": "shapes"}


def test_the_page_is_self_contained_and_safe(tmp_path: Path):
    add(tmp_path / "x.mp4", 2**60 + 1, "</script><b>")
    page = tmp_path / "page.html"
    shown = gallery.write(page, "<Title> & more", entries(tmp_path), lambda: None)
    text = page.read_text("utf-8")
    assert shown == 1
    assert "<h1>&lt;Title&gt; &amp; more</h1>" in text
    assert "{{" not in text
    assert not re.search(r"(src|href)=[\"']?(http|//)|url\(|@import", text)
    (clip,) = data_of(page)
    assert clip["action"] == "</script><b>"
    assert clip["seed"] == str(2**60 + 1), "a double would lose its last digit"
    assert text.count("</script>") == 3


def test_a_clip_has_its_options_without_seed_and_name(tmp_path: Path):
    """The page adds those of the clips that are marked."""
    add(tmp_path / "x.mp4", 30, "bend")
    gallery.write(tmp_path / "page.html", "t", entries(tmp_path), lambda: None)
    (clip,) = data_of(tmp_path / "page.html")
    assert clip["options"] == "--checkpoint weizmann --frames 6 --action bend --fps 20"


@pytest.mark.parametrize("seed", ["0; echo pwned #", -1, 2**63, 1.5, True, [1]])
def test_what_is_no_seed_gets_into_no_command(tmp_path: Path, seed: Any):
    """People copy the page's commands, and a record is whatever a stranger wrote."""
    path, made_by = tmp_path / "x.mp4", {**record(1, "wave", "weizmann"), "seed": seed}
    with open_clip(path, ClipFormat(6, 32, 32, 20.0, made_by)) as writer:
        writer.write(frames(1))
    gallery.write(tmp_path / "page.html", "t", entries(tmp_path), lambda: None)
    assert data_of(tmp_path / "page.html")[0]["seed"] is None


def test_the_command_line_names_what_it_leaves_out(run, folder: Path, tmp_path: Path):
    done = run("gallery", folder, "--out", "page.html", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["clips"] == 5
    assert told["bytes"] == (tmp_path / "page.html").stat().st_size
    assert sorted(s["file"] for s in told["skipped"]) == ["cut.mp4", "not.gif"]
    assert done.stderr.count("mocogen: left out: ") == 2


def test_a_folder_without_clips_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="no such folder"):
        gallery.find(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="has no clips in it"):
        gallery.find(tmp_path)
    (tmp_path / "clips-00000.tar").touch()
    with pytest.raises(UsageError, match="unpack its archives"):
        gallery.find(tmp_path)


def test_only_broken_clips_make_no_page(run, tmp_path: Path):
    (tmp_path / "not.gif").write_text("no picture")
    (tmp_path / "page.html").write_text("older")
    done = run("gallery", ".", "--out", "page.html")
    assert done.returncode == 2
    assert "not.gif" in done.stderr
    assert "none of the clips can be shown" in done.stderr
    assert (tmp_path / "page.html").read_text() == "older"
    assert run("gallery", ".", "--out", "page.png").returncode == 2


# ---- in a browser -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no chromium with chromedriver on this machine")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("profile")
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1000,760",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(120)  # on a busy machine, frames are slow to come
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def page(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("page") / "page.html"
    gallery.write(
        page,
        "Six clips",
        [e for e in entries(folder) if isinstance(e, gallery.GalleryEntry)],
        lambda: None,
    )
    return page


class Page:
    """The page as a person has it: what is seen, a pointer and a keyboard."""

    def __init__(self, browser: Any, path: Path) -> None:
        from selenium.webdriver import ActionChains

        self.browser = browser
        self.actions = lambda: ActionChains(browser)
        browser.get(path.as_uri())
        browser.execute_script("localStorage.clear()")
        browser.refresh()

    def all(self, selector: str) -> list[Any]:
        found: list[Any] = self.browser.find_elements("css selector", selector)
        return found

    def one(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    @property
    def files(self) -> list[str]:
        return [e.get_attribute("title") for e in self.all(".clip") if e.is_displayed()]

    @property
    def favourites(self) -> list[str]:
        return [e.get_attribute("title") for e in self.all('.clip[aria-pressed="true"]')]

    def clip(self, file: str) -> Any:
        return self.one(f'.clip[title="{file}"]')

    def wait(self, condition: str) -> None:
        """Until a JavaScript expression holds."""
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.browser, 60, 0.05).until(
            lambda driver: driver.execute_script(f"return Boolean({condition})"), condition
        )

    def choose(self, select: str, value: str) -> None:
        self.one(f"{select} option[value='{value}']").click()


@pytest.fixture
def shown(browser: Any, page: Path) -> Page:
    return Page(browser, page)


def test_a_clip_plays_while_the_pointer_is_over_it(shown: Page):
    shown.wait("document.querySelector('.clip img').naturalWidth === 32")
    assert not shown.all("video")
    shown.actions().move_to_element(shown.clip("b.mp4")).perform()
    shown.wait("document.querySelector('.clip[title=\"b.mp4\"] video')?.currentTime > 0.05")
    shown.actions().move_to_element(shown.clip("a.gif")).perform()
    shown.wait("document.querySelector('.clip[title=\"a.gif\"] video')?.currentTime > 0.05")
    assert len(shown.all("video")) == 1
    shown.actions().move_to_element(shown.one("h1")).perform()
    shown.wait("!document.querySelector('video')")


def test_clips_are_filtered_and_sorted(shown: Page):
    assert shown.files == ["a.gif", "b.mp4", "c.webp", "deep/d.png", "e.npy"]
    chips = {chip.text: chip for chip in shown.all(".chip")}
    assert list(chips) == ["all", "none", "bend", "wave"]
    chips["bend"].click()
    assert shown.files == ["b.mp4", "c.webp"]
    assert shown.one("#count").text == "2 of 5 clips"
    chips["all"].click()
    shown.choose("#sort", "seed")
    assert shown.files == ["a.gif", "deep/d.png", "b.mp4", "c.webp", "e.npy"]
    shown.choose("#sort", "action")
    assert shown.files == ["e.npy", "b.mp4", "c.webp", "a.gif", "deep/d.png"]
    shown.choose("#sort", "file")
    assert shown.files[0] == "a.gif"


def test_clicks_mark_favourites_and_their_seeds_and_command_are_copied(shown: Page):
    shown.browser.execute_cdp_cmd(
        "Browser.grantPermissions",
        {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]},
    )
    assert not shown.one("#marked").is_displayed()
    for file in ("c.webp", "b.mp4", "a.gif", "e.npy", "a.gif"):
        shown.clip(file).click()
    assert sorted(shown.favourites) == ["b.mp4", "c.webp", "e.npy"]
    assert shown.one("#marked-count").text == "3 favourites"

    def copied(button: str) -> str:
        shown.one(button).click()
        shown.wait("document.getElementById('said').textContent.startsWith('Copied')")
        text: str = shown.browser.execute_async_script(
            "navigator.clipboard.readText().then(arguments[0], (e) => arguments[0](String(e)))"
        )
        return text

    assert copied("#copy-seeds") == "30,200"
    assert "1 without a seed" in shown.one("#said").text
    assert copied("#copy-files").splitlines() == ["b.mp4", "c.webp", "e.npy"]
    words = shlex.split(copied("#copy-command"))
    assert words[:4] == ["mocogen", "sample", "--seeds", "30,200"]
    assert words[words.index("--action") + 1] == "bend"
    assert words[-2:] == ["--out", "favourites/{seed:06d}.mp4"]

    shown.one("#only-marked").click()
    assert shown.files == ["b.mp4", "c.webp", "e.npy"]
    shown.browser.refresh()
    assert sorted(shown.favourites) == ["b.mp4", "c.webp", "e.npy"], "marks outlive the page"
    shown.one("#clear").click()
    assert shown.favourites == []
    assert not shown.one("#marked").is_displayed()


def test_clips_of_two_actions_need_two_commands(shown: Page):
    for file in ("a.gif", "b.mp4"):
        shown.clip(file).click()
    commands = [shlex.split(line) for line in shown.one("#command").text.splitlines()]
    told = {(c[3], c[c.index("--action") + 1], c[-1]) for c in commands}
    assert told == {
        ("4", "wave", "favourites-1/{seed:06d}.mp4"),
        ("30", "bend", "favourites-2/{seed:06d}.mp4"),
    }


def test_the_keyboard_alone_does(shown: Page):
    from selenium.webdriver import Keys

    def press(*keys: str) -> None:
        shown.actions().send_keys(*keys).perform()

    def focused() -> str:
        title: str = shown.browser.execute_script("return document.activeElement.title")
        return title

    press(Keys.TAB, Keys.TAB, Keys.TAB, Keys.TAB)  # action, sort, favourites only, clips
    assert focused() == "a.gif"
    shown.wait("document.querySelector('.clip[title=\"a.gif\"] video')?.currentTime > 0.05")
    press(Keys.ARROW_RIGHT, Keys.ENTER, Keys.ARROW_RIGHT, Keys.SPACE)
    assert shown.favourites == ["b.mp4", "c.webp"]
    press(Keys.END)
    assert focused() == "e.npy"
    press(Keys.ARROW_RIGHT)
    assert focused() == "e.npy", "there is nothing to the right of the last"
    press(Keys.HOME)
    assert focused() == "a.gif"
    press(Keys.TAB)
    assert shown.browser.switch_to.active_element.get_attribute("id") == "command"


def test_dark_and_light_follow_the_reader(shown: Page):
    def brightness(scheme: str) -> float:
        shown.browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )
        colour = shown.one("body").value_of_css_property("background-color")
        return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3

    assert brightness("light") > 200
    assert brightness("dark") < 50


SCROLL = """
const done = arguments[0], waits = [];
let last = performance.now();
const step = (now) => {
  waits.push(now - last);
  last = now;
  scrollBy(0, waits.length % 2 ? 500 : -400);
  if (waits.length > 60) done(waits.sort((a, b) => a - b)[30]);
  else requestAnimationFrame(step);
};
requestAnimationFrame(step);
"""
"""Scrolls to and fro, mostly forward; gives the median time between two frames."""


def test_a_thousand_clips_wait_until_they_are_looked_at(browser: Any, folder: Path, tmp_path: Path):
    (entry,) = (
        e for e in entries(folder) if isinstance(e, gallery.GalleryEntry) and e.file == "b.mp4"
    )

    def page(count: int) -> Path:
        many = (
            gallery.GalleryEntry(f"{k:04d}.mp4", entry.poster, entry.video, record(k, "bend"))
            for k in range(count)
        )
        gallery.write(tmp_path / f"{count}.html", "Many", many, lambda: None)
        return tmp_path / f"{count}.html"

    loaded = "document.querySelectorAll('.clip img[src]').length"
    medians = {}
    for count in (100, 1000):
        shown = Page(browser, page(count))
        shown.wait(f"{loaded} > 0")
        at_first = browser.execute_script(f"return {loaded}")
        assert at_first <= 100
        assert not shown.all("video")
        medians[count] = browser.execute_async_script(SCROLL)
    shown.wait(f"{loaded} > {at_first}")
    # Measured in turn, since it depends on the machine: ten times the clips, the same frames.
    assert medians[1000] < 3 * medians[100], medians
