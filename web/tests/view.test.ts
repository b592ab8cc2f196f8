// What is drawn and shown: places, sizes, events in any order, values of fields, frames of a clip, curves.
import { describe, expect, test } from "vitest";
import { curve } from "../src/canvas/wire";
import { between, hit, lines, topmost, within } from "../src/model/places";
import { taken } from "../src/canvas/far-hand";
import { bytes, liveText, seconds } from "../src/canvas/status";
import { HEADER, RAIL } from "../src/model/geometry";
import { arrange, tidy, withPlaces } from "../src/model/layout";
import { bounds, buildScene, clampInside } from "../src/model/scene";
import { samplesOf, stepInName, thinned } from "../src/model/samples";
import { readPreview } from "../src/net/events";
import { joined, smooth } from "../src/panels/curves";
import { frameAt, middleOf, shuttle, stepped } from "../src/player/clock";
import { differences } from "../src/player/diff";
import { placeOf } from "../src/store/actions";
import { spread } from "../src/store/align";
import { keyName } from "../src/store/commands";
import { isOlder, nextLive, useRuns, withPoint } from "../src/store/runs";
import { neighbour } from "../src/store/walk";
import { clampNumber, parseValue, showValue } from "../src/widgets/field";
import { port, registry, template } from "./fixture";

const doc = withPlaces(template("text_to_video"), registry);
const scene = buildScene(doc, "", registry);

describe("scene", () => {
  test("every link of the file is a wire", () => {
    const ids = scene.wires.map((wire) => wire.id);
    expect(ids).toContain("noise.vae");
    expect(ids).toContain("denoise/step.step");
    expect(ids).toContain("denoise/outputs.latent");
    expect(ids).toContain("outputs.video");
  });
  test("wires end at sockets that are there", () => {
    for (const wire of scene.wires) {
      expect(scene.byId.get(wire.source)?.handles.some((h) => h.id === wire.sourceHandle), wire.id).toBe(true);
      expect(scene.byId.get(wire.target)?.handles.some((h) => h.id === wire.targetHandle), wire.id).toBe(true);
    }
  });
  test("no two nodes of a graph overlap", () => {
    const boxes = scene.boxes.filter((box) => box.kind !== "frame");
    for (const a of boxes) for (const b of boxes) {
      if (a === b || a.parent !== b.parent) continue;
      expect(a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y, `${a.id} and ${b.id}`).toBe(true);
    }
  });
  test("a loop holds what is in it, right of its rail and below its header", () => {
    const loop = scene.byId.get("denoise")!;
    for (const box of scene.boxes.filter((b) => b.parent === "denoise")) {
      expect(box.x).toBeGreaterThan(RAIL);
      expect(box.y).toBeGreaterThanOrEqual(HEADER);
      expect(box.x + box.w).toBeLessThan(loop.w - RAIL);
      expect(box.y + box.h).toBeLessThan(loop.h);
    }
  });
  test("a collapsed loop is a node with the same outer sockets", () => {
    const folded = buildScene({ ...doc, ui: { ...doc.ui, collapsed: ["denoise"] } }, "", registry);
    expect(folded.byId.has("denoise/step")).toBe(false);
    expect(folded.wires.map((w) => w.id)).toContain("video.latent");
  });
  test("a parameter's change draws only its node again", () => {
    const next = buildScene({ ...doc, nodes: { ...doc.nodes, sigmas: { ...doc.nodes.sigmas, params: { shift: 5 } } } }, "", registry);
    expect(next.byId.get("noise")?.shape).toBe(scene.byId.get("noise")?.shape);
    expect(next.byId.get("sigmas")?.shape).not.toBe(scene.byId.get("sigmas")?.shape);
  });
  test("an unknown node keeps its wires and says that it is unknown", () => {
    const strange = buildScene({ ...doc, nodes: { ...doc.nodes, odd: { type: "gone@1", links: { x: "noise" } } } }, "", registry);
    expect(strange.byId.get("odd")?.ports?.known).toBe(false);
    expect(strange.wires.map((w) => w.id)).toContain("odd.x");
  });
  test("nodes that write pictures keep room for them", () => {
    expect(scene.byId.get("file")?.shape?.preview).toBe(true);
    expect(scene.byId.get("noise")?.shape?.preview).toBe(false);
  });
  test("a click far away finds the innermost box", () => {
    const loop = scene.byId.get("denoise")!;
    const step = scene.byId.get("denoise/step")!;
    expect(hit(scene, loop.x + step.x + 5, loop.y + step.y + 5)).toBe("denoise/step");
    expect(hit(scene, -9999, 0)).toBeNull();
  });
  test("a frame chooses what lies wholly in it, a loop without naming what is in it", () => {
    const all = bounds(scene);
    const ids = within(scene, all);
    expect(ids).toContain("denoise");
    expect(ids.some((id) => id.startsWith("denoise/"))).toBe(false);
    expect(within(scene, { ...all, w: 10 })).toEqual([]);
    expect(between({ x: 5, y: 1 }, { x: 2, y: 9 })).toEqual({ x: 2, y: 1, w: 3, h: 8 });
  });
  test("a drag takes what frames own, and nothing twice", () => {
    expect(topmost(["a/b/c", "a", "d"])).toEqual(["a", "d"]);
    expect(taken(["$frame:one", "x"], { one: { nodes: ["y"] } })).toEqual(["y", "x"]);
  });
  test("every wire has a line from socket to socket", () => {
    expect(lines(scene).every(({ points }) => points.length >= 2)).toBe(true);
  });
  test("bounds hold all, and are never empty", () => {
    expect(bounds(scene).w).toBeGreaterThan(1000);
    expect(bounds(scene, ["nothing"]).w).toBeGreaterThan(0);
  });
  test("places inside a loop are kept off its rail", () => {
    expect(clampInside("denoise/step", 0, 0)[0]).toBeGreaterThan(RAIL);
    expect(clampInside("noise", -5.4, 2)).toEqual([-5, 2]);
  });
});

