"use strict";
// A tooltip for every chart: the recorded values nearest to the pointer. Without this script the
// page loses nothing else.
(function () {
  function nearest(xs, x) {
    let low = 0, high = xs.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (xs[middle] < x) low = middle; else high = middle;
    }
    return Math.abs(xs[low] - x) <= Math.abs(xs[high] - x) ? low : high;
  }

  document.querySelectorAll(".plot").forEach(function (plot) {
    const data = JSON.parse(plot.querySelector("script").textContent);
    const lines = data.lines.filter(function (line) { return line.x.length > 0; });
    if (lines.length === 0) return;
    const rule = plot.appendChild(document.createElement("div"));
    const tip = plot.appendChild(document.createElement("div"));
    rule.className = "rule";
    tip.className = "tip";
    rule.hidden = tip.hidden = true;

    function show(event) {
      const box = plot.getBoundingClientRect();
      const at = data.low + (event.clientX - box.left) / box.width * (data.high - data.low);
      const step = lines[0].x[nearest(lines[0].x, at)];
      const left = (step - data.low) / (data.high - data.low) * box.width;
      tip.textContent = "step " + step.toLocaleString("en");
      lines.forEach(function (line) {
        const i = nearest(line.x, step);
        const row = tip.appendChild(document.createElement("div"));
        const key = row.appendChild(document.createElement("i"));
        key.className = line.key;
        const where = line.x[i] === step ? "" : " (step " + line.x[i].toLocaleString("en") + ")";
        row.append(line.name + ": " + line.y[i] + where);
      });
      rule.hidden = tip.hidden = false;
      rule.style.left = left + "px";
      // Beside the rule, on whichever side has room, and never off the page.
      const right = left + 12 + tip.offsetWidth <= box.width;
      tip.style.left = (right ? left + 12 : Math.max(-box.left + 4, left - 12 - tip.offsetWidth)) + "px";
    }

    function hide() { rule.hidden = tip.hidden = true; }
    plot.addEventListener("pointermove", show);
    plot.addEventListener("pointerdown", show);
    plot.addEventListener("pointerleave", hide);
  });

  // Paper cannot unfold anything.
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (part) { part.open = true; });
  });
})();
