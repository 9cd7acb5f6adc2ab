"use strict";
// The charts one can zoom: uPlot in the place of each static picture, all over the same x. In: the
// page's data (embed.py). What always holds: the static picture stays in the page for print, and is
// what one sees where this script does not run.
(function () {
  const SHARES = [0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2];
  const AXES = { step: "steps", tokens: "tokens", hours: "hours" };
  // What the reader chose; it outlives a redrawing.
  const view = { axis: "step", share: 5, kind: "mean", min: null, max: null, log: {}, hidden: new Set(), seen: new Set() };
  const charts = new Map();
  let data = null, arrays = [], extent = [0, 1], active = null;

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim() || "#888";
  }

  // --- from data to curves ---

  function lineX(line) { return line[view.axis] === null ? null : arrays[line[view.axis]]; }
  // The curves of a chart: of a smoothed line the values, faint, and their mean.
  function curvesOf(chart) {
    const curves = [];
    chart.lines.forEach(function (line) {
      const x = lineX(line);
      if (x === null) return;
      const values = arrays[line.y];
      const hidden = view.hidden.has(chart.key + "/" + line.name);
      const mean = line.smooth ? Report.smoothed(values, SHARES[view.share], view.kind) : null;
      // Undrawable values are gaps.
      const y = Array.from(values, function (v) { return Number.isFinite(v) ? v : null; });
      curves.push({ line: line, x: x, y: y, style: mean ? "faint" : line.style, hidden: hidden, raw: values });
      if (mean) curves.push({ line: line, x: x, y: mean.y, style: "plain", hidden: hidden, window: mean.window });
    });
    return curves;
  }

  function measureExtent() {
    let low = Infinity, high = -Infinity;
    data.charts.forEach(function (chart) {
      chart.lines.forEach(function (line) {
        const x = lineX(line);
        if (x && x.length) { low = Math.min(low, x[0]); high = Math.max(high, x[x.length - 1]); }
      });
    });
    extent = low < high ? [low, high] : Number.isFinite(low) ? [low - 1, low + 1] : [0, 1];
  }

  function visible() {
    return [view.min === null ? extent[0] : view.min, view.max === null ? extent[1] : view.max];
  }

  // The y axis over what is visible: all means and marks, and of raw values what is not far out.
  function rangeOf(shown) {
    const [from, to] = visible(), log = isLog(shown.spec);
    const faint = shown.curves.some(function (c) { return c.style === "faint" && !c.hidden; });
    const loose = [], firm = [];
    shown.curves.forEach(function (c, k) {
      if (c.hidden) return;
      const xs = shown.plot.data[0], ys = shown.plot.data[k + 1];
      const into = c.style === "marked" || (faint && c.style !== "faint") ? firm : loose;
      for (let i = 0; i < xs.length; i++) {
        const y = ys[i];
        if (xs[i] >= from && xs[i] <= to && y !== null && y !== undefined && (!log || y > 0)) into.push(y);
      }
    });
    let low = Infinity, high = -Infinity;
    if (loose.length) {
      if (log) loose.forEach(function (v) { low = Math.min(low, v); high = Math.max(high, v); });
      else [low, high] = Report.usual(loose, shown.spec.reach);
    }
    firm.forEach(function (v) { low = Math.min(low, v); high = Math.max(high, v); });
    if (!(low <= high)) return log ? [0.1, 10] : [0, 1];
    if (log) {
      const room = Math.max(Math.pow(high / low, 0.05), 1.02);
      return [low / room, high * room];
    }
    const room = 0.05 * (high - low) || Math.abs(low) * 0.1 || 1;
    // What is never negative has no room below zero.
    return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
  }

  function isLog(spec) { return spec.key in view.log ? view.log[spec.key] : spec.log; }

  // --- one chart ---

  function build(spec) {
    const figure = document.getElementById(spec.key);
    if (!figure) return;
    let shown = charts.get(spec.key);
    if (!shown) {
      const box = document.createElement("div");
      box.className = "live";
      box.tabIndex = 0;
      box.setAttribute("role", "group");
      box.setAttribute("aria-roledescription", "chart");
      figure.querySelector(".plot").after(box);
      figure.classList.add("enhanced");
      shown = { figure: figure, box: box, plot: null, tip: document.createElement("div") };
      shown.tip.className = "tip";
      shown.tip.hidden = true;
      charts.set(spec.key, shown);
      box.addEventListener("keydown", function (event) { onKey(shown, event); });
      box.addEventListener("pointerenter", function () { active = shown; });
      box.addEventListener("focus", function () { active = shown; });
      box.addEventListener("blur", function () { shown.tip.hidden = true; });
      new ResizeObserver(function () { if (shown.plot) shown.plot.setSize(sizeOf(shown)); }).observe(box);
    }
    shown.spec = spec;
    shown.box.setAttribute("aria-label", figure.querySelector(".plot").getAttribute("aria-label") +
      " Arrow keys move along it, plus and minus zoom, 0 shows all.");
    shown.curves = curvesOf(spec);
    if (shown.plot) shown.plot.destroy();
    shown.plot = null;
    shown.box.textContent = "";
    const missing = shown.curves.length === 0;
    shown.box.classList.toggle("empty", missing);
    if (missing) shown.box.textContent = "Not known against " + AXES[view.axis] + ".";
    else shown.plot = new uPlot(options(shown), Report.aligned(shown.curves), shown.box);
    if (shown.plot) shown.plot.over.appendChild(shown.tip);
    legend(shown);
  }

  function sizeOf(shown) { return { width: shown.box.clientWidth || 300, height: shown.box.clientHeight || 220 }; }

  function options(shown) {
    const log = isLog(shown.spec);
    const axis = { stroke: function () { return colour("soft"); }, font: "12px system-ui, sans-serif",
      grid: { stroke: function () { return colour("edge"); }, width: 1 }, ticks: { show: false }, border: { show: false } };
    return Object.assign(sizeOf(shown), {
      legend: { show: false },
      padding: [8, 18, 0, 0],
      scales: {
        x: { time: false, range: function () { return visible(); } },
        y: { distr: log ? 3 : 1, range: function () { return shown.plot ? rangeOf(shown) : [1, 2]; } },
      },
      axes: [
        Object.assign({}, axis, { size: 30, space: 60, grid: { show: false }, values: function (u, ticks) { return ticks.map(Report.short); } }),
        Object.assign({}, axis, log ? { splits: function (u) { return Report.logTicks(u.scales.y.min, u.scales.y.max); }, filter: function (u, ticks) { return ticks; } } : {}, { size: 56, values: function (u, ticks) { return ticks.map(function (v) { return v === null ? "" : Report.short(v); }); } }),
      ],
      series: [{}].concat(shown.curves.map(function (c) {
        const few = c.x.length <= 60;
        return {
          label: c.line.name, show: !c.hidden, stroke: function () { return colour(c.line.colour); },
          width: c.style === "faint" ? 1 : 2, alpha: c.style === "faint" ? 0.35 : 1,
          dash: c.style === "dashed" ? [5, 4] : undefined, spanGaps: c.style === "marked",
          points: { show: c.style === "marked" && few || c.x.length === 1, size: 6, fill: function () { return colour(c.line.colour); } },
        };
      })),
      cursor: {
        sync: { key: "report", scales: ["x", null], filters: { pub: function (type) { return type === "mousemove" || type === "mouseleave"; } } },
        drag: { x: true, y: false, setScale: false },
        points: { size: 7 },
        bind: { dblclick: function () { return function () { zoom(null, null); return null; }; } },
      },
      hooks: {
        ready: [function (u) { shown.plot = u; u.setScale("x", { min: visible()[0], max: visible()[1] }); }],
        setSelect: [function (u) {
          if (u.select.width < 4) return;
          const from = u.posToVal(u.select.left, "x"), to = u.posToVal(u.select.left + u.select.width, "x");
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          zoom(from, to);
        }],
        setCursor: [function (u) { point(shown, u); }],
        draw: [function (u) { marks(shown, u); }],
      },
    });
  }

  // Levels across and events down the chart, on the canvas.
  function marks(shown, u) {
    const ctx = u.ctx, ratio = devicePixelRatio, box = u.bbox;
    ctx.save();
    ctx.beginPath();
    ctx.rect(box.left, box.top, box.width, box.height);
    ctx.clip();
    ctx.font = 11 * ratio + "px system-ui, sans-serif";
    ctx.lineWidth = ratio;
    ctx.textAlign = "right";
    let last = -1e9;
    shown.spec.levels.slice().sort(function (a, b) { return b[1] - a[1]; }).forEach(function (level) {
      const y = u.valToPos(level[1], "y", true);
      if (!(y >= box.top && y <= box.top + box.height)) return;
      ctx.strokeStyle = ctx.fillStyle = colour("soft");
      ctx.setLineDash([6 * ratio, 4 * ratio]);
      line(ctx, box.left, y, box.left + box.width, y);
      if (y - last > 12 * ratio) { ctx.fillText(level[0], box.left + box.width - 4 * ratio, y - 3 * ratio); last = y; }
    });
    ctx.setLineDash([3 * ratio, 4 * ratio]);
    const many = data.marks.length > 12;
    data.marks.forEach(function (mark) {
      const x = u.valToPos(onAxis(mark.step, 0), "x", true);
      ctx.globalAlpha = many && mark.kind === "resumed" ? 0.25 : 0.7;
      ctx.strokeStyle = colour(mark.kind === "resumed" || mark.kind === "phase" ? "soft" : "bad");
      line(ctx, x, box.top, x, box.top + box.height);
    });
    ctx.restore();
  }

  function line(ctx, x0, y0, x1, y1) { ctx.beginPath(); ctx.moveTo(x0, y0); ctx.lineTo(x1, y1); ctx.stroke(); }
  // Where a step of a run lies on the present axis.
  function onAxis(step, run) {
    const course = data.courses[run];
    if (!course || view.axis === "step" || course[view.axis] === null) return step;
    return Report.between(arrays[course.step], arrays[course[view.axis]], step);
  }

  // --- pointing ---

  function point(shown, u) {
    const left = u.cursor.left;
    if (left === undefined || left === null || left < 0 || !shown.entries) {
      shown.tip.hidden = true;
      (shown.entries || []).forEach(function (e) { e.value.textContent = ""; });
      return;
    }
    const at = u.posToVal(left, "x");
    const rows = [];
    shown.curves.forEach(function (c) {
      const entry = shown.entries.find(function (e) { return e.line === c.line; });
      if (c.hidden || c.x.length === 0) return;
      const i = Report.nearest(c.x, at);
      // A run that ended earlier has no value here.
      if (at > c.x[c.x.length - 1] + 0.02 * (extent[1] - extent[0])) { if (entry && c.raw) entry.value.textContent = ""; return; }
      if (c.raw) {
        rows.push({ line: c.line, x: c.x[i], step: arrays[c.line.step][i], text: Report.exact(c.raw[i]) });
        if (entry) entry.value.textContent = Report.exact(c.raw[i]);
      } else if (c.y[i] !== undefined && rows.length) {
        rows[rows.length - 1].text += " (mean " + Report.exact(+c.y[i].toPrecision(5)) + ")";
      }
    });
    if (shown !== active || rows.length === 0) { shown.tip.hidden = true; return; }
    const head = rows[0];
    shown.tip.textContent = Report.place(view.axis, head.x) + (view.axis === "step" ? "" : ", step " + head.step.toLocaleString("en"));
    rows.forEach(function (row) {
      const div = shown.tip.appendChild(document.createElement("div"));
      const key = div.appendChild(document.createElement("i"));
      key.className = "key " + row.line.style + " " + row.line.colour;
      const where = row.x === head.x ? "" : " (" + Report.place(view.axis, row.x) + ")";
      div.append(row.line.name + ": " + row.text + where);
    });
    data.marks.forEach(function (mark) {
      if (Math.abs(u.valToPos(onAxis(mark.step, 0), "x") - left) < 5) {
        shown.tip.appendChild(document.createElement("div")).textContent = mark.name + " at step " + mark.step.toLocaleString("en");
      }
    });
    shown.tip.hidden = false;
    const room = u.over.clientWidth - left;
    const x = room > shown.tip.offsetWidth + 16 ? left + 12 : Math.max(-60, left - 12 - shown.tip.offsetWidth);
    shown.tip.style.left = x + "px";
  }

  function onKey(shown, event) {
    if (!shown.plot || event.ctrlKey || event.metaKey || event.altKey) return;
    const [from, to] = visible();
    const cursor = shown.plot.cursor.left >= 0 ? shown.plot.posToVal(shown.plot.cursor.left, "x") : (from + to) / 2;
    const moves = {
      "+": function () { scale(0.5, cursor); }, "=": function () { scale(0.5, cursor); }, "-": function () { scale(2, cursor); },
      "0": function () { zoom(null, null); }, Escape: function () { zoom(null, null); },
      ArrowLeft: function () { step(shown, cursor, -1, event.shiftKey); }, ArrowRight: function () { step(shown, cursor, 1, event.shiftKey); },
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    moves[event.key]();
  }

  // To the next point, or with Shift a tenth of what is visible.
  function step(shown, cursor, direction, far) {
    const xs = shown.plot.data[0], [from, to] = visible();
    let x = cursor + direction * (to - from) / 10;
    if (!far) {
      const i = Report.nearest(xs, cursor);
      x = xs[Math.min(xs.length - 1, Math.max(0, i + direction))];
      // Points closer than a pixel would not move anything.
      if (Math.abs(shown.plot.valToPos(x, "x") - shown.plot.valToPos(cursor, "x")) < 1) x = cursor + direction * (to - from) / shown.plot.over.clientWidth;
    }
    if (x < from || x > to) zoom(from + direction * (to - from) / 4, to + direction * (to - from) / 4);
    show(shown, x);
  }

  function show(shown, x) {
    active = shown;
    shown.plot.setCursor({ left: shown.plot.valToPos(x, "x"), top: shown.plot.over.clientHeight / 2 }, true, true);
  }

  // --- the legend: which lines are drawn, and their values at the pointer ---

  function legend(shown) {
    const list = shown.legend = shown.figure.querySelector("figcaption .legend");
    list.className = "legend";
    list.textContent = "";
    shown.entries = shown.spec.lines.map(function (line) {
      const id = shown.spec.key + "/" + line.name;
      const button = list.appendChild(document.createElement("li")).appendChild(document.createElement("button"));
      button.type = "button";
      button.setAttribute("aria-pressed", String(!view.hidden.has(id)));
      button.title = "Show or hide";
      button.appendChild(document.createElement("i")).className = "key " + line.style + " " + line.colour;
      button.append(line.name + " ");
      const value = button.appendChild(document.createElement("span"));
      value.className = "value";
      button.addEventListener("click", function () {
        if (!view.hidden.delete(id)) view.hidden.add(id);
        button.setAttribute("aria-pressed", String(!view.hidden.has(id)));
        shown.curves.forEach(function (c, k) {
          if (c.line !== line) return;
          c.hidden = view.hidden.has(id);
          shown.plot.setSeries(k + 1, { show: !c.hidden });
        });
      });
      return { line: line, value: value };
    });
    const positive = shown.curves.some(function (c) { return c.y.some(function (v) { return v > 0; }); });
    if (!positive) return;
    const log = list.appendChild(document.createElement("li")).appendChild(document.createElement("button"));
    log.type = "button";
    log.className = "log";
    log.textContent = "log";
    log.title = "Logarithmic axis";
    log.setAttribute("aria-pressed", String(isLog(shown.spec)));
    log.addEventListener("click", function () {
      view.log[shown.spec.key] = !isLog(shown.spec);
      build(shown.spec);
      shown.legend.querySelector(".log").focus();
    });
  }

  // --- all charts together ---

  function zoom(min, max) {
    if (min !== null) {
      const least = (extent[1] - extent[0]) * 1e-6;
      if (!(max - min > least)) return;
      const width = Math.min(max - min, extent[1] - extent[0]);
      min = Math.min(Math.max(min, extent[0]), extent[1] - width);
      max = min + width;
    }
    const all = min === null || (min <= extent[0] && max >= extent[1]);
    view.min = all ? null : min;
    view.max = all ? null : max;
    redraw();
  }

  function redraw() {
    const [min, max] = visible();
    charts.forEach(function (shown) { if (shown.plot) shown.plot.setScale("x", { min: min, max: max }); });
  }

  function scale(factor, around) {
    const [from, to] = visible(), at = around === undefined ? (from + to) / 2 : around;
    zoom(at - (at - from) * factor, at + (to - at) * factor);
  }

  function pan(part) { const [from, to] = visible(); zoom(from + part * (to - from), to + part * (to - from)); }

  // The same stretch of the first run on another axis.
  function setAxis(axis) {
    const course = data.courses[0], before = view.axis;
    function moved(x) {
      if (x === null || !course || course[before] === null || course[axis] === null) return null;
      return Report.between(arrays[course[before]], arrays[course[axis]], x);
    }
    const min = moved(view.min), max = moved(view.max);
    view.axis = axis;
    view.min = min !== null && max > min ? min : null;
    view.max = view.min === null ? null : max;
    rebuild();
  }

  function rebuild() {
    measureExtent();
    if (view.max !== null && view.min >= extent[1]) view.min = view.max = null;
    data.charts.forEach(build);
    redraw();
  }

  function load(given) {
    data = given;
    arrays = data.arrays.map(Report.decode);
    for (const chart of data.charts) for (const line of chart.lines) {
      const id = chart.key + "/" + line.name;
      if (line.aside && !view.seen.has(id)) { view.seen.add(id); view.hidden.add(id); }
    }
    rebuild();
  }

  // To a step of the run, with a little around it.
  function goTo(where, key) {
    const x = onAxis(where, 0), width = (extent[1] - extent[0]) / 20;
    zoom(x - width, x + width);
    const shown = charts.get(key) || charts.values().next().value;
    if (shown && shown.plot) { show(shown, x); shown.figure.scrollIntoView({ block: "nearest" }); }
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", function () {
    charts.forEach(function (shown) { if (shown.plot) shown.plot.redraw(false, true); });
  });

  Object.assign(Report, { view, charts, load, rebuild, zoom, scale, pan, setAxis, goTo, visible, SHARES, AXES,
    known: function (axis) { return data.charts.some(function (c) { return c.lines.some(function (l) { return l[axis] !== null; }); }); },
    thinned: function () { return data.thinned; } });
})();