describe("layout", () => {
  test("it is the same each time", () => {
    expect(tidy(template("train_dit"), "", registry)).toEqual(tidy(template("train_dit"), "", registry));
  });
  test("wires lead to the right, also round a circle", () => {
    const items = ["a", "b", "c"].map((id) => ({ id, w: 10, h: 10 }));
    const places = arrange(items, [["a", "b"], ["b", "c"], ["c", "a"]]);
    expect(places.size).toBe(3);
    expect(places.get("a")![0]).toBeLessThan(places.get("b")![0] + 1000);
  });
  test("places that are there stay", () => {
    const kept = withPlaces({ ...template("text_to_video"), ui: { positions: { noise: [7, 7] } } }, registry);
    expect(kept.ui?.positions).toEqual({ noise: [7, 7] });
  });
  test("thousands of nodes take no time to speak of", () => {
    const items = Array.from({ length: 2000 }, (_, i) => ({ id: `n${i}`, w: 250, h: 120 }));
    const edges = items.slice(1).map((item, i): [string, string] => [`n${Math.floor(i / 2)}`, item.id]);
    const begin = performance.now();
    arrange(items, edges);
    expect(performance.now() - begin).toBeLessThan(3000);
  });
  test("equal gaps between the first and the last", () => {
    const boxes = [0, 10, 300].map((x, i) => ({ id: String(i), x, y: 0, w: 50, h: 50 }));
    expect([...spread(boxes, "x").values()].map(([x]) => x)).toEqual([0, 150, 300]);
  });
});

