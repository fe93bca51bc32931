// What stands beside the conversation: new ones, the search, the list. On a narrow window it is a drawer.
import { signal } from "@preact/signals";
import { t } from "../texts.ts";
import { open, startTemporary } from "./actions.ts";
import { openData } from "./data.tsx";
import { make } from "./folders.ts";
import { Icon, IconButton } from "./icons.tsx";
import { Kept } from "./kept.tsx";
import { Legal } from "./legal.tsx";
import { conversations } from "./library.ts";
import { List } from "./list.tsx";
import { found, query, search, searching } from "./search.ts";

export const drawer = signal(false);

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
  const temporary = () => {
    drawer.value = false;
    startTemporary();
  };
  return (
    <aside id="side" class={drawer.value ? "open" : ""} aria-label={t("list")}>
      <div class="side-new">
        <button type="button" class="button" id="new-chat" onClick={() => go("")}>
          <Icon name="plus" />
          {t("new_chat")}
        </button>
        <IconButton icon="folder" label={t("folder_new_button")} onClick={make} />
        <IconButton icon="temporary" label={t("temporary_new")} onClick={temporary} />
      </div>
      {conversations.value.length ? <Search /> : null}
      <List go={go} />
      <Kept />
      <button type="button" class="quiet-button" id="data-open" onClick={openData}>
        {t("data")}
      </button>
      <Legal />
    </aside>
  );
}

function Search() {
  const words = query.value.trim();
  const n = found.value.length;
  return (
    <div class="side-search">
      <label class="hidden" for="search">
        {t("search")}
      </label>
      <input
        id="search"
        type="search"
        dir="auto"
        autocomplete="off"
        placeholder={t("search")}
        value={query.value}
        onInput={(event) => search(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key !== "Escape" || !query.value || event.isComposing) return;
          event.stopPropagation();
          search("");
        }}
      />
      <p id="search-status" class="quiet" role="status">
        {words ? (searching.value ? t("searching") : t("found", { n })) : ""}
      </p>
    </div>
  );
}
