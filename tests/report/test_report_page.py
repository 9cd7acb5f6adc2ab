"""The page as a browser gets it: well formed, self-contained, safe, small, quick."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pytest
from PIL import Image

from fromscratch.evaluate.records import EvalRecord, EvaluatedData, EvaluatedModel, Metric
from fromscratch.foundation.accelerators import accelerator_named
from fromscratch.report.build import Rates, build_report, write_report

RunMaker = Callable[..., Path]
VOID = {"meta", "link", "br", "hr", "input", "img"}
# Attributes that make a browser ask for something.
LOADING = {"src", "href", "srcset", "action", "poster", "data", "xlink:href", "formaction"}


class Page(HTMLParser):
    """Reads HTML strictly: every element closed in order, no id or attribute twice."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.text: dict[str, list[str]] = {}
        self.feed(html)
        self.close()
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"an attribute twice on {tag}"
        self.tags.append((tag, dict(attrs)))
        if "id" in dict(attrs):
            self.ids.append(str(dict(attrs)["id"]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.setdefault(self.open[-1] if self.open else "", []).append(data)

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self) -> str:
        return " ".join(t for name in self.text for t in self.text[name] if name != "script")


def opened(run: Path) -> Page:
    """The report of a run, checked for what holds of every report."""
    html = build_report(run)
    page = Page(html)
    for tag, attributes in page.tags:
        for name in LOADING & attributes.keys():
            value = str(attributes[name])
            inside = value == "data:," or value.startswith(("#", "data:image/png;base64,"))
            assert inside, f"<{tag} {name}={value}>"
        assert not any(name.startswith("on") for name in attributes), "a script in an attribute"
    own = re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)
    assert "url(" not in own
    assert "@import" not in own
    assert re.search(r"NaN|nan%|inf%|Infinity", own) is None
    return page


def test_a_whole_run_has_every_part_in_order(make_run: RunMaker) -> None:
    page = opened(make_run(300, every=25))
    titles = [t for t in page.text["h2"] if t.strip()]
    assert titles == [
        "Against yardsticks",
        "Curves",
        "What it wrote",
        "Events",
        "Recipe",
        "Environment",
        "What could not be read",
    ]
    assert {"loss", "perplexity", "bpb", "lr", "grad_norm", "clip", "speed", "mfu"} <= set(page.ids)
    for figure in ("2,624,448", "460,800", "2 min 00 s", "finished", "gzip -9", "1.944"):
        assert figure in page.words
    assert "every line of every file was read" in page.words
    assert "skipped step" in page.words
    assert page.words.count("does not match its sha256") == 1


def test_it_says_that_the_peak_was_measured(make_run: RunMaker) -> None:
    said = opened(make_run()).words
    assert re.search(r"31% of the device's peak FLOP/s \(a timed matrix product\)\.", said)


def test_the_same_files_give_the_same_page(make_run: RunMaker) -> None:
    run = make_run()
    assert build_report(run) == build_report(run)


def test_the_chart_library_is_the_published_one() -> None:
    folder = resources.files("fromscratch.report") / "vendor" / "uplot"
    said = re.findall(r"`([\w.]+)` \| `([0-9a-f]{64})`", (folder / "README.md").read_text())
    assert [name for name, _ in said] == ["uPlot.iife.min.js", "uPlot.min.css", "LICENSE"]
    for name, digest in said:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    assert "MIT License" in (folder / "LICENSE").read_text()


def test_the_policy_allows_the_pages_own_script_and_nothing_else(make_run: RunMaker) -> None:
    html = build_report(make_run())
    script = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    assert len(script) == 4
    (policy,) = (
        str(m["content"])
        for m in Page(html).every("meta")
        if "Content-Security-Policy" in m.values()
    )
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in script]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    assert f"script-src {allowed};" in policy


ATTACK = (
    "</script><script>alert(1)</script><img src=http://evil.example/x onerror=alert(1)>\"'&\x00"
)


def test_nothing_from_the_files_becomes_markup(make_run: RunMaker) -> None:
    rows = [{"step": 0, "set": ATTACK, "val_loss": 3.0, "val_bpb": 2.0}]
    rows += [{"step": s, "loss": 3.0, "lr": 0.1, ATTACK: 1, f"{ATTACK}_lr": 2} for s in range(60)]
    events = [
        {
            "event": kind,
            "time": ATTACK,
            "step": 1,
            "message": ATTACK if kind == ATTACK else None,
            "recipe": ATTACK,
            "device": ATTACK,
            "versions": {ATTACK: ATTACK},
            ATTACK: ATTACK,
        }
        for kind in ("started", ATTACK)
    ]
    events.append({"event": "yardsticks", "rows": [{"name": ATTACK, "bpb": 1.99}]})
    run = make_run(
        name="<script>alert(1)<",
        metrics=rows,
        samples=[{"step": 1, "prompt": ATTACK, "text": ATTACK}],
        events=events,
        recipe=f"# {ATTACK}",
        health=[{"step": 1, "parts": {ATTACK: {ATTACK: 1.0, "grad_norm": 2.0}}}],
        evals=[
            EvalRecord(
                "loss",
                EvaluatedModel(ATTACK, ATTACK),
                EvaluatedData(ATTACK, ATTACK),
                {ATTACK: Metric(1.0, reference={ATTACK: 2.0})},
                {ATTACK: ATTACK},
            ).row()
        ],
    )
    health = [{"step": 1, "parts": {"head": {"grad_norm": 2.0}}}]
    harmless = opened(make_run(name="harmless", health=health))
    page = opened(run)
    # A line break stands in the table of evaluations.
    assert {name for name, _ in page.tags} - {"br"} <= {name for name, _ in harmless.tags}
    assert all(str(i["src"]).startswith("data:image/png;base64,") for i in page.every("img"))
    executable = [s for s in page.every("script") if s.get("type") != "application/json"]
    assert len(executable) == 4
    assert "alert(1)" in page.words


