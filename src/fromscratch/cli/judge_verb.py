"""`fromscratch judge`: models answer a test set, and a language model scores the answers."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fromscratch.cli.doctor_against import Part
from fromscratch.cli.items_progress import ItemsProgress, items_progress
from fromscratch.cli.show import err, print_json, print_warning, say, table
from fromscratch.cli.vocabulary import argument, option
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import sha256_of_file
from fromscratch.foundation.names import JUDGE_RESULT, RUN_JUDGE

if TYPE_CHECKING:
    from fromscratch.evaluate.judge_address import JudgeAddress
    from fromscratch.evaluate.judge_answers import Contestant
    from fromscratch.evaluate.judge_asking import Estimate, Price
    from fromscratch.evaluate.judge_endpoint import JudgeEndpoint
    from fromscratch.evaluate.judge_folder import JudgeSettings
    from fromscratch.evaluate.judge_results import JudgeResult, Standing
    from fromscratch.evaluate.judge_statistics import Mean


def run(
    models: list[str] = argument("MODELS"),
    test: Path = option("test", ...),
    judge: str = option("judge", ...),
    model: str = option("model", ...),
    out: Path = option("out", of="the folder of answers and scores", show_default="in the run"),
    split: Part = option(
        "split", Part.all, of="of a file in the order 85% train, 10% test, 5% val"
    ),
    limit: int = option("limit", min=1),
    max_new_tokens: int = option("max-new-tokens", 256, of="in an answer", min=1),
    temperature: float = option("temperature", 0.0),
    top_k: int = option("top-k", 50),
    seed: int = option("seed", 0, of="the answers, and the order in which they are shown"),
    template: str = option(
        "template", of="to ask in", show_default="each model's own; alpaca for a base model"
    ),
    device: str = option("device", "auto"),
    concurrency: int = option("concurrency", 4, min=1, max=256),
    timeout: float = option("timeout", 120.0, min=1),
    retries: int = option("retries", 8, min=0),
    retry_unparsed: bool = option("retry-unparsed", False),
    api_key_file: Path = option("api-key-file"),
    price_in: float = option("price-in", min=0),
    price_out: float = option("price-out", min=0),
    yes: bool = option("yes", False, short="-y"),
    as_json: bool = option("json", False),
) -> None:
    """Lets models answer instructions, and a language model score the answers from 0 to 100.

    All models' answers to an item are judged together, in random order, beside the reference. After
    a stop the same command goes on. OUT/judge.json has every answer, score and reply.

    Example: fromscratch judge runs/chat --test instructions.json --judge http://localhost:11434/v1
    --model llama3.3
    """
    from fromscratch.evaluate.judge_address import JudgeAddress, read_key
    from fromscratch.evaluate.judge_items import load_judge_items

    if (price_in is None) != (price_out is None):
        raise UserError("One price is missing.", fix="Give both --price-in and --price-out.")
    address = JudgeAddress(judge, model)
    key = read_key(api_key_file, os.environ.get("OPENAI_API_KEY"))
    chosen = load_judge_items(test, part=split.value, limit=limit)

    from fromscratch.chat.template import template_named
    from fromscratch.evaluate.judge import Judgement
    from fromscratch.evaluate.judge_answers import open_contestants
    from fromscratch.evaluate.judge_asking import Price
    from fromscratch.evaluate.judge_endpoint import JudgeEndpoint
    from fromscratch.evaluate.judge_folder import AnswerSettings, JudgeSettings, opened
    from fromscratch.foundation.hardware import resolve_device
    from fromscratch.generate.sampling import SamplingOptions

    price = Price(price_in, price_out) if price_in is not None and price_out is not None else None

    # What makes no sense is refused before models load.
    SamplingOptions(temperature, top_k, seed=seed)
    if template is not None:
        template_named(template)
    resolve_device(device)
    contestants, bundle = open_contestants(models)
    settings = JudgeSettings(
        test_sha256=sha256_of_file(test),
        models=tuple(sorted(c.key for c in contestants)),
        answers=AnswerSettings(max_new_tokens, temperature, top_k, seed=seed, template=template),
        address=address,
    )
    root = out or _default_folder(contestants, settings, test)
    names = {c.key: c.name for c in contestants}

    def endpoint(progress: ItemsProgress) -> JudgeEndpoint:
        remark = progress.remark
        return JudgeEndpoint(address, key, timeout=timeout, retries=retries, on_wait=remark)

    with opened(root, settings, names, test.name) as folder:
        judgement = Judgement(folder, settings, contestants, chosen, test, again=retry_unparsed)
        begin = time.monotonic()
        todo = judgement.estimate()
        _agree(todo, price, address, yes=yes)
        with items_progress(f"the same command goes on with what is in {root}") as progress:
            if any(map(judgement.unanswered, contestants)):
                if warning := asyncio.run(_look(endpoint(progress))):
                    print_warning(warning)
                for warning in judgement.answer(bundle, device, progress.show):
                    print_warning(warning)
            if todo.requests:
                asyncio.run(judgement.ask(endpoint(progress), concurrency, progress.show))
        result = judgement.conclude(time.monotonic() - begin)
    if as_json:
        content = {"folder": str(root), "settings": settings.flat(), **result.to_json()}
        print_json(content)
    else:
        _print(result, address, price, root)


async def _look(endpoint: JudgeEndpoint) -> str | None:
    """Whether the judge is there, before models answer for an hour."""
    async with endpoint:
        return await endpoint.look()


def _agree(todo: Estimate, price: Price | None, address: JudgeAddress, *, yes: bool) -> None:
    """Says what will be asked and what that costs, and asks whether to."""
    if not todo.requests:
        return
    dollars = None if price is None else price.of(todo.tokens_in, todo.tokens_out)
    cost = "" if dollars is None else f", about ${_money(dollars)}"
    err.print(
        f"{address.model} at {address.host}: {todo.requests} requests, at most about "
        f"{todo.tokens_in:,} tokens of prompts and {todo.tokens_out:,} of replies{cost}",
        markup=False,
    )
    costs = dollars > 0 if dollars is not None else not address.is_local
    if yes or not costs:
        return
    if sys.stdin.isatty():
        if not typer.confirm("Go on?", err=True):
            raise typer.Exit(1)
    elif dollars:
        raise UserError(
            f"This costs about ${_money(dollars)}, and there is nobody to ask whether to.",
            fix="Say --yes.",
        )


def _money(dollars: float) -> str:
    return f"{dollars:,.2f}" if dollars >= 0.01 else f"{dollars:.2g}"


def _print(result: JudgeResult, address: JudgeAddress, price: Price | None, root: Path) -> None:
    from fromscratch.evaluate.judge_statistics import RESAMPLES

    say(f"{result.items} items, scored by {address.model} at {address.host}")
    say()
    lines = [*result.standings, *([result.reference] if result.reference else [])]
    table(
        ["", "score", "95% interval", "scored", "cut off"],
        [
            [s.name, *_mean(s.mean), f"{s.asked - s.unparsed} of {s.asked}", str(s.cut or "")]
            for s in lines
        ],
    )
    if result.differences:
        say()
        table(
            ["difference, item by item", "", "95% interval", "wins", "ties", "losses"],
            [
                [f"{a} - {b}", *_mean(d.mean, "+"), str(d.wins), str(d.ties), str(d.losses)]
                for (a, b), d in result.differences.items()
            ],
        )
    say()
    say(f"intervals: bootstrap over items, {RESAMPLES:,} resamples")
    for standing in lines:
        _warn_of_unparsed(standing)
    if result.questions_unparsed:
        first = " ".join(result.first_unparsed.split())
        first = first if len(first) <= 120 else f"{first[:120]} ..."
        print_warning(
            f"{result.questions_unparsed} of {result.items} replies lack a score that could be "
            f"read; the first: {first or '(empty)'}"
        )
    spent_in, spent_out = (result.usage[k] for k in ("prompt_tokens", "completion_tokens"))
    if spent_in or spent_out:
        cost = "" if price is None else f": ${_money(price.of(spent_in, spent_out))}"
        say(f"the endpoint counted {spent_in:,} tokens of prompts, {spent_out:,} of replies{cost}")
    say(f"answers, scores and replies: {root / JUDGE_RESULT}")


def _mean(mean: Mean | None, sign: str = "") -> tuple[str, str]:
    if mean is None:
        return "?", ""
    if mean.low is None:
        return f"{mean.value:{sign}.1f}", ""
    return f"{mean.value:{sign}.1f}", f"{mean.low:{sign}.1f} to {mean.high:{sign}.1f}"


def _warn_of_unparsed(standing: Standing) -> None:
    if not standing.unparsed or standing.bounds is None:
        return
    low, high = standing.bounds
    print_warning(
        f"{standing.name}: {standing.unparsed} of {standing.asked} scores could not be read and "
        f"are not in the mean; with each at 0 it would be {low:.1f}, at 100 {high:.1f}"
    )


def _default_folder(contestants: Sequence[Contestant], settings: JudgeSettings, test: Path) -> Path:
    """In the run, if it is one run's model or models; named by all that changes a number."""
    short = settings.sha256[:8]
    runs = {c.run for c in contestants}
    run = runs.pop()
    if runs or run is None:
        return Path(f"judge-{short}")
    relative = os.path.relpath(run)
    shown = run if relative.startswith("..") else Path(relative)
    return shown / RUN_JUDGE / f"{test.stem}-{short}"
