// The processor's time, which the machine's other work does not lengthen; the least of three is free of the
// compiler's and the collector's work.
export function milliseconds(work: () => void): number {
  let least = Number.POSITIVE_INFINITY;
  for (let time = 0; time < 3; time += 1) {
    const before = process.cpuUsage();
    work();
    const { user, system } = process.cpuUsage(before);
    least = Math.min(least, (user + system) / 1_000);
    if (least < 5) break;
  }
  return least;
}
