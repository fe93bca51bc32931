// What is sent of a file, page by page; of one that is not sent yet, the choice of pages, or of a picture's size.
import { useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { IconButton } from "../chat/icons.tsx";
import { size } from "../formats.ts";
import { Plain } from "../markdown/plain.tsx";
import type { Page } from "../store/rows.ts";
import { type TextKey, t } from "../texts.ts";
import { named, chosen as places, tokensOfPage } from "./parts.ts";
import { choosePages, here, resize, SIDES } from "./pending.ts";
import { type Viewed, view, viewed } from "./viewed.ts";

// So many pages are listed at first, and so many more each time.
const FIRST = 50;
const MORE = 200;
const UNITS: Record<string, TextKey> = { page: "attach_page", sheet: "attach_sheet", slide: "attach_slide" };

export function AttachmentDialog() {
  return viewed.value ? <Dialog key={viewed.value.row.id} shown={viewed.value} /> : null;
}

function Dialog({ shown }: { shown: Viewed }) {
  const box = useRef<HTMLDialogElement>(null);
  const { row, pending, chosen } = shown;
  // At once: the next key is meant for it already, and the focus goes back to where it is now.
  useLayoutEffect(() => {
    box.current?.showModal();
  }, []);
  return (
    <dialog
      id="attachment"
      ref={box}
      aria-labelledby="attachment-title"
      onClose={() => {
        viewed.value = null;
      }}
      // Escape closes it and stops no answer.
      onKeyDown={(event) => event.key === "Escape" && event.stopPropagation()}
    >
      <div class="attachment-head">
        <h2 id="attachment-title">
          <bdi>{row.name}</bdi>
        </h2>
        <IconButton icon="close" label={t("attach_close")} onClick={() => box.current?.close()} />
      </div>
      <p class="quiet">{t("attach_size", { size: size(row.size) })}</p>
      {row.cut ? <p class="problem waiting">{t("attach_cut", { name: row.name })}</p> : null}
      {pending && row.pages && row.pages.length > 1 ? <Choice shown={shown} /> : null}
      {pending && row.kind === "image" ? <Sides id={pending} /> : null}
      {row.kind === "image" && row.bytes ? <Picture bytes={row.bytes} name={row.name} /> : null}
      {row.pages ? <Pages pages={row.pages} chosen={chosen} /> : null}
    </dialog>
  );
}

// --- Pages ------------------------------------------------------------------------------------------------

function Choice({ shown }: { shown: Viewed }) {
  const { row, pending, chosen } = shown;
  const all = row.pages?.length ?? 0;
  const typed = useSignal(chosen ? named(chosen) : `1-${all}`);
  const found = places(typed.value, all);
  const type = (text: string) => {
    typed.value = text;
    const made = places(text, all);
    if (!made) return;
    choosePages(pending, made);
    view(row, made.length < all ? made : undefined, pending);
  };
  return (
    <div class="field">
      <label for="attachment-pages">{t("attach_which", { all: all })}</label>
      <input
        id="attachment-pages"
        type="text"
        value={typed.value}
        aria-describedby="attachment-hint"
        aria-invalid={!found}
        onInput={(event) => type(event.currentTarget.value)}
      />
      <p id="attachment-hint" class={found ? "quiet" : "problem"} role="status">
        {found ? t("attach_chosen", { n: found.length, all: all }) : t("attach_which_wrong", { all })}
      </p>
    </div>
  );
}

function Pages({ pages, chosen }: { pages: readonly Page[]; chosen: readonly number[] | undefined }) {
  const listed = useSignal(FIRST);
  const sent = chosen ?? pages.map((_page, at) => at);
  const shown = sent.slice(0, listed.value);
  return (
    <div class="pages">
      {shown.map((at) => {
        const page = pages[at];
        return page ? <PageView key={at} page={page} open={sent.length === 1} /> : null;
      })}
      {sent.length > shown.length ? (
        <button type="button" class="button small" onClick={() => (listed.value += MORE)}>
          {t("attach_more", { n: sent.length - shown.length })}
        </button>
      ) : null}
    </div>
  );
}

// `page 3` and the like in the reader's language; other names as they are.
function title(name: string): string {
  const [, unit, rest = ""] = /^(page|sheet|slide) (.*)$/.exec(name) ?? [];
  const key = UNITS[unit ?? ""];
  return key ? t(key, { n: rest }) : name || t("attach_text");
}

function PageView({ page, open }: { page: Page; open: boolean }) {
  const opened = useSignal(open);
  return (
    <details
      open={open}
      onToggle={(event) => {
        opened.value = event.currentTarget.open;
      }}
    >
      <summary>
        <bdi>{title(page.name)}</bdi>{" "}
        <span class="quiet">{t("attach_tokens", { n: tokensOfPage(page) })}</span>
      </summary>
      {opened.value ? (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
        <div class="page-text" dir="auto" tabIndex={0}>
          <Plain text={page.text || t("attach_no_text")} />
        </div>
      ) : null}
    </details>
  );
}

// --- Pictures ---------------------------------------------------------------------------------------------

function Sides({ id }: { id: string }) {
  const one = here().find((file) => file.id === id);
  const side = Math.max(one?.width ?? 0, one?.height ?? 0);
  const smaller = SIDES.filter((offered) => offered < side);
  const change = async (to: number) => {
    if (!to) return;
    const made = await resize(id, to);
    if (made && viewed.value?.pending === id) view(made, undefined, made.id);
  };
  return (
    <div class="field">
      <label for="attachment-side">{t("attach_side")}</label>
      <select id="attachment-side" onChange={(event) => change(Number(event.currentTarget.value))}>
        <option value="0">{t("attach_pixels", { width: one?.width ?? 0, height: one?.height ?? 0 })}</option>
        {smaller.map((offered) => (
          <option key={offered} value={offered}>
            {t("attach_at_most", { n: offered })}
          </option>
        ))}
      </select>
    </div>
  );
}

// Drawn, not loaded: the page's policy lets no address of a picture but the site's own in.
function Picture({ bytes, name }: { bytes: Blob; name: string }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const draw = (bitmap: ImageBitmap) => {
      if (!canvas.current) return;
      [canvas.current.width, canvas.current.height] = [bitmap.width, bitmap.height];
      canvas.current.getContext("2d")?.drawImage(bitmap, 0, 0);
      bitmap.close();
    };
    // What the browser cannot read stays empty; its name and size stand above.
    createImageBitmap(bytes).then(draw, () => {});
  }, [bytes]);
  return <canvas ref={canvas} class="picture" role="img" aria-label={name} />;
}
