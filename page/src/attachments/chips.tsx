// The files of a message that was sent: each opens what was sent of it.
import { Icon } from "../chat/icons.tsx";
import type { Attached } from "../store/rows.ts";
import { t } from "../texts.ts";
import { viewSent } from "./viewed.ts";

export function Chips({ attached }: { attached: readonly Attached[] | undefined }) {
  if (!attached?.length) return null;
  return (
    <ul class="chips" aria-label={t("attachments")}>
      {attached.map((one) => (
        <li key={one.id} class="chip">
          <button type="button" class="chip-name" onClick={() => viewSent(one)}>
            <Icon name="clip" />
            <bdi>{one.name}</bdi>
          </button>
        </li>
      ))}
    </ul>
  );
}
