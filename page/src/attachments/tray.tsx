// The files above the composer: what is read of each, what is wrong, and whether all of it fits.
import { mostBody } from "../api/api.ts";
import { draft } from "../chat/drafts.ts";
import { focusInput } from "../chat/focus.ts";
import { IconButton } from "../chat/icons.tsx";
import { model } from "../chat/models.ts";
import { say } from "../chat/said.ts";
import { size } from "../formats.ts";
import { type TextKey, t } from "../texts.ts";
import { fitting } from "./parts.ts";
import { attach, choosePages, detach, here, type Pending } from "./pending.ts";
import { words } from "./reasons.ts";
import { view } from "./viewed.ts";
import { tokensOfFile, type Weight, weigh } from "./weight.ts";

export function Tray() {
  const list = here();
  if (!list.length) return null;
  return (
    <div id="tray">
      <ul aria-label={t("attachments")}>
        {list.map((one) => (
          <Chip key={one.id} one={one} />
        ))}
      </ul>
      <Fits list={list} />
    </div>
  );
}

function detail(one: Pending): string {
  if (one.reason) return words(one.reason);
  if (!one.row) {
    const { progress } = one;
    if (progress?.unit === "pages") return t("attach_reading_page", { n: progress.done, all: progress.of });
    return progress ? t("attach_reading_size", { size: size(progress.done) }) : t("attach_reading");
  }
  const tokens = t("attach_tokens", { n: tokensOfFile(one) });
  const all = one.row.pages?.length ?? 0;
  const parts = one.chosen ? t("attach_parts", { n: one.chosen.length, all }) : "";
  return [parts, tokens, one.row.cut ? t("attach_cut_short") : ""].filter(Boolean).join(" · ");
}

function Chip({ one }: { one: Pending }) {
  const remove = () => {
    detach(one.id);
    say(t("attach_removed", { name: one.name }));
    focusInput();
  };
  const { row } = one;
  return (
    <li class={one.reason ? "chip refused" : "chip"} data-state={one.reason || (row ? "ready" : "reading")}>
      {row ? (
        <button type="button" class="chip-name" onClick={() => view(row, one.chosen, one.id)}>
          <bdi>{one.name}</bdi>
        </button>
      ) : (
        <bdi class="chip-name">{one.name}</bdi>
      )}
      <span class="quiet">{detail(one)}</span>
      <IconButton
        icon="close"
        label={t(row || one.reason ? "attach_remove" : "attach_stop", { name: one.name })}
        onClick={remove}
      />
    </li>
  );
}

// --- Does it fit ------------------------------------------------------------------------------------------

function weight(): Weight {
  return weigh(here(), draft.value, model.value, mostBody());
}

const UNREAD: Record<"image" | "audio", TextKey> = { image: "attach_no_vision", audio: "attach_no_audio" };

// Why what is attached cannot be sent now; "" where it can.
export function hindrance(): string {
  const list = here();
  if (list.some((one) => !one.row && !one.reason)) return t("attach_wait");
  const { tooLarge, unread } = weight();
  if (unread) return t(UNREAD[unread], { model: model.value?.id ?? "" });
  return tooLarge ? t("attach_body", { size: size(mostBody()) }) : "";
}

function Fits({ list }: { list: readonly Pending[] }) {
  const { tokens, room, tooLarge, unread } = weight();
  const said = { tokens: tokens, room: Math.floor(room), model: model.value?.id ?? "" };
  const over = tokens > room;
  const cut = () => {
    shorten(list, room);
    focusInput();
  };
  return (
    <p id="fits" role="status" class={over || tooLarge || unread ? "problem waiting" : "quiet"}>
      {unread ? t(UNREAD[unread], said) : tooLarge ? t("attach_body", { size: size(mostBody()) }) : ""}{" "}
      {over ? t("attach_over", said) : room < Number.POSITIVE_INFINITY ? t("attach_fits", said) : ""}{" "}
      {over && list.some((one) => (one.row?.pages?.length ?? 0) > 1) ? (
        <button type="button" class="quiet-button" onClick={cut}>
          {t("attach_shorten")}
        </button>
      ) : null}
    </p>
  );
}

// Leaves of each file with pages as many of its first ones as have room, all files alike.
function shorten(list: readonly Pending[], room: number): void {
  const long = list.filter((one) => (one.row?.pages?.length ?? 0) > 1);
  const others = weight().tokens - long.reduce((sum, one) => sum + tokensOfFile(one), 0);
  for (const one of long) {
    choosePages(one.id, fitting(one.row?.pages ?? [], Math.max(0, room - others) / long.length));
  }
  say(t("attach_shortened"));
}

// --- Attaching --------------------------------------------------------------------------------------------

export function AttachButton() {
  const pick = () => {
    const input = document.createElement("input");
    input.type = "file";
    input.multiple = true;
    input.onchange = () => {
      attach([...(input.files ?? [])]);
      focusInput();
    };
    input.click();
  };
  return <IconButton id="attach" large icon="clip" label={t("attach")} onClick={pick} />;
}
