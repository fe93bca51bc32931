// The list of conversations: those that are pinned, the folders, then the others, newest first.
import { signal, useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { at } from "../site.ts";
import type { Conversation, Folder } from "../store/rows.ts";
import { t } from "../texts.ts";
import { open, removeConversations } from "./actions.ts";
import { runs, unseen } from "./answers.ts";
import { ask } from "./asking.tsx";
import { saveJson, saveMarkdown } from "./exporting.ts";
import * as folderActions from "./folders.ts";
import { Icon, IconButton } from "./icons.tsx";
import { conversations, current, settle } from "./library.ts";
import { type Action, MenuButtonOf } from "./menu.tsx";
import { print } from "./printing.ts";
import { say } from "./said.ts";
import { found, places, wanted } from "./search.ts";
import { folders } from "./shelves.ts";

// So many are listed at first, in each part, and so many more each time: a long list opens as fast as a short one.
const FIRST = 100;
const MORE = 200;
const TITLE_LENGTH = 200;

type Go = (id: string) => void;

export function List({ go }: { go: Go }) {
  const rows = found.value;
  if (wanted.value) {
    return (
      <div id="conversations">
        <Rows rows={rows} go={go} label={t("search_results")} />
      </div>
    );
  }
  const known = new Set(folders.value.map((folder) => folder.id));
  const pinned = rows.filter((row) => row.pinned);
  const loose = rows.filter((row) => !row.pinned);
  const others = loose.filter((row) => !known.has(row.folder));
  return (
    <div id="conversations">
      {pinned.length ? (
        <section aria-label={t("pinned")}>
          <h2 class="part-name">{t("pinned")}</h2>
          <Rows rows={pinned} go={go} label={t("pinned")} />
        </section>
      ) : null}
      {folders.value.map((folder) => (
        <FolderPart key={folder.id} folder={folder}>
          <Rows rows={loose.filter((row) => row.folder === folder.id)} go={go} label={folder.name} />
        </FolderPart>
      ))}
      <Rows rows={others} go={go} label={t("list")} />
    </div>
  );
}

const opened = signal<ReadonlySet<string>>(new Set());

function FolderPart({ folder, children }: { folder: Folder; children: ComponentChildren }) {
  const { id, name } = folder;
  const isOpen = opened.value.has(id);
  const actions = (): Action[] => [
    { label: t("folder_rename"), run: () => folderActions.rename(folder) },
    { label: t("folder_delete"), run: () => removeFolder(folder), danger: true },
  ];
  return (
    <div class="folder">
      <details
        open={isOpen}
        onToggle={(event) => {
          const others = [...opened.value].filter((one) => one !== id);
          if (event.currentTarget.open !== isOpen) opened.value = new Set(isOpen ? others : [...others, id]);
        }}
      >
        <summary dir="auto">
          <Icon name="folder" />
          {name}
        </summary>
        {isOpen ? children : null}
      </details>
      <MenuButtonOf label={t("actions_of", { title: name })} actions={actions} />
    </div>
  );
}

function removeFolder(folder: Folder): void {
  folderActions.remove(folder);
  document.getElementById("new-chat")?.focus();
}

function Rows({ rows, go, label }: { rows: readonly Conversation[]; go: Go; label: string }) {
  const most = useSignal(FIRST);
  const shown = rows.slice(0, most.value);
  if (!rows.length) return null;
  return (
    <ul aria-label={label}>
      {shown.map((row) => (
        <Entry key={row.id} row={row} go={go} />
      ))}
      {rows.length > shown.length ? (
        <li>
          <button type="button" class="quiet-button" onClick={() => (most.value += MORE)}>
            {t("list_more", { n: rows.length - shown.length })}
          </button>
        </li>
      ) : null}
    </ul>
  );
}

function Entry({ row, go }: { row: Conversation; go: Go }) {
  const here = row.id === current.value;
  const follow = (event: MouseEvent) => {
    // With a key held, a link opens elsewhere: the browser knows where.
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(row.id);
  };
  const state = runs.value.has(row.id) ? "writing" : unseen.value.has(row.id) ? "unseen" : "";
  const place = wanted.value ? places.value.get(row.id) : "";
  return (
    <li>
      <a
        class="conversation"
        href={row.temporary ? at("/") : at(`/c/${row.id}`)}
        data-id={row.id}
        aria-current={here ? "true" : undefined}
        dir="auto"
        onClick={follow}
      >
        {state ? <span class={`mark ${state}`}>{t(`list_${state}`)}</span> : null}
        {row.title}
        {place ? <span class="place">{place}</span> : null}
      </a>
      <MenuButtonOf label={t("actions_of", { title: row.title })} actions={() => actionsOf(row)} />
      <IconButton icon="trash" label={t("delete", { title: row.title })} onClick={() => remove(row)} />
    </li>
  );
}

function actionsOf(row: Conversation): Action[] {
  if (row.temporary) return [{ label: t("export_markdown"), run: () => saveMarkdown([row]) }];
  const pin = async () => {
    await settle(row.id, { pinned: !row.pinned });
    say(t(row.pinned ? "unpinned" : "is_pinned", { title: row.title }));
    toRow(row);
  };
  return [
    { label: t("rename"), run: () => rename(row) },
    { label: t(row.pinned ? "unpin" : "pin"), run: pin },
    { label: t("move"), run: () => move(row) },
    { label: t("export_json"), run: () => saveJson([row]) },
    { label: t("export_markdown"), run: () => saveMarkdown([row]) },
    { label: t("print"), run: () => printRow(row) },
  ];
}

async function printRow(row: Conversation): Promise<void> {
  await open(row.id);
  if (current.value === row.id) await print();
}

// The row may have gone to another part of the list: the keyboard goes with it, or to its folder.
function toRow({ id, folder }: Conversation): void {
  requestAnimationFrame(() => {
    const link = document.querySelector<HTMLElement>(`.conversation[data-id="${CSS.escape(id)}"]`);
    const part = folder ? document.querySelector<HTMLElement>("#conversations summary") : null;
    (link ?? part ?? document.getElementById("new-chat"))?.focus();
  });
}

async function move(row: Conversation): Promise<void> {
  await folderActions.move(row);
  toRow(row);
}

async function rename(row: Conversation): Promise<void> {
  const field = { label: t("rename_field"), value: row.title, most: TITLE_LENGTH };
  const title = await ask({ title: t("rename"), field, yes: t("rename_yes") });
  if (!title || title === row.title) return;
  await settle(row.id, { title, titled: "own" });
  say(t("renamed", { title }));
}

async function remove(row: Conversation): Promise<void> {
  const links = [...document.querySelectorAll<HTMLElement>("a.conversation")];
  const place = links.findIndex((link) => link.dataset.id === row.id);
  const next = (links[place + 1] ?? links[place - 1])?.dataset.id ?? "";
  await removeConversations([row.id], t("deleted", { title: row.title }));
  // The keyboard goes on where it was in the list.
  const link = next && document.querySelector<HTMLElement>(`.conversation[data-id="${CSS.escape(next)}"]`);
  (link || document.getElementById("new-chat"))?.focus();
}

export async function removeAll(): Promise<void> {
  const ids = conversations.value.map((row) => row.id);
  await removeConversations(ids, t("deleted_all", { n: ids.length }));
  document.getElementById("new-chat")?.focus();
}
