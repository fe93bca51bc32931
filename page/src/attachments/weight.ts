// What the files beside a message weigh: tokens that the model reads, and bytes of the request. Estimates, told before
// anything is sent.
import type { Model } from "../api/api.ts";
import { room, tokensIn } from "../chat/fitting.ts";
import type { Page } from "../store/rows.ts";
import { tokensOfPage, tokensOfPicture } from "./parts.ts";
import type { Pending } from "./pending.ts";

// Of a sound, a token is about so many bytes: 25 in a second of 16,000 bytes.
const BYTES_A_TOKEN = 640;

function sentPages({ row, chosen }: Pending): readonly Page[] {
  const pages = row?.pages ?? [];
  return chosen ? chosen.flatMap((at) => pages[at] ?? []) : pages;
}

function charactersOf(one: Pending): number {
  return sentPages(one).reduce((sum, page) => sum + page.text.length + page.name.length, 0);
}

export function tokensOfFile(one: Pending): number {
  if (one.row?.kind === "image") return tokensOfPicture(one.width, one.height);
  if (one.row?.kind === "audio") return Math.ceil((one.row.bytes?.size ?? 0) / BYTES_A_TOKEN);
  return sentPages(one).reduce((sum, page) => sum + tokensOfPage(page), 0);
}

// The bytes of a request with these files. A letter has one to three; what has to be escaped is rare.
function bytesOf(list: readonly Pending[], text: string): number {
  const media = list.reduce((sum, { row }) => sum + ((row?.bytes?.size ?? 0) * 4) / 3, 0);
  return media + list.reduce((sum, one) => sum + charactersOf(one), text.length);
}

export interface Weight {
  tokens: number;
  // What the model can read, with room for an answer; Infinity where it does not say.
  room: number;
  // The site does not take so much in one request.
  tooLarge: boolean;
  // What is attached and the model does not read.
  unread: "" | "image" | "audio";
}

export function weigh(
  list: readonly Pending[],
  text: string,
  model: Model | undefined,
  most: number,
): Weight {
  const has = (kind: "image" | "audio", sense: string) =>
    list.some(({ row }) => row?.kind === kind) && !model?.capabilities?.includes(sense);
  return {
    tokens: list.reduce((sum, one) => sum + tokensOfFile(one), tokensIn(text)),
    room: room(model?.context_length),
    tooLarge: bytesOf(list, text) > most,
    unread: has("image", "vision") ? "image" : has("audio", "audio") ? "audio" : "",
  };
}
