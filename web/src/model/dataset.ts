// What report_clips wrote of a data set: which clips there are, and where their pictures lie. Knows no page.

export interface Clip {
  name: string;
  caption: string;
  frames: number;
  fps: number;
  height: number;
  width: number;
  start: number;
}

export interface ClipReport {
  clips: number;
  seconds: number;
  sizes: Record<string, number>;
  left_out: Record<string, number>;
  files_left_out: { name: string; reason: string; detail: string }[];
  each: Clip[];
  pictures: { file: string; count: number; columns: number; side: number };
}

/** What a file holds, if it is such a report: any node may write JSON. */
export function asReport(found: unknown): ClipReport | null {
  const report = found as ClipReport | null;
  return report && Array.isArray(report.each) && Array.isArray(report.files_left_out) && typeof report.pictures?.file === "string" ? report : null;
}

export interface Bar {
  label: string;
  count: number;
  share: number;
}

/** Counts as bars, the longest first and of length 1; what is beyond the first few is one bar. */
export function bars(counts: Record<string, number>, most = 8): Bar[] {
  const sorted = Object.entries(counts).sort(([, a], [, b]) => b - a);
  const rest = sorted.slice(most);
  const shown = sorted.slice(0, most);
  if (rest.length) shown.push([`${rest.length} others`, rest.reduce((sum, [, count]) => sum + count, 0)]);
  const longest = Math.max(1, ...shown.map(([, count]) => count));
  return shown.map(([label, count]) => ({ label, count, share: count / longest }));
}

/** Clips by their number whose caption or name has all of the words. */
export function having(report: ClipReport, text: string): number[] {
  const words = text.toLowerCase().split(/\s+/);
  return report.each.flatMap(({ name, caption }, i) => (words.every((word) => `${name} ${caption}`.toLowerCase().includes(word)) ? [i] : []));
}

/** Where a clip's picture lies on the sheet, in pixels; null where it was not drawn. */
export function onSheet({ pictures: { count, columns, side } }: ClipReport, i: number): [number, number] | null {
  return i < count ? [(i % columns) * side, Math.floor(i / columns) * side] : null;
}
