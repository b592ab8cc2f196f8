import { describe, expect, it } from "vitest";
import { asReport, bars, having, onSheet, type ClipReport } from "../src/model/dataset";

const clip = (name: string, caption: string) => ({ name, caption, frames: 9, fps: 8, height: 32, width: 48, start: 0 });
const report: ClipReport = {
  clips: 2, seconds: 2.2, sizes: { "9x32x48": 2 }, left_out: {}, files_left_out: [],
  each: [clip("a.mp4", "a red circle"), clip("b.mp4", "a blue square")], pictures: { file: "clips.png", count: 1, columns: 12, side: 96 },
};

describe("a data set", () => {
  it("is known by what the file holds", () => {
    expect(asReport(report)).toBe(report);
    for (const other of [null, 3, [], {}, { each: [] }, { each: [], files_left_out: [], pictures: 1 }]) expect(asReport(other)).toBeNull();
  });
  it("is searched by all words, in captions and names", () => {
    expect(having(report, "")).toEqual([0, 1]);
    expect(having(report, "BLUE a")).toEqual([1]);
    expect(having(report, "a.mp4 square")).toEqual([]);
  });
  it("has pictures in rows, as far as they were drawn", () => {
    const many = { ...report, pictures: { ...report.pictures, count: 30 } };
    expect(onSheet(many, 13)).toEqual([96, 96]);
    expect(onSheet(report, 1)).toBeNull();
  });
  it("shows the largest counts and sums up the rest", () => {
    const counts = Object.fromEntries(Array.from({ length: 11 }, (_, i) => [`s${i}`, i + 1]));
    const shown = bars(counts, 8);
    expect(shown.map((bar) => bar.count)).toEqual([11, 10, 9, 8, 7, 6, 5, 4, 6]);
    expect(shown[0].share).toBe(1);
    expect(shown.at(-1)!.label).toBe("3 others");
  });
});