describe("events", () => {
  test("a finished node does not run again because an old event is late", () => {
    const done = nextLive({ state: "running" }, { event: "NodeFinished", seconds: 2, nbytes: 5 });
    expect(done).toMatchObject({ state: "done", seconds: 2 });
    expect(nextLive(done, { event: "NodeProgress", done: 1, total: 3 })).toBe(done);
    expect(nextLive(done, { event: "NodeStarted" })).toBe(done);
  });
  test("progress never goes back", () => {
    expect(nextLive({ state: "running", done: 5 }, { event: "NodeProgress", done: 3, total: 9, seconds_left: 1 })?.done).toBe(5);
  });
  test("a job that ran does not wait again", () => {
    expect(isOlder({ state: "queued" }, { state: "running" })).toBe(true);
    expect(isOlder({ state: "done" }, { state: "running" })).toBe(false);
    expect(isOlder({ state: "queued" }, undefined)).toBe(false);
  });
  test("points of a curve may come late or twice", () => {
    let line = withPoint(undefined, 1, 10);
    for (const [step, value] of [[3, 30], [2, 20], [2, 21]]) line = withPoint(line, step, value);
    expect(line).toEqual({ steps: [1, 2, 3], values: [10, 21, 30] });
  });
  test("a number that is none rings the alarm", () => {
    useRuns.getState().take({ seq: 1, job: "j", at: 0, event: { event: "Metric", path: "loss", name: "loss", step: 7, value: null } });
    expect(useRuns.getState().alarms.j).toMatch(/step 7/);
  });
  test("a picture is read behind its header", async () => {
    const header = new TextEncoder().encode(JSON.stringify({ job: "j", path: "denoise", media_type: "image/png", index: 0 }));
    const frame = new Uint8Array(4 + header.length + 3);
    new DataView(frame.buffer).setUint32(0, header.length);
    frame.set(header, 4);
    frame.set([1, 2, 3], 4 + header.length);
    const preview = readPreview(frame.buffer);
    expect(preview).toMatchObject({ job: "j", path: "denoise", media_type: "image/png" });
    expect(preview.blob.size).toBe(3);
  });
  test("what is said of a node is short", () => {
    expect(liveText({ state: "running", done: 18, total: 30, left: 42 })).toBe("18/30 · 42 s left");
    expect(liveText({ state: "cached" })).toBe("cached");
    expect([seconds(0.5), seconds(75), seconds(4000)]).toEqual(["0.50 s", "1 min 15 s", "1 h 07 min"]);
    expect(bytes(17_200_000_000)).toBe("17.2 GB");
  });
  test("a problem's place is a node and a field", () => {
    expect(placeOf("denoise/velocity.scale")).toEqual({ id: "denoise/velocity", port: "scale" });
    expect(placeOf("a/b.params.x")).toEqual({ id: "a/b", port: "x" });
    expect(placeOf("noise")).toEqual({ id: "noise", port: "" });
  });
});

describe("fields", () => {
  test("numbers keep their bounds and say which", () => {
    const steps = port("steps", "int", { minimum: 1, maximum: 100 });
    expect(parseValue(steps, "20")).toEqual({ value: 20 });
    expect(parseValue(steps, "0")).toEqual({ error: "At least 1." });
    expect(parseValue(steps, "2.5")).toEqual({ error: "A whole number is needed." });
    expect(parseValue(steps, "x")).toEqual({ error: "A number is needed." });
    expect(clampNumber(steps, 1000)).toBe(100);
  });
  test("a bound that is excluded is refused", () => {
    expect(parseValue(port("e", "float", { exclusive_minimum: 0 }), "0")).toEqual({ error: "More than 0." });
  });
  test("lists are JSON, of words also with commas", () => {
    expect(parseValue(port("l", "list[int]"), "[1, 2]")).toEqual({ value: [1, 2] });
    expect(parseValue(port("l", "list[str]"), "a, b")).toEqual({ value: ["a", "b"] });
    expect("error" in parseValue(port("l", "list[int]"), "1, 2")).toBe(true);
  });
  test("small and long numbers are read as people write them", () => {
    expect(showValue(1e-8)).toBe("1e-8");
    expect(showValue(0.1 + 0.2)).toBe("0.3");
  });
});

