// Wires as they lie: what a stroke crosses, what a box lies on, nodes put into wires, definitions made of nodes.
import { describe, expect, test } from "vitest";
import { define, nameFault, renameDefinition } from "../src/model/define";
import { Types } from "../src/model/infer";
import { withPlaces } from "../src/model/layout";
import { crossed, isLoose, middle, pieces, scopeOf, splice, through } from "../src/model/onwire";
import { applyOps } from "../src/model/patch";
import { lines } from "../src/model/places";
import { buildScene } from "../src/model/scene";
import type { Edit, Workflow } from "../src/model/types";
import { makeRegistry } from "../src/model/registry";
import { node, port, registry, template } from "./fixture";

const doc = withPlaces(template("text_to_video"), registry);
const scene = buildScene(doc, "", registry);
const types = new Types(doc, registry);
const after = (edit: Edit): Workflow => applyOps(doc, edit.ops).tree;
const wire = (id: string) => scene.wires.find((each) => each.id === id)!;

describe("wires as they lie", () => {
  test("a curve begins and ends at its sockets", () => {
    const line = lines(scene).find((each) => each.wire.id === "noise.vae")!;
    const all = pieces(line);
    expect(all[0]).toEqual(line.points[0]);
    expect(all.at(-1)).toEqual(line.points.at(-1));
  });
  test("a stroke across a wire crosses it, one beside it does not", () => {
    const line = lines(scene).find((each) => each.wire.id === "noise.vae")!;
    const [[x0, y0], [x1, y1]] = line.points;
    const [x, y] = [(x0 + x1) / 2, (y0 + y1) / 2];
    expect(crossed(scene, [x - 8, y - 8], [x + 8, y + 8]).map(({ id }) => id)).toContain("noise.vae");
    expect(crossed(scene, [x, -5000], [x + 9, -5000])).toEqual([]);
  });
  test("a box on a wire is found, but not by the node's own wires", () => {
    const [x, y] = middle(scene, wire("video.latent"));
    const rect = { x: x - 20, y: y - 20, w: 40, h: 40 };
    expect(through(scene, rect, "none").map(({ id }) => id)).toContain("video.latent");
    expect(through(scene, rect, "video").map(({ id }) => id)).not.toContain("video.latent");
  });
  test("a node goes into a wire where it fits on both sides", () => {
    const nodes = { ...doc.nodes, more: { type: "roll_latent@1" }, save: { type: "save_video@1" } };
    const roll = node("roll_latent@1", [port("latent", "Latent")], [["output", "Latent"]]);
    const own = new Types({ ...doc, nodes }, makeRegistry([...registry.byId.values(), roll], [...registry.types.values()]));
    expect(isLoose(own, "more")).toBe(true);
    expect(isLoose(own, "noise")).toBe(false);
    expect(splice(own, wire("video.latent"), "more")).toEqual([
      [{ id: "denoise", handle: "o:latent" }, { id: "more", handle: "i:latent" }],
      [{ id: "more", handle: "o:output" }, { id: "video", handle: "i:latent" }],
    ]);
    expect(splice(own, wire("video.latent"), "save")).toBeNull();
    expect(scopeOf(wire("denoise/outputs.latent"))).toBe("denoise");
  });
});

describe("a definition of chosen nodes", () => {
  test("takes what they need as inputs, gives what is used, and leaves nothing behind", () => {
    const made = define(types, ["noise", "sigmas"]);
    if ("reason" in made) throw new Error(made.reason);
    const next = after(made);
    const definition = next.definitions!["part@1"];
    expect(Object.keys(definition.nodes)).toEqual(["noise", "sigmas"]);
    expect(definition.outputs).toEqual({ sigmas: { type: "Stream[SigmaStep]", link: "sigmas" }, noise: { type: "Latent", link: "noise" } });
    expect(definition.inputs).toHaveProperty("steps.type", "int");
    expect(next.nodes["part"].links).toMatchObject({ vae: "model.vae", steps: "$steps" });
    expect(next.nodes["denoise"].each).toBe("part.sigmas");
    expect(next.nodes).not.toHaveProperty("noise");
    const links = Object.values(next.nodes).flatMap((spec) => Object.values({ ...spec.links, ...spec.carry }));
    expect(links.some((link) => /^(noise|sigmas)(\.|$)/.test(link))).toBe(false);
    expect(Object.keys(next.ui!.positions!)).toEqual(expect.arrayContaining(["part", "#part@1/noise"]));
    const back = buildScene(next, "", registry);
    expect(back.wires.filter(({ source }) => source === "part").length).toBe(2);
  });
  test("a loop goes in with its body", () => {
    const made = define(types, ["denoise"]);
    if ("reason" in made) throw new Error(made.reason);
    expect(after(made).definitions!["part@1"].nodes["denoise"].body).toEqual(doc.nodes["denoise"].body);
    expect(after(made).nodes["video"].links!["latent"]).toBe("part");
  });
  test("nodes with another between them are refused with a reason", () => {
    expect(define(types, ["model", "denoise"])).toHaveProperty("reason");
    expect(define(types, [])).toHaveProperty("reason");
  });
});

describe("the name of a definition", () => {
  const made = define(types, ["noise", "sigmas"], "start");
  if ("reason" in made) throw new Error(made.reason);
  const twice = applyOps(after(made), [
    { path: ["definitions", "outer@1"], value: { nodes: { inner: { type: "#start@1" } }, outputs: {} } },
    { path: ["ui", "collapsed"], value: ["#start@1/noise", "denoise"] },
  ]).tree;

  test("is what was asked for", () => {
    expect(twice.definitions).toHaveProperty("start@1");
    expect(twice.nodes).toHaveProperty("start.type", "#start@1");
  });
  test("changes in every use in one step that leads back", () => {
    const renamed = renameDefinition(twice, "start@1", "begin");
    if ("reason" in renamed) throw new Error(renamed.reason);
    const { tree, inverse } = applyOps(twice, renamed.ops);
    expect(Object.keys(tree.definitions!)).toEqual(["begin@1", "outer@1"]);
    expect(tree.nodes["start"].type).toBe("#begin@1");
    expect(tree.definitions!["outer@1"].nodes["inner"].type).toBe("#begin@1");
    expect(tree.ui!.collapsed).toEqual(["#begin@1/noise", "denoise"]);
    expect(JSON.stringify(tree)).not.toContain("#start");
    expect(applyOps(tree, inverse).tree).toEqual(twice);
  });
  test("is refused with a reason", () => {
    expect(nameFault(twice, "outer")).toContain("already");
    expect(nameFault(twice, "2nd")).toContain("begins with a letter");
    expect(nameFault(twice, "start", "start@1")).toBe("");
    expect(renameDefinition(twice, "start@1", "outer")).toHaveProperty("reason");
  });
});

test("what has no place of its own covers nothing", () => {
  const some = { ...doc, ui: { positions: { model: [40, 40], noise: [370, 40], video: [700, 60] } } } as Workflow;
  const boxes = buildScene(some, "", registry).boxes.filter((box) => !box.parent);
  const covers = (a: (typeof boxes)[0], b: (typeof boxes)[0]): boolean => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
  for (const edge of boxes.filter(({ kind }) => kind === "inputs" || kind === "outputs")) expect(boxes.filter((box) => box !== edge && covers(edge, box))).toEqual([]);
});
