"use strict";
// What the page does besides its charts: the controls, the samples step by step, links from events
// into the charts, values of the heat maps. Without this script everything is there to read.
(function () {
  function make(name, props, ...children) {
    const element = Object.assign(document.createElement(name), props);
    element.append(...children);
    return element;
  }

  // --- controls of all charts ---

  function controls() {
    const bar = document.getElementById("controls");
    bar.textContent = "";
    const axes = make("fieldset", {}, make("legend", { textContent: "Against" }));
    Object.entries(Report.AXES).forEach(function ([axis, name]) {
      const input = make("input", { type: "radio", name: "axis", value: axis, checked: axis === Report.view.axis, disabled: !Report.known(axis) });
      input.addEventListener("change", function () { Report.setAxis(axis); });
      axes.append(make("label", {}, input, " " + name));
    });
    const said = make("output", {});
    const slider = make("input", { type: "range", id: "smoothing", min: 0, max: Report.SHARES.length - 1, step: 1, value: Report.view.share });
    function say() {
      const share = Report.SHARES[slider.value];
      said.textContent = share === 0 ? "off" : +(100 * share).toPrecision(2) + "% of the points";
      slider.setAttribute("aria-valuetext", said.textContent);
    }
    slider.addEventListener("input", function () { Report.view.share = +slider.value; say(); Report.rebuild(); });
    say();
    const kind = make("select", { id: "smoothing-kind" }, make("option", { value: "mean", textContent: "centred mean" }), make("option", { value: "ema", textContent: "EMA" }));
    kind.setAttribute("aria-label", "Kind of smoothing");
    kind.value = Report.view.kind;
    kind.addEventListener("change", function () { Report.view.kind = kind.value; Report.rebuild(); });
    const buttons = make("div", { className: "zoom" });
    buttons.setAttribute("role", "group");
    buttons.setAttribute("aria-label", "Zoom");
    [["in", "+", "Zoom in", function () { Report.scale(0.5); }],
     ["out", "\u2212", "Zoom out", function () { Report.scale(2); }],
     ["left", "\u2190", "Earlier", function () { Report.pan(-0.5); }],
     ["right", "\u2192", "Later", function () { Report.pan(0.5); }],
     ["all", "All", "Show the whole run", function () { Report.zoom(null, null); }],
    ].forEach(function ([id, text, title, act]) {
      const button = make("button", { type: "button", id: "zoom-" + id, textContent: text, title: title });
      button.setAttribute("aria-label", title);
      button.addEventListener("click", act);
      buttons.append(button);
    });
    bar.append(axes, make("label", { className: "smoothing" }, "Smoothing ", slider), said, kind, buttons,
      make("p", { className: "note", textContent: "Drag over a chart to zoom all of them, double click for the whole run." + (Report.thinned() ? " Shown: " + Report.thinned() + " (lowest and highest of each stretch)." : "") }));
  }

  // --- samples: one step at a time ---

  function stepper(details, at) {
    const list = details.querySelector("ol.timeline");
    if (!list || list.children.length < 2 || details.querySelector(".stepper")) return;
    const items = [...list.children];
    const slider = make("input", { type: "range", min: 0, max: items.length - 1, step: 1, value: at === undefined ? items.length - 1 : at });
    slider.setAttribute("aria-label", "Step of the sample");
    const said = make("output", {});
    const every = make("button", { type: "button", textContent: "Show all" });
    every.setAttribute("aria-pressed", "false");
    const back = make("button", { type: "button", textContent: "\u2190" }), on = make("button", { type: "button", textContent: "\u2192" });
    back.setAttribute("aria-label", "Earlier sample");
    on.setAttribute("aria-label", "Later sample");
    function show() {
      const all = every.getAttribute("aria-pressed") === "true";
      items.forEach(function (item, i) { item.hidden = !all && i !== +slider.value; });
      said.textContent = [...items[slider.value].querySelector(".when").children].map(function (e) { return e.textContent; }).join(", ");
      slider.setAttribute("aria-valuetext", said.textContent);
      details.dataset.at = +slider.value === items.length - 1 ? "last" : slider.value;
    }
    slider.addEventListener("input", show);
    back.addEventListener("click", function () { slider.value = +slider.value - 1; show(); });
    on.addEventListener("click", function () { slider.value = +slider.value + 1; show(); });
    every.addEventListener("click", function () {
      every.setAttribute("aria-pressed", String(every.getAttribute("aria-pressed") !== "true"));
      show();
    });
    list.before(make("div", { className: "stepper" }, back, slider, on, said, every));
    show();
  }

  // --- heat maps: the value under the pointer ---

  function heat(map) {
    const said = map.querySelector("output"), image = map.querySelector("img"), source = map.querySelector("script");
    if (!source || map.dataset.ready) return;
    const data = JSON.parse(source.textContent);
    map.dataset.ready = "yes";
    image.addEventListener("pointermove", function (event) {
      const box = image.getBoundingClientRect();
      const row = Math.min(data.parts.length - 1, Math.max(0, Math.floor((event.clientY - box.top) / box.height * data.parts.length)));
      const column = Math.min(data.steps.length - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * data.steps.length)));
      const value = data.values[row][column];
      said.textContent = data.parts[row] + ", step " + data.steps[column].toLocaleString("en") + ": " + (value === null ? "not recorded" : Report.exact(value));
    });
    image.addEventListener("pointerleave", function () { said.textContent = ""; });
  }

  function enhance(root) {
    root.querySelectorAll("details.prompt").forEach(function (d) { stepper(d); });
    root.querySelectorAll(".heat").forEach(heat);
  }

  document.addEventListener("click", function (event) {
    const link = event.target.closest("a[data-step]");
    if (link) Report.goTo(+link.dataset.step, link.hash.slice(1));
  });

  // Paper cannot unfold anything.
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (part) { part.open = true; });
    document.querySelectorAll(".timeline li[hidden]").forEach(function (item) { item.hidden = false; });
  });

  Object.assign(Report, { enhance, stepper, controls });
  Report.load(JSON.parse(document.getElementById("data").textContent));
  controls();
  enhance(document);
  document.documentElement.dataset.ready = "yes";
})();
