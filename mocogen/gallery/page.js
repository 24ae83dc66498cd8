"use strict";

(() => {
  const byId = (name) => document.getElementById(name);
  const { id: pageId, clips } = JSON.parse(byId("data").textContent);
  const list = byId("clips");
  const storeName = `mocogen-gallery-${pageId}`;

  // A clip is { file, seed, action, options, poster }; here it gets { index, button, item }.
  clips.forEach((clip, index) => { clip.index = index; });
  const marks = new Set(storedMarks());

  function storedMarks() {
    try {
      return JSON.parse(localStorage.getItem(storeName) || "[]");
    } catch {
      return []; // a browser may keep nothing for pages from a disk
    }
  }

  function storeMarks() {
    try {
      localStorage.setItem(storeName, JSON.stringify([...marks]));
    } catch {
      // then the marks last as long as the page
    }
  }

  // ---- cards -------------------------------------------------------------------------

  function element(name, className, text) {
    const made = document.createElement(name);
    made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function build(clip) {
    const title = clip.seed === null ? clip.file : `seed ${clip.seed}`;
    clip.button = element("button", "clip");
    clip.button.type = "button";
    clip.button.title = clip.file;
    clip.button.tabIndex = -1;
    clip.button.setAttribute("aria-pressed", String(marks.has(clip.file)));
    clip.button.setAttribute("aria-label", clip.action ? `${title}, ${clip.action}` : title);
    clip.button.dataset.index = clip.index;
    const screen = element("span", "screen");
    const still = element("img", "");
    still.alt = "";
    const heart = element("span", "heart", "♥");
    heart.setAttribute("aria-hidden", "true");
    screen.append(still, heart);
    const caption = element("span", "caption");
    caption.append(element("span", "", title), element("span", "what", clip.action || ""));
    clip.button.append(screen, caption);
    clip.item = element("li", "");
    clip.item.append(clip.button);
    posters.observe(clip.item);
  }

  // A still picture is decoded when its card comes near the window.
  const posters = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      posters.unobserve(target);
      const button = target.firstChild;
      button.querySelector("img").src = clips[button.dataset.index].poster;
    }
  }, { rootMargin: "600px" });

  const clipOf = (target) => {
    const button = target instanceof Element ? target.closest(".clip") : null;
    return button && clips[button.dataset.index];
  };

  // ---- playing: one clip at a time, decoded when it is looked at ------------------------

  let playing = null; // { clip, video, address }

  function play(clip) {
    if (playing && playing.clip === clip) return;
    stop();
    const text = atob(byId(`clip-${clip.index}`).textContent);
    const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
    const address = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
    const video = element("video", "");
    Object.assign(video, { src: address, muted: true, loop: true, playsInline: true });
    video.setAttribute("aria-hidden", "true");
    clip.button.querySelector(".screen").insertBefore(video, clip.button.querySelector(".heart"));
    playing = { clip, video, address };
    video.play().catch(() => {}); // left before it began
  }

  function stop() {
    if (!playing) return;
    playing.video.pause();
    playing.video.remove();
    URL.revokeObjectURL(playing.address);
    playing = null;
  }

  list.addEventListener("pointerover", (event) => {
    const clip = clipOf(event.target);
    if (clip) play(clip);
  });
  list.addEventListener("pointerout", (event) => {
    const clip = clipOf(event.target);
    if (clip && clipOf(event.relatedTarget) !== clip) stop();
  });
  list.addEventListener("focusin", (event) => {
    const clip = clipOf(event.target);
    if (!clip) return;
    rove(clip);
    if (clip.button.matches(":focus-visible")) play(clip);
  });
  list.addEventListener("focusout", () => {
    if (playing && !playing.clip.button.matches(":hover")) stop();
  });

  // ---- filter and sort -----------------------------------------------------------------

  let shown = [];

  const compareText = new Intl.Collator("en", { numeric: true }).compare;
  // Seeds reach beyond the whole numbers that a double holds.
  const compareSeeds = (a, b) => {
    if (a.seed === null || b.seed === null) return (a.seed === null) - (b.seed === null);
    const [x, y] = [BigInt(a.seed), BigInt(b.seed)];
    return x < y ? -1 : x > y ? 1 : 0;
  };
  const compareFiles = (a, b) => compareText(a.file, b.file);
  const orders = {
    file: compareFiles,
    seed: (a, b) => compareSeeds(a, b) || compareFiles(a, b),
    action: (a, b) =>
      compareText(a.action || "", b.action || "") || compareSeeds(a, b) || compareFiles(a, b),
  };

  function arrange() {
    // A page of one action has no chips to choose by.
    const action = new FormData(byId("controls")).get("action") || "";
    const onlyMarked = byId("only-marked").checked;
    clips.forEach((clip) => {
      clip.item.hidden =
        (action !== "" && (clip.action || "") !== action.slice(1)) ||
        (onlyMarked && !marks.has(clip.file));
    });
    const sorted = [...clips].sort(orders[byId("sort").value]);
    list.append(...sorted.map((clip) => clip.item));
    shown = sorted.filter((clip) => !clip.item.hidden);
    byId("nothing").hidden = shown.length > 0;
    byId("count").textContent =
      shown.length === clips.length
        ? `${clips.length} ${clips.length === 1 ? "clip" : "clips"}`
        : `${shown.length} of ${clips.length} clips`;
    if (playing && playing.clip.item.hidden) stop();
    const current = shown.find((clip) => clip.button.tabIndex === 0);
    if (!current && shown.length) rove(shown[0]);
  }

  // Chips for the actions that there are. The value "" means all, "=" an action without name.
  function buildChips() {
    const names = [...new Set(clips.map((clip) => clip.action || ""))].sort(compareText);
    if (names.length < 2) {
      byId("actions").hidden = true;
      return;
    }
    const chips = [["all", ""], ...names.map((name) => [name || "none", `=${name}`])];
    for (const [text, value] of chips) {
      const chip = element("label", "chip");
      const choice = element("input", "");
      Object.assign(choice, { type: "radio", name: "action", value, checked: value === "" });
      chip.append(choice, element("span", "", text));
      byId("actions").append(chip);
    }
  }

  // ---- keyboard: Tab enters the grid once, arrows move inside it -------------------------

  function rove(clip) {
    for (const other of list.querySelectorAll('.clip[tabindex="0"]')) other.tabIndex = -1;
    clip.button.tabIndex = 0;
  }

  const columns = () => getComputedStyle(list).gridTemplateColumns.split(" ").length;

  list.addEventListener("keydown", (event) => {
    const clip = clipOf(event.target);
    const at = shown.indexOf(clip);
    if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const last = shown.length - 1;
    const goals = {
      ArrowRight: () => at + 1,
      ArrowLeft: () => at - 1,
      ArrowDown: () => at + columns(),
      ArrowUp: () => at - columns(),
      Home: () => 0,
      End: () => last,
    };
    if (!(event.key in goals)) return;
    event.preventDefault();
    const goal = goals[event.key]();
    if (goal >= 0 && goal <= last) shown[goal].button.focus();
  });

  // ---- favourites ------------------------------------------------------------------------

  list.addEventListener("click", (event) => {
    const clip = clipOf(event.target);
    if (!clip) return;
    if (!marks.delete(clip.file)) marks.add(clip.file);
    clip.button.setAttribute("aria-pressed", String(marks.has(clip.file)));
    marksChanged();
  });

  byId("clear").addEventListener("click", () => {
    marks.clear();
    for (const clip of clips) clip.button.setAttribute("aria-pressed", "false");
    marksChanged();
    // The button is gone with its bar: the keyboard goes on where the clips are.
    if (shown.length) list.querySelector('.clip[tabindex="0"]').focus();
  });

  function marksChanged() {
    storeMarks();
    showMarked();
    // A favourite that is unmarked stays in sight until the choices are changed.
    if (byId("only-marked").checked && !marks.size) {
      byId("only-marked").checked = false;
      const held = document.activeElement;
      arrange(); // moves the cards, and a card that is moved loses the focus
      if (held && list.contains(held)) held.focus();
    }
  }

  const marked = () => clips.filter((clip) => marks.has(clip.file)).sort(orders.seed);
  const seedsOf = (some) => [...new Set(some.map((clip) => clip.seed))].join(",");

  // One line for all that differ by their seeds alone, each into a folder of its own.
  function commandOf(some) {
    const groups = new Map();
    for (const clip of some) {
      if (clip.seed === null) continue;
      groups.set(clip.options, [...(groups.get(clip.options) || []), clip]);
    }
    return [...groups].map(([options, alike], number) => {
      const folder = groups.size === 1 ? "favourites" : `favourites-${number + 1}`;
      const words = ["mocogen sample --seeds", seedsOf(alike), options];
      return [...words, `--out '${folder}/{seed:06d}.mp4'`].filter(Boolean).join(" ");
    }).join("\n");
  }

  function showMarked() {
    const some = marked();
    byId("marked").hidden = some.length === 0;
    byId("marked-count").textContent =
      some.length === 1 ? "1 favourite" : `${some.length} favourites`;
    byId("said").textContent = "";
    byId("command").textContent = commandOf(some);
    const seeded = some.some((clip) => clip.seed !== null);
    byId("command").hidden = byId("copy-command").hidden = byId("copy-seeds").hidden = !seeded;
  }

  function copier(button, what, textOf) {
    byId(button).addEventListener("click", async () => {
      const some = marked();
      const text = textOf(some);
      const without = some.filter((clip) => clip.seed === null).length;
      const rest = without && what !== "file names" ? `; ${without} without a seed left out` : "";
      byId("said").textContent = (await copy(text))
        ? `Copied the ${what}${rest}.`
        : `The browser lets nothing be copied: the ${what} are ${text}`;
    });
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Older browsers, and those that forbid it to pages from a disk: by way of a selection.
      const field = element("textarea", "");
      field.value = text;
      document.body.append(field);
      field.select();
      const done = document.execCommand("copy");
      field.remove();
      return done;
    }
  }

  copier("copy-seeds", "seeds", (some) => seedsOf(some.filter((clip) => clip.seed !== null)));
  copier("copy-command", "command", commandOf);
  copier("copy-files", "file names", (some) => some.map((clip) => clip.file).join("\n"));

  byId("controls").addEventListener("change", arrange);
  byId("controls").addEventListener("submit", (event) => event.preventDefault());

  buildChips();
  clips.forEach(build);
  arrange();
  showMarked();
})();
