// Pictures and clips that a run leaves while it goes on: at which step each was made, and which of many are shown.
import type { OutputFile } from "../net/api";

export interface Sample {
  step: number;
  id: string;
  name: string;
}

/** `samples/sheet-000500.png` was made at 500: numbered_path puts the number before the ending. */
export function stepInName(name: string): number | null {
  const found = /(\d+)\.\w+$/.exec(name);
  return found ? Number(found[1]) : null;
}

/** Samples by their step: that of their name, else the newest step that was known when they came. */
export function samplesOf(files: OutputFile[], written: Record<string, number> = {}): Sample[] {
  const found = files.flatMap((file): Sample[] => {
    const step = stepInName(file.name) ?? written[file.id];
    return step !== undefined && /^(video|image)\//.test(file.media_type) ? [{ step, id: file.id, name: file.name }] : [];
  });
  return found.sort((a, b) => a.step - b.step || a.name.localeCompare(b.name));
}

/** At most so many, evenly spread; the first and the newest are always among them. */
export function thinned<T>(all: T[], most: number): T[] {
  if (all.length <= most) return all;
  return Array.from({ length: most }, (_, i) => all[Math.round((i * (all.length - 1)) / (most - 1))]);
}
