"""Files beside a message: read in the browser, sent in their frames, kept with the conversation."""

from __future__ import annotations

import base64
import re
from typing import Any

from playwright.sync_api import expect

from tests.browser import accessible, samples
from tests.browser.attaching import chip, choose, drafts, drop, paste, questions, ready, with_senses
from tests.browser.attaching import stored as attached
from tests.browser.marks import ON_STUB
from tests.browser.tab import Tab

pytestmark = ON_STUB

DOCUMENTS = {
    "letter.docx": (samples.word("Dear reader", "second page"), ["page 1", "Dear reader", "page 2"]),
    "costs.xlsx": (
        samples.workbook({"Q1": samples.rows(["item", "price"], ["tea", "3"]), "Q2": samples.rows(["x"])}),
        ["sheet Q1", "item\tprice", "tea\t3", "sheet Q2"],
    ),
    "talk.pptx": (samples.slides("Welcome", "Thanks"), ["slide 1", "Welcome", "slide 2", "Thanks"]),
    "note.odt": (samples.open_document("from LibreOffice"), ["from LibreOffice"]),
    "paper.pdf": (samples.pdf("Abstract", "Conclusion"), ["page 1", "Abstract", "page 2", "Conclusion"]),
    "table.csv": (b'name,formula\nx,"=SUM(A1:A9)"', ["name,formula", 'x,"=SUM(A1:A9)"']),
    "script.py": ("print('Grüße')".encode(), ["print('Grüße')"]),
}


def question(sent: list[dict[str, Any]], tab: Tab, count: int = 1) -> Any:
    """Wait for so many questions; return what the last one says."""
    tab.wait(lambda: len(sent) == count)
    return sent[-1]["messages"][-1]["content"]


def frames(text: str) -> dict[str, str]:
    """Return the content of each frame by the name of its file."""
    found = re.findall(
        r'^\[([0-9a-f]{16}) begin of the file "(.*?)".*?\]\n(.*?)\n\[\1 end', text, re.S | re.M
    )
    return {name: content for _mark, name, content in found}


def test_documents_are_read_and_sent_in_their_frames(alice: Tab) -> None:
    sent = questions(alice)
    choose(alice, {name: content for name, (content, _words) in DOCUMENTS.items()})
    ready(alice, len(DOCUMENTS))
    alice.ask("Sum up.")
    text = question(sent, alice)
    assert text.endswith("\n\nSum up.")
    found = frames(text)
    assert list(found) == list(DOCUMENTS)
    for name, (_content, words) in DOCUMENTS.items():
        places = [found[name].find(word) for word in words]
        assert -1 not in places and places == sorted(places), name
    alice.finished_answer()
    assert alice.texts(".message.user .chip") == list(DOCUMENTS)
    assert alice.turns("user") == ["Sum up."]
    expect(alice.page.locator("#tray")).to_have_count(0)
    assert [one for one in alice.complaints() if "Content Security" in one or "TrustedScript" in one] == []


def test_what_was_sent_is_opened_from_the_transcript_and_survives_a_reload(alice: Tab) -> None:
    sent = questions(alice)
    choose(alice, {"paper.pdf": DOCUMENTS["paper.pdf"][0]})
    ready(alice, 1)
    alice.ask("Sum up.")
    first = question(sent, alice)
    alice.finished_answer()
    alice.reload()
    alice.find(".message.user .chip-name").click()
    alice.find("#attachment summary").click()
    expect(alice.find("#attachment .page-text")).to_have_text("Abstract")
    alice.press("Escape")
    alice.gone("#attachment")
    alice.wait_for_models()
    alice.ask_again()
    assert question(sent, alice, 2) == first


def test_files_are_dropped_and_pasted(alice: Tab) -> None:
    drop(alice, {"one.txt": b"dropped", "two.txt": b"dropped too"})
    ready(alice, 2)
    paste(alice, {"three.txt": b"pasted"})
    ready(alice, 3)
    sent = questions(alice)
    alice.ask("Which?")
    assert frames(question(sent, alice)) == {
        "one.txt": "dropped",
        "two.txt": "dropped too",
        "three.txt": "pasted",
    }


