// Taking in a file, with how far it is and what became of it in words.
import { type TextKey, t } from "../texts.ts";
import { isStored } from "./library.ts";
import { say } from "./said.ts";
import { cancel, type Taking, takeFile, taking } from "./taking.ts";

const ENDINGS: Partial<Record<Taking["ending"], TextKey>> = {
  cancelled: "import_cancelled",
  syntax: "import_syntax",
  deep: "import_syntax",
  end: "import_end",
  "zip-bomb": "import_bomb",
  "zip-empty": "import_zip_empty",
  "zip-broken": "import_zip_broken",
  newer: "import_newer",
  unreadable: "import_unreadable",
  full: "import_full",
  failed: "import_failed",
  missing: "import_missing",
};

const COUNTS: [
  keyof Taking & ("fresh" | "grown" | "known" | "beside" | "lost" | "empty" | "unknown" | "large"),
  TextKey,
][] = [
  ["fresh", "import_fresh"],
  ["grown", "import_grown"],
  ["known", "import_known"],
  ["beside", "import_beside"],
  ["empty", "import_none"],
  ["lost", "import_lost"],
  ["unknown", "import_unknown"],
  ["large", "import_large"],
];

// What became of an import, line by line.
export function report(one: Taking): string[] {
  const counts = COUNTS.filter(([name]) => one[name]).map(([name, key]) => t(key, { n: one[name] }));
  const key = ENDINGS[one.ending];
  const why = key ? [t(key, { at: one.at + 1 })] : [];
  const came = one.fresh + one.grown + one.known ? [] : [t("import_nothing")];
  const lost = !isStored() && one.messages ? [t("storage_memory")] : [];
  return [...why, ...came, ...counts, ...lost];
}

async function take(input: HTMLInputElement): Promise<void> {
  const [file] = input.files ?? [];
  input.value = "";
  if (!file) return;
  await takeFile(file);
  if (taking.value) say(report(taking.value).join(" "));
}

export function ImportPart() {
  const now = taking.value;
  const busy = now?.ending === "";
  return (
    <section aria-labelledby="data-import">
      <h3 id="data-import">{t("data_import")}</h3>
      <p id="import-text">{t("data_import_text")}</p>
      <label class="field">
        {t("import_file")}
        <input
          id="import"
          type="file"
          accept=".json,.zip,application/json,application/zip"
          aria-describedby="import-text"
          disabled={busy}
          onChange={(event) => take(event.currentTarget)}
        />
      </label>
      {now && busy ? <Progress now={now} /> : null}
      {now && !busy ? (
        <ul id="import-report" aria-label={t("import_of", { name: now.name })}>
          {report(now).map((line) => (
            <li key={line}>{line}</li>
          ))}
        </ul>
      ) : null}
    </section>
  );
}

function Progress({ now }: { now: Taking }) {
  return (
    <p class="row">
      <progress
        id="import-progress"
        max={1}
        value={now.part}
        aria-label={t("import_of", { name: now.name })}
      />
      <span>{t("import_so_far", { n: now.fresh + now.grown + now.known })}</span>
      <button type="button" class="button small" id="import-cancel" onClick={cancel}>
        {t("cancel")}
      </button>
    </p>
  );
}
