// The list of conversations. On a narrow window it is a drawer.
import { signal } from "@preact/signals";
import { megabytes } from "../formats.ts";
import type { Conversation } from "../store/rows.ts";
import { t } from "../texts.ts";
import { address, open, removeConversations } from "./actions.ts";
import { runs, unseen } from "./answers.ts";
import { Icon, IconButton } from "./icons.tsx";
import { conversations, current, kept } from "./library.ts";

// So many are listed at first: each more costs.
const FIRST = 100;

export const drawer = signal(false);
const listed = signal(FIRST);

export function MenuButton() {
  const toggle = (event: MouseEvent) => {
    event.stopPropagation();
    drawer.value = !drawer.value;
    if (drawer.value) requestAnimationFrame(() => document.getElementById("new-chat")?.focus());
  };
  return (
    <button
      type="button"
      class="icon-button menu"
      id="menu"
      aria-label={t("menu")}
      aria-expanded={drawer.value}
      aria-controls="side"
      onClick={toggle}
    >
      <Icon name="menu" />
    </button>
  );
}

export function closeDrawer(): void {
  if (!drawer.value) return;
  drawer.value = false;
  document.getElementById("menu")?.focus();
}

function go(id: string): void {
  drawer.value = false;
  open(id);
}

export function Side() {
  const rows = conversations.value;
  const shown = rows.slice(0, listed.value);
  return (
    <aside id="side" class={drawer.value ? "open" : ""} aria-label={t("list")}>
      <button type="button" class="button" id="new-chat" onClick={() => go("")}>
        <Icon name="plus" />
        {t("new_chat")}
      </button>
      <ul id="conversations">
        {shown.map((row) => (
          <Entry key={row.id} row={row} />
        ))}
        {rows.length > shown.length ? (
          <li>
            <button type="button" class="quiet-button" onClick={() => (listed.value = rows.length)}>
              {t("list_all", { n: rows.length - shown.length })}
            </button>
          </li>
        ) : null}
      </ul>
      <Kept />
      {rows.length ? (
        <button type="button" class="quiet-button" id="delete-all" onClick={removeAll}>
          {t("delete_all")}
        </button>
      ) : null}
    </aside>
  );
}

function Entry({ row }: { row: Conversation }) {
  const here = row.id === current.value;
  const follow = (event: MouseEvent) => {
    // With a key held, a link opens elsewhere: the browser knows where.
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(row.id);
  };
  const state = runs.value.has(row.id) ? "writing" : unseen.value.has(row.id) ? "unseen" : "";
  return (
    <li>
      <a
        class="conversation"
        href={address(row.id)}
        data-id={row.id}
        aria-current={here ? "true" : undefined}
        dir="auto"
        onClick={follow}
      >
        {state ? <span class={`mark ${state}`}>{t(`list_${state}`)}</span> : null}
        {row.title}
      </a>
      <IconButton icon="trash" label={t("delete", { title: row.title })} onClick={() => remove(row)} />
    </li>
  );
}

async function remove(row: Conversation): Promise<void> {
  const rows = conversations.value;
  const next = rows[rows.indexOf(row) + 1] ?? rows[rows.indexOf(row) - 1];
  await removeConversations([row.id], t("deleted", { title: row.title }));
  // The keyboard goes on where it was in the list.
  const link = next && document.querySelector<HTMLElement>(`.conversation[data-id="${CSS.escape(next.id)}"]`);
  (link ?? document.getElementById("new-chat"))?.focus();
}

async function removeAll(): Promise<void> {
  if (!confirm(t("delete_all_sure"))) return;
  const ids = conversations.value.map((row) => row.id);
  await removeConversations(ids, t("deleted_all", { n: ids.length }));
  document.getElementById("new-chat")?.focus();
}

function Kept() {
  const found = kept.value;
  if (!found) return null;
  const size = megabytes(found.bytes);
  return <p class="kept quiet">{t(found.safe ? "kept_safe" : "kept_unsafe", { size })}</p>;
}