def test_a_message_may_be_files_alone(alice: Tab) -> None:
    choose(alice, {"one.txt": b"only this"})
    ready(alice, 1)
    alice.ask("")
    alice.finished_answer()
    assert alice.texts("#conversations .conversation") == ["one.txt"]


def test_what_is_attached_and_not_sent_comes_back_with_its_draft(alice: Tab) -> None:
    alice.type("before I forget")
    choose(alice, {"one.txt": b"kept"})
    ready(alice, 1)
    alice.wait(lambda: attached(alice))
    alice.reload()
    ready(alice, 1)
    expect(alice.find("#input")).to_have_value("before I forget")
    alice.page.get_by_role("button", name="Remove one.txt").click()
    alice.gone("#tray")
    alice.wait(lambda: not attached(alice))
    alice.reload()
    expect(alice.find("#input")).to_have_value("before I forget")
    assert not alice.sees("#tray")


def test_an_edited_message_keeps_its_files_and_the_old_one_too(alice: Tab) -> None:
    choose(alice, {"one.txt": b"first file", "two.txt": b"second file"})
    ready(alice, 2)
    alice.ask("Compare.")
    alice.finished_answer()
    alice.press_last("Edit and send again")
    ready(alice, 2)
    alice.page.get_by_role("button", name="Remove one.txt").click()
    sent = questions(alice)
    alice.ask("Only this.")
    assert list(frames(question(sent, alice))) == ["two.txt"]
    alice.wait(lambda: alice.texts(".message.user .chip") == ["two.txt"] and not alice.is_writing())
    alice.press_last("Earlier version")
    alice.wait(lambda: alice.texts(".message.user .chip") == ["one.txt", "two.txt"])
    assert len(attached(alice)) == 2


def test_attachments_go_with_their_conversation_and_come_back_with_it(alice: Tab) -> None:
    choose(alice, {"one.txt": b"kept"})
    ready(alice, 1)
    alice.ask("Read this.")
    alice.finished_answer()
    conversation = alice.path.removeprefix("/c/")
    alice.wait(lambda: [one["conversation"] for one in attached(alice)] == [conversation])
    alice.page.locator('#conversations button[aria-label^="Delete"]').first.click()
    alice.wait(lambda: attached(alice) == [])
    alice.find("#undo .button").click()
    alice.wait(lambda: len(attached(alice)) == 1)
    alice.find(".message.user .chip-name").click()
    expect(alice.find("#attachment .page-text")).to_have_text("kept")


# --- Whether it fits ---------------------------------------------------------------------------------------


def test_what_does_not_fit_is_said_before_and_cut_by_choice(alice: Tab) -> None:
    alice.wait_for_models()
    choose(alice, {"long.docx": samples.word(*(f"page-{at} " + "word " * 300 for at in range(20)))})
    ready(alice, 1)
    expect(alice.find("#fits")).to_contain_text("reads only 1,536")
    alice.find("#fits button").click()
    expect(chip(alice, "long.docx")).to_contain_text("3 of 20 parts")
    alice.gone("#fits.problem")
    alice.find("#tray .chip-name").click()
    field = alice.find("#attachment-pages")
    expect(field).to_have_value("1-3")
    field.fill("0, x")
    expect(alice.find("#attachment-hint")).to_contain_text("Write numbers from 1 to 20")
    field.fill("2, 19-30")
    expect(alice.find("#attachment-hint")).to_contain_text("3 of 20 parts are sent")
    assert accessible.faults(alice) == []
    alice.press("Escape")
    alice.wait(lambda: drafts(alice)[0]["attachments"][0]["pages"] == [1, 18, 19])
    alice.reload()
    ready(alice, 1)
    sent = questions(alice)
    alice.ask("Sum up.")
    text = question(sent, alice)
    assert re.findall(r"page-\d+", text) == ["page-1", "page-18", "page-19"]
    assert "only parts 2, 19-20 of 20 are here" in text


