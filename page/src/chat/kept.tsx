// How much is stored in this browser, and whether the browser promises to keep it.
import { megabytes } from "../formats.ts";
import { t } from "../texts.ts";
import { kept } from "./library.ts";

export function Kept() {
  const found = kept.value;
  if (!found) return null;
  const size = megabytes(found.bytes);
  return <p class="kept quiet">{t(found.safe ? "kept_safe" : "kept_unsafe", { size })}</p>;
}
