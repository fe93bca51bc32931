// How the page's language writes numbers, dates, times and sizes. The server writes the same (web/words/formats.py).

const language = typeof document === "undefined" ? "en" : document.documentElement.lang || "en";

// English as it writes a day before its month and 24 hours: nobody can misread that.
export const locale = language === "en" ? "en-GB" : language;

const made = new Map<string, Intl.NumberFormat | Intl.DateTimeFormat>();

// Making one of these takes longer than all that it ever formats.
function kept<Format extends Intl.NumberFormat | Intl.DateTimeFormat>(
  name: string,
  make: () => Format,
): Format {
  const found = (made.get(name) as Format | undefined) ?? make();
  made.set(name, found);
  return found;
}

export function number(value: number): string {
  return kept("number", () => new Intl.NumberFormat(locale, { maximumFractionDigits: 3 })).format(value);
}

// A size, such as 1.5 MB.
export function megabytes(bytes: number): string {
  const style = { style: "unit", unit: "megabyte", maximumFractionDigits: 1 } as const;
  return kept("megabytes", () => new Intl.NumberFormat(locale, style)).format(bytes / 1e6);
}

// The size of a file, which may be small: 1.5 MB, 12 kB.
export function size(bytes: number): string {
  if (bytes >= 1e6) return megabytes(bytes);
  const style = { style: "unit", unit: "kilobyte", maximumFractionDigits: 1 } as const;
  return kept("kilobytes", () => new Intl.NumberFormat(locale, style)).format(bytes / 1e3);
}

// The day of a time in milliseconds, as the server writes it: in UTC.
export function day(time: number): string {
  const style = { dateStyle: "medium", timeZone: "UTC" } as const;
  return kept("day", () => new Intl.DateTimeFormat(locale, style)).format(time);
}
