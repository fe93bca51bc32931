// The name of a file as it is shown and sent: a line of letters that says nothing false about itself.
const LONGEST = 120;
// What steers the direction of letters, and marks that are not seen: with them `fdp.exe` reads like `exe.pdf`.
const STEERING = /[\p{Cc}\p{Cf}\p{Co}\p{Zl}\p{Zp}\ud800-\udfff]/gu;

// Takes away folders, control characters and direction marks; shortens in the middle, so that the ending stays.
export function plainName(given: string): string {
  const name = (given.split(/[\\/]/).pop() ?? "").replace(STEERING, "").replace(/\s+/g, " ").trim();
  const letters = [...name];
  if (letters.length > LONGEST) {
    const half = Math.floor((LONGEST - 1) / 2);
    return `${letters.slice(0, half).join("")}…${letters.slice(-half).join("")}`;
  }
  return name === "." || name === ".." || !name ? "file" : name;
}