def test_text_that_utf8_cannot_hold_does_not_stop_the_writing(make_run: RunMaker) -> None:
    sample = '{"step": 0, "prompt": "\\ud800", "text": "a\\u0000b\\ud83d\\ude00\\udc00"}\n'
    run = make_run(samples=sample)
    assert "a\ufffdb\U0001f600\ufffd" in write_report(run).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{"step": 0, "loss": 3.0}],
        [{"step": 1, "loss": 3.0, "lr": 1e-3, "grad_norm": 1.0, "tokens_per_s": 10.0}],
        [{"step": 1, "loss": "nan"}],
        [{"step": s, "loss": 3.0} for s in range(200)],
        [{"step": 0, "set": "validation", "val_loss": 3.0, "val_ppl": 20.1, "val_bpb": 1.0}],
        [{"step": s, "loss": "inf" if s % 3 else 1e300} for s in range(200)],
        [{"step": s, "loss": 10.0 ** (s % 90)} for s in range(200)],
        [{"step": 2**52 + s, "loss": 1e-300 * s} for s in range(200)],
        [{"step": s, "loss": 1.0, "seconds": -s, "tokens": -s} for s in range(200)],
    ],
    ids=lambda rows: f"{len(rows)} rows",
)
def test_strange_runs_give_a_page(make_run: RunMaker, rows: list[dict[str, object]]) -> None:
    run = make_run(metrics=rows, samples=None, events=None, recipe=None)
    assert "What could not be read" in opened(run).words
    assert write_report(run, png=run / "report.png").exists()


def test_an_empty_folder_gives_a_page(tmp_path: Path) -> None:
    page = opened(tmp_path)
    assert "No step of training and no validation was recorded." in page.words
    assert page.words.count("is not there") == 4
    assert "Not recorded: bits per byte, learning rate, gradient norm, speed." in page.words


def test_gaps_are_drawn_as_gaps(make_run: RunMaker) -> None:
    rows = [{"step": s, "loss": "nan" if s in (5, 6, 20) else 3.0 + s} for s in range(30)]
    page = opened(make_run(metrics=rows))
    (stroke,) = (p["d"] for p in page.every("path") if str(p.get("class")).startswith("line"))
    assert str(stroke).count("M") == 3


def test_the_page_of_100_000_steps_is_small(make_run: RunMaker) -> None:
    run = make_run(100_000, every=250, name="long")
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if json.loads(line)["step"] == 40_000)
    lines[at] = json.dumps({**json.loads(lines[at]), "loss": 17.25})
    path.write_text("\n".join(lines) + "\n")
    written = write_report(run)
    assert written.stat().st_size < 5_000_000
    assert "17.25 at step 40,000" in written.read_text(), "the one spike is told of"


def test_the_picture_is_a_png_fit_for_a_readme(make_run: RunMaker) -> None:
    run = make_run(3000, every=200, name="a $x$ run \\frac")
    png = run / "report.png"
    write_report(run, png=png)
    assert png.stat().st_size < 150_000
    image = Image.open(io.BytesIO(png.read_bytes()))
    assert image.format == "PNG"
    assert image.size == (1200, 700)


def test_evaluations_stand_beside_their_references(make_run: RunMaker) -> None:
    def record(value: float, sha: str) -> dict[str, object]:
        return EvalRecord(
            "multiple_choice",
            EvaluatedModel("run", sha, step=300),
            EvaluatedData("hellaswag", "d" * 64),
            {"acc_norm": Metric(value, 0.004, 10_042, {"GPT-2 124M": 0.2955})},
            {"shots": 0},
        ).row()

    run = make_run(evals=[record(0.1, "a"), record(0.31, "a"), record(0.29, "b"), {"kind": 3}])
    page = opened(run)
    assert "0.3100 \u00b1 0.0040" in page.words
    assert "0.1000" not in page.words, "measured again since"
    assert page.words.count("GPT-2 124M: 0.2955") == 2
    assert "is no evaluation" in page.words


def test_cost_and_energy_are_there_where_they_are_known(make_run: RunMaker) -> None:
    events = [{"event": "started", "step": 0, "device": "NVIDIA H100 80GB HBM3", "ranks": 2}]
    rows = [{"step": s, "loss": 3.0, "seconds": 3600.0 * s} for s in range(3)]
    run = make_run(metrics=rows, events=events)
    price = accelerator_named("h100").price
    assert price is not None
    assert f"${4 * price:.2f}" in opened(run).words
    said = build_report(run, rates=Rates(price=2.0, watts=500.0))
    assert "$8.00 at $2 an hour" in said
    assert "2.00 kWh at 500 W" in said
    assert 'id="cost"' not in build_report(make_run(name="on-a-cpu"))


def test_health_is_a_picture_with_its_range_in_words(make_run: RunMaker) -> None:
    rows = [
        {"step": s, "parts": {f"blocks.{i}": {"update_ratio": (i + 1) * 1e-3} for i in range(3)}}
        for s in (50, 100)
    ]
    page = opened(make_run(health=rows))
    (image,) = page.every("img")
    assert "between 0.001000 and 0.003000, highest in blocks.2 at step 50" in str(image["alt"])
    data = base64.b64decode(str(image["src"]).partition(",")[2])
    assert Image.open(io.BytesIO(data)).size == (2, 3)