describe("player", () => {
  test("the middle of a frame is in that frame, at any rate", () => {
    for (const fps of [8, 23.976, 24, 29.97, 60]) for (let k = 0; k < 200; k++) expect(frameAt(middleOf(k, fps), fps, 200)).toBe(k);
  });
  test("steps stay between in and out", () => {
    expect(stepped(9, 1, { first: 5, last: 9 })).toBe(5);
    expect(stepped(5, -1, { first: 5, last: 9 })).toBe(9);
  });
  test("J, K and L: doubled by the same key, stopped by K", () => {
    expect([shuttle(1, "l"), shuttle(4, "l"), shuttle(8, "l"), shuttle(2, "j"), shuttle(-1, "j"), shuttle(2, "k")]).toEqual([2, 8, 8, -1, -2, 0]);
  });
  test("only what differs between two runs is named", () => {
    const other = { ...doc, inputs: { ...doc.inputs, seed: { type: "int", default: 7 } } };
    expect(differences({ inputs: {}, workflow: doc }, { inputs: {}, workflow: other })).toEqual([{ place: "seed", left: "0", right: "7" }]);
  });
  test("smoothing begins at the first value and passes over NaN", () => {
    expect(smooth([1, NaN, 1], 0.9)).toEqual([1, 1, 1]);
    expect(smooth([0, 10], 0.5)).toEqual([0, 5]);
  });
  test("curves of different steps share one axis", () => {
    expect(joined([{ steps: [1, 3], values: [1, 3] }, { steps: [2], values: [2] }])).toEqual([[1, 2, 3], [1, null, 3], [null, 2, null]]);
  });
});

describe("keys", () => {
  test("keys have one name each", () => {
    expect(keyName({ key: "z", ctrlKey: true, shiftKey: true } as KeyboardEvent)).toBe("Ctrl+Shift+Z");
    expect(keyName({ key: "?", shiftKey: true } as KeyboardEvent)).toBe("?");
    expect(keyName({ key: "Enter", metaKey: true } as KeyboardEvent)).toBe("Ctrl+Enter");
  });
  test("arrows walk along wires", () => {
    expect(neighbour(scene, "file", "left")).toBe("video");
    expect(neighbour(scene, "sigmas", "right")).toBe("denoise");
  });
  test("a wire is one smooth path through its dots", () => {
    expect(curve([[0, 0], [100, 0]])).toMatch(/^M0,0 C/);
    expect(curve([[0, 0], [50, 50], [100, 0]]).match(/C/g)).toHaveLength(2);
  });
});

describe("samples of a training run", () => {
  const file = (id: string, name: string, media_type = "video/mp4") => ({ id, name, media_type, node: "train/file", nbytes: 1 });
  test("the number in a name is its step, else the newest step when it came", () => {
    expect(stepInName("samples/sheet-000500.png")).toBe(500);
    expect(stepInName("v2/latest.mp4")).toBeNull();
    const found = samplesOf([file("b", "s-000020.mp4"), file("c", "latest.mp4"), file("a", "s-000003.png", "image/png"), file("d", "log-1.csv", "text/csv"), file("e", "x.mp4")], { c: 7 });
    expect(found.map(({ id, step }) => [id, step])).toEqual([["a", 3], ["c", 7], ["b", 20]]);
  });
  test("of many some are shown, the first and the newest always", () => {
    const all = Array.from({ length: 100 }, (_, i) => i);
    expect(thinned(all, 7)).toHaveLength(7);
    expect([thinned(all, 7)[0], thinned(all, 7).at(-1)]).toEqual([0, 99]);
    expect(thinned(all, 200)).toBe(all);
  });
  test("a file that comes during a run is put at the run's newest step", () => {
    const { take } = useRuns.getState();
    const logged = (event: string, rest: object) => take({ seq: 0, job: "trains", at: 0, event: { event, path: "train/x", ...rest } });
    logged("Metric", { name: "loss", step: 4, value: 1 });
    logged("FileWritten", { file: "latest.mp4", id: "f1" });
    expect(useRuns.getState().written["trains"]).toEqual({ f1: 4 });
  });
});
