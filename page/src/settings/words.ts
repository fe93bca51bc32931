// Letters without their marks and capitals: who types "resume" finds "Résumé".
export function plain(text: string): string {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
}
