// What stands above the composer: what is wrong with the storage, and the last deletion with the way back.
import { at } from "../site.ts";
import { type TextKey, t } from "../texts.ts";
import { focusInput } from "./focus.ts";
import { IconButton } from "./icons.tsx";
import { current, find, retryStorage, type StorageState, storage } from "./library.ts";
import { signedOut } from "./models.ts";
import { undo } from "./undo.ts";

const TEXTS: Partial<Record<StorageState, TextKey>> = {
  memory: "storage_memory",
  blocked: "storage_blocked",
  newer: "storage_newer",
  outdated: "storage_newer",
  full: "storage_full",
  failed: "storage_failed",
};

export function StorageNotice() {
  const key = TEXTS[storage.value];
  return (
    <div id="storage" role="status">
      {key ? (
        <p class="problem waiting">
          {t(key)}{" "}
          {storage.value === "full" || storage.value === "failed" ? (
            <button type="button" class="quiet-button" onClick={retryStorage}>
              {t("storage_again")}
            </button>
          ) : null}
        </p>
      ) : null}
    </div>
  );
}

// That the conversation on view is not stored.
export function TemporaryNotice() {
  return (
    <div id="temporary" role="status">
      {find(current.value)?.temporary ? <p class="quiet">{t("temporary_text")}</p> : null}
    </div>
  );
}

// The session may end while somebody types: it is said before anything is sent.
export function SessionNotice() {
  const back = encodeURIComponent(location.pathname);
  return (
    <div id="session" role="status">
      {signedOut.value ? (
        <p class="problem waiting">
          {t("session_over")} <a href={at(`/auth/login?next=${back}`)}>{t("sign_in")}</a>
        </p>
      ) : null}
    </div>
  );
}

export function UndoBar() {
  const last = undo.value;
  if (!last) return null;
  return (
    <p id="undo" class="row">
      <span>{last.text}</span>
      <button
        type="button"
        class="button small"
        onClick={() => {
          last.undo();
          focusInput();
        }}
      >
        {t("undo")}
      </button>
      <IconButton
        icon="close"
        label={t("dismiss")}
        onClick={() => {
          undo.value = null;
          focusInput();
        }}
      />
    </p>
  );
}
