"""How an answer is shown: formulas, code, tables, footnotes, diagrams, and what the model thought."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import expect

from tests.browser import stored
from tests.browser.marks import ON_STUB
from tests.browser.tab import Tab

pytestmark = ON_STUB

FORMULAS = r"""It is $e^{i\pi} + 1 = 0$ and \(a < b\), for $5 and $10, not `$c$`.

$$
\sum_{n=1}^{\infty} \frac{1}{n^2} = \frac{\pi^2}{6}
$$

\[ \begin{pmatrix} a & b \\ c & d \end{pmatrix} \]

This one is broken: $\frac{a$, and $\unknown{b}$, and this is not: $d$.
"""
FOOTNOTES = "One[^a], two[^b], one[^a].\n\n[^b]: The *second*, see https://example.org/b.\n[^a]: The first.\n"
DIAGRAM = "Look:\n\n```mermaid\ngraph TD\n  A[Start] --> B{Is it?}\n  B -->|yes| C[End]\n```\n"
TABLE = (
    "| " + " | ".join(f"column {n}" for n in range(30)) + " |\n|" + " --: |" * 30 + "\n" + "| 1 " * 30 + "|\n"
)


def shown(tab: Tab, *contents: str) -> None:
    """Open a conversation of a question and these answers."""
    turns = [turn for content in contents for turn in ("q", content)]
    tab.wait_for_models()
    tab.open(stored.put(tab, *turns))
    tab.find(".message.assistant .body")


def drawn(tab: Tab, count: int) -> None:
    """Wait until so many formulas are drawn."""
    expect(tab.page.locator(".formula .katex")).to_have_count(count)


def loaded(tab: Tab) -> list[str]:
    """Return the names of what the page has loaded."""
    names: list[str] = tab.run(
        "return performance.getEntriesByType('resource').map((one) => one.name.replace(/.*[/]/, ''));"
    )
    return names


def test_formulas_are_drawn_and_what_is_none_stays_text(alice: Tab) -> None:
    shown(alice, FORMULAS)
    drawn(alice, 5)
    body = alice.find(".message.assistant .body").inner_text()
    assert "for $5 and $10, not $c$." in body
    faults = alice.texts(".formula:has(.fault)")
    assert faults == [
        r"$\frac{a$ (this formula cannot be read)",
        r"$\unknown{b}$ (this formula cannot be read)",
    ]
    # Of a screen reader: MathML with the source; the picture of it is not read out.
    assert alice.count(".formula math annotation") == 5
    assert alice.count(".formula .katex-html[aria-hidden=true]") == 5
    assert alice.complaints() == []


def test_formulas_look_right_under_the_pages_header(alice: Tab) -> None:
    """The header forbids style attributes; what KaTeX places and measures is none of them."""
    shown(alice, r"$$\frac{a}{b}$$ and $\sqrt{x}$ and $x^2$")
    drawn(alice, 3)
    alice.wait(lambda: alice.run("return document.fonts.check('16px KaTeX_Main');"))
    top: dict[str, Any] = alice.run(
        """
        const of = (text) => [...document.querySelectorAll(".katex-html .mord.mathnormal")]
          .find((one) => one.textContent === text).getBoundingClientRect();
        const root = document.querySelector(".katex-html .sqrt svg").getBoundingClientRect();
        return { above: of("a").bottom, below: of("b").top, root: root.height, x: of("x").height,
                 font: getComputedStyle(document.querySelector(".katex")).fontFamily };
        """
    )
    assert top["above"] <= top["below"] + 2
    assert top["root"] > top["x"] / 2
    assert "KaTeX_Main" in top["font"]
    assert alice.complaints() == []


def test_formulas_load_nothing_before_there_is_one(alice: Tab) -> None:
    shown(alice, "No formula: $5 and $10.")
    lazy = ("typesetting", "formulas", "font", "mermaid", "diagram", "colouring")
    assert [name for name in loaded(alice) if name.startswith(lazy)] == []
    shown(alice, "$x$")
    drawn(alice, 1)
    # A font is asked for when something is drawn with it.
    alice.wait(
        lambda: {"typesetting", "formulas", "font"} <= {name.partition("-")[0] for name in loaded(alice)}
    )


def test_whoever_copies_a_formula_gets_its_source(alice: Tab) -> None:
    shown(alice, "Before $x^2$ after.\n\nNext $$y$$ line.")
    drawn(alice, 2)
    copied = alice.run(
        """
        const selection = getSelection();
        selection.selectAllChildren(document.querySelector(".message.assistant .body"));
        const data = new DataTransfer();
        document.querySelector(".body p").dispatchEvent(
          new ClipboardEvent("copy", { clipboardData: data, bubbles: true, cancelable: true }));
        return data.getData("text/plain");
        """
    )
    assert copied.split() == ["Before", "$x^2$", "after.", "Next", "$$y$$", "line."]


def test_a_formula_cannot_leave_its_place(alice: Tab) -> None:
    shown(alice, r"$\hspace{-9999em}\rule{999em}{999em}x$ and $$\raisebox{-500em}{y}\kern{-300em}z$$ end")
    drawn(alice, 2)
    sizes = alice.run(
        """
        const log = document.querySelector("#log").getBoundingClientRect();
        return [...document.querySelectorAll(".formula .typeset")].map((one) => {
          const box = one.getBoundingClientRect();
          return [box.left >= log.left - 1, box.right <= log.right + 1, box.height <= innerHeight,
                  ["clip", "auto"].includes(getComputedStyle(one).overflowX)];
        });
        """
    )
    assert sizes == [[True] * 4] * 2


def test_footnotes_are_numbered_as_they_are_mentioned_and_reached_by_keyboard(alice: Tab) -> None:
    shown(alice, FOOTNOTES, FOOTNOTES)
    assert alice.texts(".message .mention") == ["1", "2", "1"] * 2
    assert [text.split() for text in alice.texts(".footnotes li")] == [
        ["The", "first.", "↩"],
        ["The", "second,", "see", "https://example.org/b.", "↩"],
    ] * 2
    ids = alice.run("return [...document.querySelectorAll('[id]')].map((one) => one.id);")
    assert len(ids) == len(set(ids))
    address = alice.page.url
    # The second answer's third mention leads to its own first footnote, and back.
    alice.page.locator(".message .mention").nth(5).press("Enter")
    focused = "return document.activeElement === document.querySelectorAll({})[{}];"
    assert alice.run(focused.format("'.footnotes li'", 2))
    alice.page.locator(".footnotes .back").nth(2).press("Enter")
    assert alice.run(focused.format("'.mention'", 5))
    assert alice.page.url == address


def test_a_diagram_is_a_picture_drawn_in_a_frame_without_rights(alice: Tab) -> None:
    shown(alice, DIAGRAM)
    picture = alice.find(".diagram img")
    assert str(picture.get_attribute("src")).startswith("blob:")
    assert alice.run(
        "const one = document.querySelector('.diagram img'); return one.complete && one.naturalWidth > 50;"
    )
    assert alice.attributes("iframe", "sandbox") == ["allow-scripts"]
    # Its source is a press away, with a button that copies it.
    alice.find(".diagram summary").click()
    assert "A[Start] --> B{Is it?}" in alice.find(".diagram pre").inner_text()
    assert alice.find('.diagram [aria-label="Copy code"]')
    assert alice.complaints() == []


def test_a_diagram_with_a_fault_says_so_and_shows_its_source(alice: Tab) -> None:
    shown(
        alice,
        "```mermaid\ngraph TD\n  A[[[ -->\n```\n\n```mermaid\n" + "A-->B\n" * 2_000 + "```\n\n" + DIAGRAM,
    )
    alice.find(".diagram img")
    # What is out of view is not laid out, and has no text that could be seen.
    assert alice.page.locator(".diagram .fault").all_text_contents() == [
        "This diagram cannot be drawn: its source has a fault, or its kind is not known.",
        "This diagram is not drawn: its source is too long.",
    ]
    assert "A[[[ -->" in (alice.find(".diagram pre").text_content() or "")


def test_what_the_model_thought_is_in_a_fold_that_says_how_long_it_took(alice: Tab) -> None:
    alice.ask("think")
    expect(alice.find(".reasoning[open] summary")).to_have_text("Thinking…")
    assert "You said 'think'" in alice.finished_answer()
    fold = alice.find(".reasoning")
    assert fold.get_attribute("open") is None
    took = alice.find(".reasoning summary").inner_text()
    assert took.startswith("Thought for ")
    alice.reload()
    assert alice.find(".reasoning summary").inner_text() == took
    alice.find(".reasoning summary").press("Enter")
    assert alice.find(".thoughts").inner_text() == "First, I look at this."
    # The model is told its answer, and not what it thought: this is the third message.
    alice.ask("again")
    assert alice.finished_answer() == "You said 'again' in message 3."
    answers = [one for one in stored.messages(alice) if one["role"] == "assistant"]
    told = [
        one.get("reasoning", {}).get("text", "") for one in sorted(answers, key=lambda one: one["created"])
    ]
    assert told == ["First, I look at **this**.", ""]


def test_what_is_thought_within_the_text_is_kept_apart_also_when_it_never_ends(alice: Tab) -> None:
    alice.ask("say <think>one\ntwo</think>\nThe answer.")
    assert alice.finished_answer() == "The answer."
    alice.find(".reasoning summary").click()
    assert alice.find(".thoughts").inner_text() == "one\ntwo"
    alice.ask("say <think>never ending")
    alice.wait(lambda: alice.count(".reasoning") == 2 and not alice.is_writing())
    alice.page.locator(".reasoning summary").nth(1).click()
    assert alice.texts(".thoughts")[1] == "never ending"
    assert alice.texts(".message.assistant .body")[1] == ""


def test_a_streamed_formula_and_table_stay_in_place_while_the_rest_comes(alice: Tab) -> None:
    alice.wait_for_models()
    alice.run(
        """
        window.gone = 0;
        const kinds = "table, .katex, .formula";
        new MutationObserver((changes) => {
          for (const change of changes)
            for (const one of change.removedNodes)
              if (one.matches?.(kinds) || one.querySelector?.(kinds)) window.gone += 1;
        }).observe(document.querySelector("#app"), { childList: true, subtree: true });
        """
    )
    alice.ask(
        "say Here $x^2$ and:\n\n| a | b |\n| - | - |\n| 1 | 2 |\n\nthen $y$ " + "word " * 40 + "$z$ end."
    )
    assert alice.finished_answer().endswith("end.")
    drawn(alice, 3)
    assert alice.run("return window.gone;") == 0


def test_a_wide_table_scrolls_in_itself(alice: Tab) -> None:
    shown(alice, TABLE)
    assert alice.find(".message table")
    assert alice.run(
        """
        const box = document.querySelector(".message .scroll");
        return box.scrollWidth > box.clientWidth
          && document.scrollingElement.scrollWidth <= innerWidth && box.tabIndex === 0
          && getComputedStyle(document.querySelector(".message td")).textAlign === "end";
        """
    )


def test_whoever_scrolls_up_by_a_line_is_left_alone_and_follows_again_at_the_end(alice: Tab) -> None:
    # What does not fit, how high all is, and how far the end lies below what one sees.
    look = """
      const box = document.querySelector("#scroller");
      const over = box.scrollHeight - box.clientHeight;
      return { over, height: box.scrollHeight, left: over - box.scrollTop };
    """
    alice.page.set_viewport_size({"width": 480, "height": 360})
    alice.ask("slow")
    alice.wait(lambda: alice.run(look)["over"] > 40)
    alice.run("document.querySelector('#scroller').scrollTop -= 5;")
    height = alice.run(look)["height"]
    alice.wait(lambda: alice.run(look)["height"] > height)
    assert alice.run(look)["left"] > 5, "the page went down with what came"
    alice.run("const box = document.querySelector('#scroller'); box.scrollTop = box.scrollHeight;")
    height = alice.run(look)["height"]
    alice.wait(lambda: alice.run(look)["height"] > height)
    alice.wait(lambda: alice.run(look)["left"] < 1)
    alice.stop()
