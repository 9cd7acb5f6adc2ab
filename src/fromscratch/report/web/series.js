"use strict";
// Numbers between the page's data and a picture: decoding, running means, ranges, wording. Nothing
// here touches the document. The means and ranges are those of series.py, so that what the script
// draws at first is what the page shows without it.
var Report = {};
(function () {
  // An array as embed.py wrote it.
  function decode(item) {
    if ("v" in item) return Float64Array.from(item.v, function (v) { return v === null ? NaN : v; });
    if ("n" in item) {
      const even = new Float64Array(item.n);
      for (let i = 0; i < item.n; i++) even[i] = item.a + item.d * i;
      return even;
    }
    const text = atob("f" in item ? item.f : item.F);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return "f" in item ? new Float32Array(bytes.buffer) : new Float64Array(bytes.buffer);
  }

  // The quantile of sorted values, between the nearest two (numpy's default).
  function quantile(sorted, q) {
    const at = q * (sorted.length - 1), low = Math.floor(at), high = Math.ceil(at);
    return sorted[low] + (sorted[high] - sorted[low]) * (at - low);
  }

  // The range outside of which a value is a rare outlier; of finite values, at least one.
  function usual(values, reach) {
    const sorted = Float64Array.from(values).sort();
    const low = sorted[0], high = sorted[sorted.length - 1];
    const nearLow = quantile(sorted, 0.005), nearHigh = quantile(sorted, 0.995);
    const span = nearHigh - nearLow;
    if (sorted.length < 50 || span === 0) return [low, high];
    return [Math.max(low, nearLow - reach * span), Math.min(high, nearHigh + reach * span)];
  }

  function windowOf(n, share) {
    return n < 40 || share === 0 ? 1 : Math.max(3, Math.floor(n * share)) | 1;
  }

  function centredMean(y, window) {
    const n = y.length, half = Math.min(window >> 1, (n - 1) >> 1);
    const out = Float64Array.from(y);
    if (half < 1) return out;
    const sums = new Float64Array(n + 1);
    for (let i = 0; i < n; i++) sums[i + 1] = sums[i] + y[i];
    for (let i = 0; i < half; i++) out[i] = sums[2 * i + 1] / (2 * i + 1);
    for (let i = half; i < n - half; i++) out[i] = (sums[i + half + 1] - sums[i - half]) / (2 * half + 1);
    // The straight line through the last window: it neither lags nor jumps.
    let slope = 0, square = 0;
    for (let k = -half; k <= half; k++) { slope += k * y[n - 1 - half + k]; square += k * k; }
    slope /= square;
    const mean = (sums[n] - sums[n - 2 * half - 1]) / (2 * half + 1);
    for (let k = 1; k <= half; k++) out[n - 1 - half + k] = mean + slope * k;
    return out;
  }

  // The exponential moving average that reaches back about as far, without the pull of its start.
  function movingAverage(y, window) {
    const keep = 1 - 2 / (window + 1), out = new Float64Array(y.length);
    let sum = 0, weight = 0;
    for (let i = 0; i < y.length; i++) {
      sum = keep * sum + (1 - keep) * y[i];
      weight = keep * weight + (1 - keep);
      out[i] = sum / weight;
    }
    return out;
  }

  // The running mean of a curve, undefined where a value is missing or far out; null if there is none.
  function smoothed(y, share, kind) {
    const finite = y.filter(Number.isFinite);
    if (finite.length === 0) return null;
    const range = usual(finite, 4);
    const rows = [];
    for (let i = 0; i < y.length; i++) if (y[i] >= range[0] && y[i] <= range[1]) rows.push(i);
    const window = windowOf(rows.length, share);
    if (window === 1) return null;
    const kept = Float64Array.from(rows, function (i) { return y[i]; });
    const mean = kind === "ema" ? movingAverage(kept, window) : centredMean(kept, window);
    const out = new Array(y.length);
    rows.forEach(function (i, k) { out[i] = mean[k]; });
    return { y: out, window: window };
  }

  function nearest(xs, x) {
    let low = 0, high = xs.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (xs[middle] < x) low = middle; else high = middle;
    }
    return Math.abs(xs[low] - x) <= Math.abs(xs[high] - x) ? low : high;
  }

  // y at x by straight lines between the points; the ends go on level.
  function between(xs, ys, x) {
    if (xs.length === 0) return x;
    if (xs.length === 1 || x <= xs[0]) return ys[0];
    if (x >= xs[xs.length - 1]) return ys[ys.length - 1];
    let low = 0, high = xs.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (xs[middle] <= x) low = middle; else high = middle;
    }
    return ys[low] + (ys[high] - ys[low]) * (x - xs[low]) / (xs[high] - xs[low] || 1);
  }

  // Curves over one x: missing places are undefined, which joins the points on both sides of them.
  function aligned(curves) {
    const distinct = [...new Set(curves.map(function (c) { return c.x; }))];
    if (distinct.length === 1) return [distinct[0], ...curves.map(function (c) { return c.y; })];
    let total = 0;
    distinct.forEach(function (x) { total += x.length; });
    const all = new Float64Array(total);
    let end = 0;
    distinct.forEach(function (x) { all.set(x, end); end += x.length; });
    all.sort();
    const merged = all.filter(function (v, i) { return i === 0 || v !== all[i - 1]; });
    const places = new Map(distinct.map(function (x) {
      const at = new Int32Array(x.length);
      for (let i = 0, j = 0; i < x.length; i++) { while (merged[j] < x[i]) j++; at[i] = j; }
      return [x, at];
    }));
    return [merged, ...curves.map(function (c) {
      const y = new Array(merged.length), at = places.get(c.x);
      for (let i = 0; i < at.length; i++) y[at[i]] = c.y[i];
      return y;
    })];
  }

  // Labels of a logarithmic axis: 1, 2, 5 of each decade, or whole decades where there are many; on
  // less than two such, evenly spaced round numbers.
  function logTicks(low, high) {
    const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high)), ticks = [];
    const stride = Math.max(1, Math.floor((last - first) / 5));
    for (let power = first; power <= last; power += stride) {
      (last - first <= 3 ? [1, 2, 5] : [1]).forEach(function (step) { ticks.push(+(step * Math.pow(10, power)).toPrecision(12)); });
    }
    const inside = ticks.filter(function (v) { return v >= low && v <= high; });
    if (inside.length > 2) return inside;
    const spacing = Math.pow(10, Math.floor(Math.log10((high - low) / 4))), round = [];
    const width = [1, 2, 5, 10].map(function (k) { return k * spacing; }).find(function (w) { return (high - low) / w <= 6; });
    for (let k = Math.ceil(low / width); k * width <= high; k++) round.push(+(k * width).toPrecision(12));
    return round;
  }

  // --- words ---

  function short(value) {
    const size = Math.abs(value);
    for (const [limit, unit, suffix] of [[1e12, 1e12, "T"], [1e9, 1e9, "B"], [1e6, 1e6, "M"], [1e4, 1e3, "k"]]) {
      if (size >= limit) return String(+(value / unit).toPrecision(5)) + suffix;
    }
    if (size > 0 && size < 1e-3) return String(+value.toPrecision(3)).replace(/^(-?)0\.(0+)(\d+)$/, function (_, sign, zeros, digits) {
      return sign + digits[0] + (digits.length > 1 ? "." + digits.slice(1) : "") + "e-" + (zeros.length + 1);
    });
    return String(+value.toPrecision(6));
  }

  // All digits that were kept: seven, and whole numbers whole.
  function exact(value) {
    if (value === null || value === undefined || !Number.isFinite(value)) return "not finite";
    if (Number.isInteger(value)) return value.toLocaleString("en");
    const size = Math.abs(value);
    return size >= 1e-4 && size < 1e7 ? String(+value.toPrecision(7)) : value.toExponential(6);
  }

  function place(axis, value) {
    if (axis === "hours") return value < 1 ? (value * 60).toFixed(2) + " min" : value.toFixed(3) + " h";
    return (axis === "step" ? "step " : "") + Math.round(value).toLocaleString("en") + (axis === "tokens" ? " tokens" : "");
  }

  Object.assign(Report, { decode, usual, centredMean, movingAverage, smoothed, nearest, between, aligned, logTicks, short, exact, place });
})();
