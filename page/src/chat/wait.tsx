// What is said while one waits for an answer, from the first moment on.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { t } from "../texts.ts";
import { type Run, stop } from "./answers.ts";
import { focusInput } from "./focus.ts";
import { clock, named } from "./models.ts";
import { say } from "./said.ts";
import { left, piece, type Wait, waited } from "./waiting.ts";

const TICK = 1_000;
// Between two things that are read out, in milliseconds.
const PAUSE = 10_000;
// A wait is as long as it is: after this many seconds it is said how long it has been.
const LONG = 10;

export function WaitNote({ run }: { run: Run }) {
  // Each second it is drawn anew.
  const tick = useSignal(0);
  tick.value;
  const now = Date.now();
  const last = useRef({ piece: "", at: 0 });
  useEffect(() => {
    const timer = setInterval(() => (tick.value += 1), TICK);
    return () => clearInterval(timer);
  }, []);
  const wait = run.wait.value;
  const text = wait ? words(wait, run.message.model, now) : "";
  useEffect(() => {
    const found = wait && piece(wait, now);
    if (!found || found === last.current.piece) return;
    // Another place is told at once.
    const moved = found.split(" ")[0] !== last.current.piece.split(" ")[0];
    if (!moved && now - last.current.at < PAUSE) return;
    last.current = { piece: found, at: now };
    say(text);
  }, [text]);
  if (!wait) return null;
  const halt = () => {
    stop(run.message.conversation, run.message.id);
    focusInput();
  };
  return (
    <p class="note quiet wait">
      {/* Not a live region: nobody wants every second read out. */}
      <span role="timer" aria-live="off">
        {text}
      </span>{" "}
      <button type="button" class="quiet-button" onClick={halt}>
        {t("wait_stop")}
      </button>
    </p>
  );
}

function words(wait: Wait, name: string, now: number): string {
  const seconds = left(wait, now);
  const so_far = waited(wait, now);
  const first = where(wait, name);
  if (seconds) return `${first} ${t("wait_left", { time: clock(seconds) })}`;
  if (seconds === 0) return `${first} ${t("wait_over", { time: clock(so_far) })}`;
  return so_far < LONG ? first : `${first} ${t("wait_so_far", { time: clock(so_far) })}`;
}

function where(wait: Wait, name: string): string {
  const model = name;
  if (wait.reading) return t("wait_reading", { model });
  if (wait.position) return t("queued", { model, position: wait.position });
  const found = named(name);
  const cold = found?.status === "sleeping" || found?.status === "starting";
  return t(cold ? "wait_cold" : "wait_sent", { model });
}
