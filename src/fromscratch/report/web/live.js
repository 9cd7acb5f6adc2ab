"use strict";
// On a served page only: asks its own server whether the run's files have grown, and if so fetches
// the page again and takes over what is new. Zoom, scroll, folded parts and samples stay as they are.
(function () {
  const PAUSE = 2000;
  let known = document.documentElement.dataset.version || "", lost = 0;
  const sign = document.getElementById("live");

  function say(text, trouble) {
    if (sign.textContent !== text) sign.textContent = text;
    sign.classList.toggle("trouble", trouble);
  }

  function keepState(from, to) {
    to.querySelectorAll("details").forEach(function (part, i) {
      const before = from.querySelectorAll("details")[i];
      if (!before) return;
      part.open = before.open;
      if (before.dataset.at !== undefined) part.dataset.was = before.dataset.at;
    });
  }

  function takeOver(page) {
    // Parts of the page, each replaced whole if it differs.
    page.querySelectorAll("[data-part]").forEach(function (part) {
      const mine = document.querySelector('[data-part="' + part.dataset.part + '"]');
      if (!mine) {
        // New since: after the part that it follows.
        const before = part.previousElementSibling;
        const place = before && before.dataset.part && document.querySelector('[data-part="' + before.dataset.part + '"]');
        if (place) { const copy = document.importNode(part, true); place.after(copy); Report.enhance(copy.parentElement); }
        return;
      }
      if (mine.dataset.made === part.dataset.made) return;
      const copy = document.importNode(part, true);
      keepState(mine, copy);
      mine.replaceWith(copy);
      copy.querySelectorAll("details.prompt").forEach(function (d) {
        Report.stepper(d, d.dataset.was === undefined || d.dataset.was === "last" ? undefined : +d.dataset.was);
      });
      Report.enhance(copy);
    });
    // Charts: the picture for paper and the notes; new ones go where the page has them.
    page.querySelectorAll("#curves figure.chart").forEach(function (figure) {
      const mine = document.getElementById(figure.id);
      if (!mine || !mine.querySelector(".plot") !== !figure.querySelector(".plot")) {
        const copy = document.importNode(figure, true);
        if (mine) { Report.charts.delete(figure.id); mine.replaceWith(copy); } else place(figure, copy);
        return;
      }
      [".plot", ".notes"].forEach(function (which) {
        const old = mine.querySelector(which), fresh = figure.querySelector(which);
        if (old && fresh) old.replaceWith(document.importNode(fresh, true));
      });
    });
    Report.load(JSON.parse(page.getElementById("data").textContent));
    Report.controls();
    document.title = page.title;
  }

  function place(figure, copy) {
    let grid = document.querySelector("#curves .charts");
    if (!grid) {
      grid = document.createElement("div");
      grid.className = "charts";
      document.querySelector("#curves .large").after(grid);
    }
    const before = figure.previousElementSibling && document.getElementById(figure.previousElementSibling.id);
    if (before && before.parentElement === grid) before.after(copy); else grid.prepend(copy);
  }

  async function look() {
    let pause = PAUSE;
    try {
      const answer = await fetch("version", { cache: "no-store" });
      if (!answer.ok) throw new Error("HTTP " + answer.status);
      const now = (await answer.json()).version;
      if (now !== known) {
        const begun = performance.now();
        const text = await (await fetch("./", { cache: "no-store" })).text();
        const page = new DOMParser().parseFromString(text, "text/html");
        if (!page.getElementById("data")) throw new Error("no report");
        takeOver(page);
        known = page.documentElement.dataset.version;
        // A page that takes long to make is not asked for all the time.
        pause = Math.max(PAUSE, 4 * (performance.now() - begun));
      }
      lost = 0;
      say("live", false);
      document.documentElement.dataset.version = known;
    } catch (error) {
      lost += 1;
      say("not being watched any more", true);
      pause = Math.min(30000, PAUSE * lost);
    }
    setTimeout(look, document.hidden ? Math.max(pause, 10000) : pause);
  }
  setTimeout(look, PAUSE);
})();
