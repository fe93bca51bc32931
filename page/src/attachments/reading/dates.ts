// Excel's dates: days since 1900 or 1904, told from other numbers by how a cell is to be shown alone.
// Excel counts a 29 February 1900 that there never was: before March its days are off by one.
const FROM_1900 = Date.UTC(1899, 11, 30);
const FROM_1904 = Date.UTC(1904, 0, 1);
const LAST = 2_958_466;

// Whether a format, by its number and its code, shows a date or a time.
export function isDate(id: number, code: string): boolean {
  if (code) {
    // Words in quotes, behind a backslash, or in brackets (a colour, a language) are no letters of a date.
    const letters = code.replace(/"[^"]*"?|\\.|\[(?!h+\]|m+\]|s+\])[^\]]*\]?|[_*]./gi, "");
    return /[ymdhs]/i.test(letters.replace(/general/gi, ""));
  }
  return (id >= 14 && id <= 22) || (id >= 27 && id <= 36) || (id >= 45 && id <= 47) || (id >= 50 && id <= 58);
}

// "" for a number that is no date.
export function shownDate(days: number, from1904: boolean): string {
  if (!(days >= 0 && days < LAST)) return "";
  const early = !from1904 && days < 60 ? 1 : 0;
  const seconds = Math.round((days + early) * 86_400);
  const text = new Date((from1904 ? FROM_1904 : FROM_1900) + seconds * 1_000).toISOString();
  const [day = "", time = ""] = text.replace(".000Z", "").split("T");
  if (days < 1) return time;
  return time === "00:00:00" ? day : `${day} ${time}`;
}
