// The chat page.
import { render } from "preact";
import { AttachmentDialog } from "./attachments/dialog.tsx";
import * as drop from "./attachments/drop.ts";
import { addressed, openAddressed, warnBeforeEnd } from "./chat/actions.ts";
import { runs, saveAll, stop } from "./chat/answers.ts";
import { AskingHost } from "./chat/asking.tsx";
import { Composer } from "./chat/composer.tsx";
import { composed } from "./chat/composing.ts";
import { Consent } from "./chat/consent.tsx";
import { DataDialog } from "./chat/data.tsx";
import { draft, keepTyped } from "./chat/drafts.ts";
import { keepAboveKeyboard } from "./chat/keyboard.ts";
import { askToKeep, current, start } from "./chat/library.ts";
import { LinkDialogue, readAddress } from "./chat/linked.tsx";
import { Log } from "./chat/log.tsx";
import { MenuHost } from "./chat/menu.tsx";
import { refresh } from "./chat/models.ts";
import { SessionNotice, StorageNotice, TemporaryNotice, UndoBar } from "./chat/notices.tsx";
import { Panel, PanelButton } from "./chat/panel.tsx";
import { fitting } from "./chat/paste.tsx";
import { ModelPicker } from "./chat/picker.tsx";
import { onPrintKey } from "./chat/printing.ts";
import { Reminder } from "./chat/reminder.tsx";
import { said } from "./chat/said.ts";
import { load } from "./chat/shelves.ts";
import { closeDrawer, drawer, MenuButton, Side } from "./chat/side.tsx";
import { followAnswers } from "./chat/titles.ts";
import "./styles/sluice.css";
import "./styles/attachments.css";
import "./styles/chat.css";
import "./styles/answers.css";
import "./styles/conversations.css";

function App() {
  return (
    <>
      <Side />
      <main id="main" tabIndex={-1}>
        <Log />
        <TemporaryNotice />
        <StorageNotice />
        <Reminder />
        <SessionNotice />
        <UndoBar />
        <Composer />
        <AttachmentDialog />
        <MenuHost />
        <Announcer />
      </main>
      <DataDialog />
      <AskingHost />
      <Panel />
      <Consent />
      <LinkDialogue />
    </>
  );
}

function Announcer() {
  return (
    <div id="announcer" class="hidden" aria-live="polite" aria-atomic="true">
      {said.value}
    </div>
  );
}

function place(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  found.replaceChildren();
  return found;
}

// Goes on with what was typed into the field that the server wrote, before this script came.
function drawOverTyped(): void {
  const field = () => document.querySelector<HTMLTextAreaElement>("#input");
  const { value, selectionStart, selectionEnd } = field() ?? {};
  draft.value = fitting(value ?? "", addressed());
  render(<App />, place("app"));
  field()?.setSelectionRange(selectionStart ?? 0, selectionEnd ?? 0);
}

function listen(): void {
  drop.listen();
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.isComposing) return;
    if (runs.value.has(current.value)) stop(current.value);
    else closeDrawer();
  });
  document.addEventListener("click", (event) => {
    // What is asked about a conversation in the list belongs to the list.
    const inside = event.target instanceof Element && event.target.closest("#side, #actions, dialog");
    if (!inside) drawer.value = false;
  });
  document.addEventListener("focusin", (event) => {
    // The keyboard has left it: what has the focus now may lie below it.
    const inside = event.target instanceof Element && event.target.closest("#side, #menu, #actions, dialog");
    if (!inside) drawer.value = false;
  });
  document.addEventListener("keydown", onPrintKey);
  window.addEventListener("popstate", openAddressed);
  window.addEventListener("beforeunload", warnBeforeEnd);
  window.addEventListener("hashchange", readAddress);
  // The page may be about to end: what is under way is stored as far as it has come.
  const store = () => {
    saveAll();
    keepTyped();
  };
  window.addEventListener("pagehide", store);
  document.addEventListener("visibilitychange", () => document.hidden && store());
}

async function begin(): Promise<void> {
  await start(document.body.dataset.user ?? "");
  const loaded = load();
  // Somebody may have begun to write meanwhile.
  if (!current.value) await openAddressed();
  await loaded;
  readAddress();
  askToKeep(false);
}

refresh();
// Reading the script and drawing the page are tasks of their own: neither holds the browser up for long.
await new Promise((done) => setTimeout(done));
render(<MenuButton />, place("menu-place"));
render(
  <>
    <ModelPicker />
    <PanelButton />
  </>,
  place("model-place"),
);
await composed();
drawOverTyped();
listen();
followAnswers();
keepAboveKeyboard();
begin();
