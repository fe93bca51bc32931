// The conversation on view.
import { signal, useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { path, siblings } from "../store/tree.ts";
import { t } from "../texts.ts";
import { again } from "./actions.ts";
import { problems, runs } from "./answers.ts";
import { current, find, lost, shown } from "./library.ts";
import { MessageView } from "./message.tsx";
import { printing } from "./printing.ts";
import { ProblemCard } from "./problem.tsx";
import { Choice } from "./second.tsx";
import { undecided } from "./sides.ts";

// So many messages are shown at first, and so many more each time: a long conversation opens as fast as a short one.
const FIRST = 40;
const MORE = 200;
// Whoever is nearer to the end than this, in pixels, follows the answer.
const NEAR = 60;

// Rises when the reader is to see the end: after sending, and after opening.
export const toEnd = signal(0);

export function Log() {
  const scroller = useRef<HTMLDivElement>(null);
  const log = useRef<HTMLDivElement>(null);
  const following = useRef(true);
  const id = current.value;
  useLayoutEffect(() => {
    following.current = true;
    if (scroller.current) scroller.current.scrollTop = scroller.current.scrollHeight;
  }, [id, toEnd.value]);
  // Follows the answer while the reader is at the end; leaves alone who has scrolled up to read.
  useEffect(() => {
    const { current: box } = scroller;
    if (!box || !log.current) return undefined;
    let top = box.scrollTop;
    const noted = () => {
      const left = box.scrollHeight - box.scrollTop - box.clientHeight;
      // Whoever scrolls up wants to read, also where it is one line: near is only who comes from above.
      following.current = left < 1 || (left < NEAR && box.scrollTop >= top);
      top = box.scrollTop;
    };
    const grown = new ResizeObserver(() => {
      if (following.current) box.scrollTop = box.scrollHeight;
      // What becomes shorter moves the reader too, who has scrolled nowhere.
      top = box.scrollTop;
    });
    box.addEventListener("scroll", noted);
    grown.observe(log.current);
    grown.observe(box);
    return () => {
      box.removeEventListener("scroll", noted);
      grown.disconnect();
    };
  }, []);
  return (
    <div id="scroller" ref={scroller}>
      {id ? <h1 class="hidden">{find(id)?.title}</h1> : <Empty />}
      <div id="log" ref={log} role="log" aria-live="off" aria-label={t("log")}>
        {id ? <Messages key={id} id={id} /> : null}
      </div>
    </div>
  );
}

function Empty() {
  const icon = document.getElementById("app")?.dataset.icon ?? "";
  return (
    <div id="empty">
      <img src={icon} alt="" width="56" height="56" />
      <h1>{t("empty_title")}</h1>
      <p>{t("empty_text")}</p>
      {lost.value ? (
        <p class="problem" role="status">
          {t("not_here")}
        </p>
      ) : null}
    </div>
  );
}

function Messages({ id }: { id: string }) {
  const messages = shown(id)?.value;
  const windowed = useSignal(FIRST);
  if (!messages) return null;
  const all = path(messages, find(id)?.leaf ?? "");
  const from = printing.value ? 0 : Math.max(0, all.length - windowed.value);
  const problem = problems.value.get(id);
  const last = all.at(-1);
  const open = undecided(id);
  return (
    <>
      {from ? (
        <button type="button" class="button small" id="earlier" onClick={() => (windowed.value += MORE)}>
          {t("earlier", { n: from })}
        </button>
      ) : null}
      {all.slice(from).map((message) => (
        <MessageView key={message.id} message={message} others={siblings(messages, message)} />
      ))}
      {open ? <Choice {...open} /> : null}
      {problem ? <ProblemCard problem={problem} conversation={id} place={id} /> : null}
      {last?.role === "user" && !open && !problem && !runs.value.has(id) ? (
        // A conversation that ends with a question has its answer to come.
        <div class="offer">
          <button type="button" class="button small retry" onClick={() => again(last)}>
            {t("again")}
          </button>
        </div>
      ) : null}
    </>
  );
}
