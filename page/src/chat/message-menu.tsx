// What else can be done with one message.
import type { Message } from "../store/rows.ts";
import { t } from "../texts.ts";
import { fork, removeOnlyMessage } from "./actions.ts";
import { focusInput } from "./focus.ts";
import { find } from "./library.ts";
import { MenuButtonOf } from "./menu.tsx";

export function MessageMenu({ message }: { message: Message }) {
  const actions = () => {
    const only = () => {
      removeOnlyMessage(message);
      focusInput();
    };
    const forking = { label: t("fork"), run: () => fork(message) };
    const deleting = { label: t("delete_only"), run: only, danger: true };
    // A copy of what is not stored would be stored.
    return find(message.conversation)?.temporary ? [deleting] : [forking, deleting];
  };
  return <MenuButtonOf label={t("message_actions")} actions={actions} />;
}
