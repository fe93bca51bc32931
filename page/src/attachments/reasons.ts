// Why a file cannot be attached, in the reader's words.
import { type TextKey, t } from "../texts.ts";
import type { Reason } from "./reading/unreadable.ts";

const WORDS: Record<Reason, TextKey> = {
  empty: "attach_empty",
  folder: "attach_folder",
  too_large: "attach_too_large",
  too_many: "attach_too_many",
  binary: "attach_binary",
  password: "attach_password",
  broken: "attach_broken",
  old_office: "attach_old_office",
  archive: "attach_archive",
  bomb: "attach_bomb",
  entities: "attach_entities",
  no_text: "attach_no_text",
  huge: "attach_huge",
  died: "attach_died",
  hung: "attach_hung",
  gone: "attach_gone",
};

export function words(reason: Reason): string {
  return t(WORDS[reason]);
}