def test_what_is_more_than_the_site_takes_is_said_and_not_sent(alice: Tab) -> None:
    with_senses(alice, "audio")
    choose(alice, {"long.wav": samples.wav(26_000_000)})
    ready(alice, 1)
    expect(alice.find("#fits")).to_contain_text("more than one request may have here")
    sent = questions(alice)
    alice.ask("Listen.")
    expect(alice.page.locator("#announcer")).to_contain_text("more than one request may have here")
    expect(alice.find("#input")).to_have_value("Listen.")
    alice.page.get_by_role("button", name="Remove long.wav").click()
    alice.find("#input").press("Enter")
    assert question(sent, alice) == "Listen."


# --- Pictures and sounds -----------------------------------------------------------------------------------


def test_pictures_are_for_models_that_see_and_carry_no_remarks(alice: Tab) -> None:
    alice.wait_for_models()
    jpeg = alice.run("return document.createElement('canvas').toDataURL('image/jpeg')").partition(",")[2]
    photo = samples.with_exif(base64.b64decode(jpeg), "where it was taken")
    choose(alice, {"photo.jpg": photo, "drawing.png": samples.png(3_000, 1_000, "who drew it")})
    ready(alice, 2)
    expect(alice.find("#fits")).to_contain_text("does not read images")
    alice.ask("What is it?")
    expect(alice.page.locator("#announcer")).to_contain_text("does not read images")
    assert alice.turns("user") == []
    with_senses(alice, "vision", context_length=32_768)
    ready(alice, 2)
    sent = questions(alice)
    alice.ask("What is it?")
    text, *pictures = question(sent, alice)
    assert text == {"type": "text", "text": "What is it?"}
    heads = [one["image_url"]["url"].partition(",") for one in pictures]
    assert [head for head, _comma, _data in heads] == ["data:image/jpeg;base64", "data:image/png;base64"]
    contents = [base64.b64decode(data) for _head, _comma, data in heads]
    for content in contents:
        assert (
            b"where it was taken" not in content and b"who drew it" not in content and b"Exif" not in content
        )
    assert int.from_bytes(contents[1][16:20]) == 1_536
    alice.finished_answer()
    assert alice.texts(".message.user .chip") == ["photo.jpg", "drawing.png"]


def test_a_picture_is_made_smaller_by_choice(alice: Tab) -> None:
    with_senses(alice, "vision")
    choose(alice, {"drawing.png": samples.png(3_000, 1_000)})
    ready(alice, 1)
    alice.find("#tray .chip-name").click()
    expect(alice.find("#attachment canvas")).to_have_attribute("aria-label", "drawing.png")
    alice.find("#attachment-side").select_option("512")
    expect(alice.page.locator("#attachment-side option").first).to_contain_text(re.compile("512 . 171"))
    alice.press("Escape")
    sent = questions(alice)
    alice.ask("What is it?")
    url = question(sent, alice)[1]["image_url"]["url"]
    assert int.from_bytes(base64.b64decode(url.partition(",")[2])[16:20]) == 512


def test_sounds_are_for_models_that_hear(alice: Tab) -> None:
    alice.wait_for_models()
    choose(alice, {"word.wav": samples.wav()})
    ready(alice, 1)
    expect(alice.find("#fits")).to_contain_text("does not read sound")
    with_senses(alice, "audio")
    ready(alice, 1)
    sent = questions(alice)
    alice.ask("What is said?")
    sound = question(sent, alice)[1]
    data = base64.b64encode(samples.wav()).decode()
    assert sound == {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


def test_a_conversation_with_a_picture_goes_on_with_a_model_that_does_not_see(alice: Tab) -> None:
    with_senses(alice, "vision")
    choose(alice, {"drawing.png": samples.png(30, 30)})
    ready(alice, 1)
    alice.ask("What is it?")
    alice.finished_answer()
    alice.page.unroute_all()
    alice.reload()
    alice.wait_for_models()
    sent = questions(alice)
    alice.ask("And now?")
    question(sent, alice)
    first = sent[0]["messages"][0]["content"]
    assert first == '[The file "drawing.png" is not here: this model reads no pictures.]\n\nWhat is it?'
