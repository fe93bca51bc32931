// Why a file cannot be read. reasons.ts has the words of each.
export type Reason =
  | "empty"
  | "folder"
  | "too_large"
  | "too_many"
  | "binary"
  | "password"
  | "broken"
  | "old_office"
  | "archive"
  | "bomb"
  | "entities"
  | "no_text"
  | "huge"
  | "died"
  | "hung"
  | "gone";

export class Unreadable extends Error {
  readonly reason: Reason;

  constructor(reason: Reason) {
    super(reason);
    this.reason = reason;
  }
}
