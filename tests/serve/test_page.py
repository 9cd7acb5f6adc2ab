"""The page in a real browser: talking, stopping, asking again, on a desk and on a phone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fromscratch.serve.app import Access
from tests.browser import Opened, started
from tests.serve.live import Live, serving, until
from tests.serve.parrot import GREETING, LINES, STORY, endless

pytestmark = pytest.mark.slow
DESK = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
GREEDY = {"fromscratch.settings": json.dumps({"temperature": 0, "max_tokens": 100})}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as found:
        yield found


@contextmanager
def opened(browser: Any, live: Live, *, kept: dict[str, str] | None = None, **options: Any) -> Any:
    """The page, with what the browser keeps; without complaints and requests to others."""
    address = f"http://127.0.0.1:{live.port}/"
    state = {
        "cookies": [],
        "origins": [
            {
                "origin": address.rstrip("/"),
                "localStorage": [{"name": k, "value": v} for k, v in (kept or GREEDY).items()],
            }
        ],
    }
    view = Opened(browser, address, storage_state=state, **{"reduced_motion": "reduce"} | options)
    view.page.set_default_timeout(15_000)
    yield view
    assert view.trouble == []
    view.context.close()


def done(view: Opened, answers: int) -> None:
    """Waits until so many answers are complete."""
    view.page.wait_for_function(
        "n => document.querySelectorAll('.turn.assistant:not(.writing)').length === n", arg=answers
    )
    view.page.wait_for_selector("#send:visible")


def answer(view: Opened, number: int) -> str:
    return view.page.locator(".turn.assistant .text").nth(number).inner_text()


def test_a_conversation(browser: Any, live: Live) -> None:
    with opened(browser, live, **DESK) as view:
        page = view.page
        assert "Talk to parrot" in page.locator("#welcome").inner_text()
        page.fill("#chat-text", "Hello")
        page.press("#chat-text", "Enter")
        done(view, 1)
        assert answer(view, 0) == GREETING
        assert page.input_value("#chat-text") == ""
        assert "tokens/s" in page.locator("#chat-facts").inner_text()
        assert page.locator("#announce").text_content() == GREETING, "a screen reader hears it once"
        # Shift-Enter is a new line.
        page.fill("#chat-text", "Co")
        page.press("#chat-text", "Shift+Enter")
        assert page.input_value("#chat-text") == "Co\n"
        page.fill("#chat-text", "Count")
        page.click("#send")
        done(view, 2)
        # Again, and then with another question in the middle.
        page.get_by_role("button", name="Regenerate").click()
        done(view, 2)
        assert page.locator(".turn").count() == 4
        page.get_by_role("button", name="Edit").first.click()
        page.get_by_label("Edit your message").fill("Count")
        page.keyboard.press("Enter")
        done(view, 1)
        assert answer(view, 0) == LINES["Count"]
        # What is kept is there again, probabilities too; then it goes, and comes back.
        page.reload()
        page.wait_for_selector("html[data-ready]")
        assert answer(view, 0) == LINES["Count"]
        assert page.locator(".turn.assistant .token").count() == len(LINES["Count"])
        page.get_by_role("button", name="Delete “Count”").click(force=True)
        assert page.locator(".turn").count() == 0
        page.get_by_role("button", name="Undo").click()
        assert answer(view, 0) == LINES["Count"]
        page.click("#new-chat")
        assert page.locator(".turn").count() == 0
        assert page.locator("#chat-list li").count() == 1


def test_what_else_could_have_stood_there(browser: Any, live: Live) -> None:
    with opened(browser, live, **DESK) as view:
        page = view.page
        page.fill("#chat-text", "Hello")
        page.press("#chat-text", "Enter")
        done(view, 1)
        page.locator(".turn.assistant .token").first.hover()
        tip = page.locator("#tip").inner_text()
        assert re.match(r"G \d+%", tip)
        assert page.locator("#tip li").count() == 5
        box = page.locator("#tip").bounding_box()
        assert box["x"] >= 0
        assert box["y"] >= 0
        # By the keyboard: the answer has the focus, arrows go from token to token.
        page.locator(".turn.assistant .tokens").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        assert page.locator("#tip b").inner_text() == "r"
        assert page.locator("#announce").text_content().startswith("r, ")
        page.keyboard.press("Escape")
        assert page.locator("#tip").is_hidden()
        plain = page.locator(".turn.assistant .token").first
        ground = "e => getComputedStyle(e).backgroundColor"
        assert plain.evaluate(ground) == "rgba(0, 0, 0, 0)"
        page.get_by_label("Colour tokens").check()
        assert plain.evaluate(ground) != "rgba(0, 0, 0, 0)"


def test_stopping(browser: Any) -> None:
    # The likeliest token, again and again: it goes round in circles, and never ends by itself. The
    # room is for minutes of that: a browser on a busy machine may take seconds until it stops it,
    # and once the text has ended there is nothing to stop, and no button for it.
    kept = {"fromscratch.settings": json.dumps({"max_tokens": 60_000, "temperature": 0})}
    with serving(endless(context=65_536)) as live, opened(browser, live, kept=kept, **DESK) as view:
        page = view.page
        # A base model: the page opens where it can be used, and the other tab says why not.
        assert page.get_by_role("tab", name="Completion").get_attribute("aria-selected") == "true"
        page.click("#tab-chat")
        assert "is a base model" in page.locator("#welcome").inner_text()
        assert page.locator("#composer").is_hidden()
        page.get_by_role("button", name="Open Completion").click()
        page.fill("#completion-text", "x")
        for attempt in ("button", "key"):
            page.press("#completion-text", "Control+Enter")
            until(lambda: live.scheduler.n_running == 1)
            # The first token may be a blank, which is there and not visible.
            page.wait_for_selector("#completion-tokens .token", state="attached")
            if attempt == "key":
                page.keyboard.press("Escape")
            else:
                page.click("#stop-completion")
            until(lambda: live.scheduler.n_running == 0)
            page.wait_for_selector("#write:visible")
            assert "Stopped." in page.locator("#completion-facts").inner_text()
        assert page.locator("#completion-tokens").inner_text()


def test_a_completion(browser: Any, live: Live) -> None:
    with opened(browser, live, **PHONE) as view:
        page = view.page
        page.get_by_role("tab", name="Completion").tap()
        page.fill("#completion-text", "Once upon a time")
        page.get_by_role("button", name="Continue the text").tap()
        page.wait_for_selector("#write:visible")
        page.wait_for_function("() => !document.querySelector('.written.writing')")
        assert page.locator("#written .text").inner_text() == STORY
        assert "The model ended the text." in page.locator("#completion-facts").inner_text()
        page.get_by_role("button", name="Go on from here").tap()
        assert page.input_value("#completion-text") == STORY
        assert page.locator("#written").is_hidden()


HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


def test_words_are_never_markup(browser: Any, live: Live) -> None:
    """Neither a person's, nor a model's (here: of an answer that this browser kept)."""
    chat = {
        "id": "a", "system": "", "changed": 1,
        "messages": [
            {"role": "user", "content": HOSTILE},
            {"role": "assistant", "content": HOSTILE, "note": HOSTILE,
             "tokens": [[HOSTILE, 0.5, [[HOSTILE, 0.5], ["<b>", 0.2]]]]},
        ],
    }  # fmt: skip
    kept = GREEDY | {"fromscratch.chat.a": json.dumps(chat), "fromscratch.completion": HOSTILE}
    with opened(browser, live, kept=kept, **DESK) as view:
        page = view.page
        assert answer(view, 0) == HOSTILE
        page.locator(".turn.assistant .token").first.hover()
        page.click("#tab-completion")
        page.click("#write")
        page.wait_for_selector("#write:visible")
        assert page.title() == "parrot · fromscratch"
        assert page.locator("main img, main script, #tip img, nav img").count() == 0
    scripts = Path(__file__).parents[2] / "src/fromscratch/serve/page"
    for script in scripts.glob("*.js"):
        text = script.read_text(encoding="utf-8")
        for danger in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert danger not in text, script.name


def test_on_a_phone(browser: Any, live: Live) -> None:
    with opened(browser, live, color_scheme="dark", **PHONE) as view:
        page = view.page
        assert page.locator("#settings").is_hidden()
        page.get_by_role("button", name="Settings", exact=True).tap()
        page.locator("#set-temperature").fill("1.5")
        assert page.input_value("#number-temperature") == "1.5"
        page.fill("#number-top_p", "0.5")
        assert page.input_value("#set-top_p") == "0.5"
        page.keyboard.press("Escape")
        assert page.locator("#settings").is_hidden()
        saved = json.loads(view.do("() => localStorage['fromscratch.settings']"))
        assert (saved["temperature"], saved["top_p"]) == (1.5, 0.5)
        page.get_by_role("button", name="Settings", exact=True).tap()
        page.get_by_role("button", name="Close the settings").tap()
        assert page.locator("#settings").is_hidden()
        page.get_by_role("button", name="Chats", exact=True).tap()
        page.get_by_role("button", name="New chat").tap()
        assert page.locator("#chats").is_hidden()
        page.fill("#chat-text", "Hello")
        page.get_by_role("button", name="Send").tap()
        done(view, 1)
        assert view.do("() => document.documentElement.scrollWidth <= innerWidth")
        ground = "() => getComputedStyle(document.body).backgroundColor"
        assert view.do(ground) == "rgb(20, 23, 27)"
        page.get_by_role("button", name="Dark theme").tap()
        assert view.do(ground) == "rgb(251, 251, 249)"
        page.reload()
        page.wait_for_selector("html[data-ready]")
        assert view.do(ground) == "rgb(251, 251, 249)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_and_every_control_has_a_name(
    browser: Any, live: Live, scheme: str
) -> None:
    with opened(browser, live, color_scheme=scheme, **DESK) as view:
        page = view.page
        page.get_by_label("Colour tokens").check()
        page.fill("#chat-text", "Hello")
        page.press("#chat-text", "Enter")
        done(view, 1)
        assert view.do(UNNAMED) == []
        assert view.do(FAINT) == []
        page.locator(".top h1").evaluate("e => e.style.color = '#777'")
        assert [found[1] for found in view.do(FAINT)] == ["parrot"], "it would be noticed"
        page.locator(".top h1").evaluate("e => e.style.color = ''")
        page.click("#tab-completion")
        page.click("#write")
        page.wait_for_function("() => !document.querySelector('.written.writing')")
        assert view.do(FAINT) == []
        # The focus can be seen wherever it is.
        page.click("#tab-chat")
        for _ in range(12):
            page.keyboard.press("Tab")
            outline = view.do("() => getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid"


# Controls without a name that a screen reader could say.
UNNAMED = """() => [...document.querySelectorAll('button, input, textarea')].filter(e =>
  !(e.getAttribute('aria-label') || e.textContent.trim() || (e.labels && e.labels.length))
).map(e => e.id || e.outerHTML)"""

# Texts with less than 4.5:1 on their ground (WCAG 2.2, 1.4.3).
FAINT = """() => {
  const channel = c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.closest('.unseen, .skip, :disabled')) continue;
    let at = e, ground = [0, 0, 0, 0];
    while (at && (ground.length > 3 && ground[3] === 0)) {
      ground = parse(getComputedStyle(at).backgroundColor);
      at = at.parentElement;
    }
    const a = light(parse(getComputedStyle(e).color)), b = light(ground);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push([e.className, e.textContent.slice(0, 20), ratio]);
  }
  return found;
}"""


def test_the_token_is_asked_for(browser: Any, parrot_folder: Path) -> None:
    token = "correct-horse-battery"
    with serving(parrot_folder, access=Access(token=token)) as live:
        context = browser.new_context(**DESK)
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{live.port}/")
        page.get_by_label("Token", exact=True).fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_text("That is not the token.").wait_for()
        page.get_by_label("Token", exact=True).fill(token)
        page.keyboard.press("Enter")
        page.wait_for_selector("html[data-ready]")
        assert page.locator("#model").inner_text() == "parrot"
        assert token not in page.evaluate("() => JSON.stringify(localStorage)")
        context.close()


def test_a_server_that_goes_away_is_told(browser: Any, parrot_folder: Path) -> None:
    with serving(parrot_folder) as live:
        context = browser.new_context(**DESK)
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{live.port}/")
        page.wait_for_selector("html[data-ready]")
    page.fill("#chat-text", "Hello")
    page.press("#chat-text", "Enter")
    page.locator(".turn.assistant .note").wait_for()
    assert page.locator("#send").is_visible()
    context.close()
