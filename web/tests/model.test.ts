// The document's rules: patches undo themselves, wires fit or say why not, names are remapped, loops are entered by links.
import { describe, expect, test } from "vitest";
import { copy, isClip, paste } from "../src/model/clipboard";
import { connect, disconnect, partners } from "../src/model/connect";
import * as edits from "../src/model/edit";
import { Types } from "../src/model/infer";
import { applyOps, getAt } from "../src/model/patch";
import { everyNode, freshName, isWithin, nodeAt, nodePath, reference, splitId } from "../src/model/paths";
import { bridges, fitScore, misfit, searchNodes, typeInfo } from "../src/model/registry";
import { buildScene } from "../src/model/scene";
import type { Edit, Workflow } from "../src/model/types";
import { applyEdit, redo, startHistory, undo } from "../src/store/history";
import { registry, template } from "./fixture";

const doc = template("text_to_video");
const types = (document: Workflow = doc): Types => new Types(document, registry);
const done = (document: Workflow, edit: Edit): Workflow => applyOps(document, edit.ops).tree;
const wired = (from: [string, string], to: [string, string], document: Workflow = doc) =>
  connect(types(document), { id: from[0], handle: from[1] }, { id: to[0], handle: to[1] });

describe("patches", () => {
  test("a set value comes back", () => {
    const { tree, inverse } = applyOps({ a: { b: 1 } }, [{ path: ["a", "b"], value: 2 }]);
    expect(tree).toEqual({ a: { b: 2 } });
    expect(applyOps(tree, inverse).tree).toEqual({ a: { b: 1 } });
  });
  test("what was made on the way is taken away again", () => {
    const { tree, inverse } = applyOps<object>({}, [{ path: ["ui", "positions", "a"], value: [1, 2] }]);
    expect(tree).toEqual({ ui: { positions: { a: [1, 2] } } });
    expect(applyOps(tree, inverse).tree).toEqual({});
  });
  test("a deleted key comes back to its place", () => {
    const before = { a: 1, b: 2, c: 3 };
    const { tree, inverse } = applyOps(before, [{ path: ["b"], value: undefined }]);
    expect(Object.keys(tree)).toEqual(["a", "c"]);
    expect(Object.keys(applyOps(tree, inverse).tree)).toEqual(["a", "b", "c"]);
  });
  test("deleting what is not there changes nothing and makes nothing", () => {
    expect(applyOps<object>({ a: 1 }, [{ path: ["x", "y"], value: undefined }]).tree).toEqual({ a: 1 });
  });
  test("what is not touched stays the same object", () => {
    const before = { a: { x: 1 }, b: { y: 1 } };
    const { tree } = applyOps(before, [{ path: ["a", "x"], value: 2 }]);
    expect(tree.b).toBe(before.b);
  });
  test("getAt stops where the path ends", () => {
    expect(getAt({ a: [1] }, ["a", "b"])).toBeUndefined();
    expect(getAt({ a: { b: 3 } }, ["a", "b"])).toBe(3);
  });
});

describe("history", () => {
  const numbers = (seed: number): (() => number) => () => (seed = (seed * 1664525 + 1013904223) % 2 ** 32) / 2 ** 32;
  for (const seed of [1, 2, 3, 4, 5]) {
    test(`undo all is the start, redo all is the end (${seed})`, () => {
      const next = numbers(seed);
      let history = startHistory(doc);
      for (let i = 0; i < 40; i++) {
        const ids = [...everyNode(history.doc)].map(([id]) => id);
        const id = ids[Math.floor(next() * ids.length)] ?? "model";
        const choice = Math.floor(next() * 7);
        const edit =
          choice === 0 ? edits.addNode(history.doc, "", { id: "vae_decode@1", name: "vae_decode" }, [i, i])
          : choice === 1 ? edits.removeNodes(history.doc, [id])
          : choice === 2 ? edits.setParam(id, "shift", next())
          : choice === 3 ? edits.setMode(history.doc, [id], "mute")
          : choice === 4 ? edits.renameNode(history.doc, id, `renamed_${i}`)
          : choice === 5 ? edits.toggleCollapsed(history.doc, [id])
          : edits.addFrame(history.doc, [id]);
        history = applyEdit(history, edit, i * 5000);
      }
      const end = history.doc;
      let back = history;
      while (back.past.length) back = undo(back);
      expect(JSON.stringify(back.doc)).toBe(JSON.stringify(doc));
      while (back.future.length) back = redo(back);
      expect(JSON.stringify(back.doc)).toBe(JSON.stringify(end));
    });
  }
  test("typing in quick succession is one step", () => {
    let history = startHistory(doc);
    for (let i = 0; i < 5; i++) history = applyEdit(history, edits.setParam("sigmas", "shift", i), i * 100, "param sigmas.shift");
    expect(history.past).toHaveLength(1);
    expect(undo(history).doc).toEqual(doc);
  });
  test("a pause, or another field, begins a new step", () => {
    let history = applyEdit(startHistory(doc), edits.setParam("sigmas", "shift", 1), 0, "a");
    history = applyEdit(history, edits.setParam("sigmas", "shift", 2), 5000, "a");
    history = applyEdit(history, edits.setParam("no_text", "prompt", "x"), 5100, "b");
    expect(history.past.map((step) => step.label)).toEqual(["Change shift", "Change shift", "Change prompt"]);
  });
  test("a new step forgets what was undone", () => {
    let history = applyEdit(startHistory(doc), edits.setParam("sigmas", "shift", 1), 0);
    history = applyEdit(undo(history), edits.setParam("sigmas", "shift", 2), 1);
    expect(history.future).toHaveLength(0);
  });
});

describe("names", () => {
  test("links name a node, a port, or an input", () => {
    expect(reference("$x")).toEqual({ node: "", port: "x" });
    expect(reference("model.vae")).toEqual({ node: "model", port: "vae" });
    expect(reference("noise")).toEqual({ node: "noise", port: "" });
  });
  test("paths lead into loops and definitions", () => {
    expect(nodePath("denoise/step")).toEqual(["nodes", "denoise", "body", "nodes", "step"]);
    expect(nodePath("#d@1/loop/x")).toEqual(["definitions", "d@1", "nodes", "loop", "body", "nodes", "x"]);
    expect(splitId("a/b/c")).toEqual({ scope: "a/b", name: "c" });
  });
  test("a loop lies within the root, a definition does not", () => {
    expect(isWithin("denoise", "")).toBe(true);
    expect(isWithin("#d@1", "")).toBe(false);
    expect(isWithin("a/b", "a")).toBe(true);
    expect(isWithin("ab", "a")).toBe(false);
  });
  test("fresh names count up and drop what no name may hold", () => {
    expect(freshName("noise", ["noise", "noise_2"])).toBe("noise_3");
    expect(freshName("noise_2", ["noise_2"])).toBe("noise_3");
    expect(freshName("9 lives", [])).toBe("_lives");
  });
});

describe("types", () => {
  test("equal types fit, int fits float, any fits all", () => {
    expect(misfit("Video", "Video")).toBeNull();
    expect(misfit("int", "float")).toBeNull();
    expect(misfit("float", "int")).toMatch(/it is a float, an int is needed/);
    expect(misfit("any", "VAE")).toBeNull();
  });
  test("a stream into a single input names the loop", () => {
    expect(misfit("Stream[Video]", "Video")).toMatch(/run a loop over it, each pass gets one Video/);
    expect(misfit("Stream[int]", "Stream[float]")).toBeNull();
  });
  test("exact types score above any", () => {
    expect(fitScore("Latent", "Latent")).toBeGreaterThan(fitScore("Latent", "any"));
    expect(fitScore("Latent", "Video")).toBe(0);
  });
  test("streams are drawn like their items, doubled; streams of numbers like a schedule", () => {
    expect(typeInfo(registry, "Stream[Latent]")).toMatchObject({ family: "latent", list: true });
    expect(typeInfo(registry, "Stream[int]")).toMatchObject({ family: "schedule", shape: "triangle" });
  });
  test("what a loop carries and collects has types of its own", () => {
    expect(types().portsOf("denoise").outputs).toMatchObject([{ name: "latent", type: "Latent" }]);
    expect(types().inputsOf("denoise").get("item")).toBe("SigmaStep");
    const collecting: Workflow = done(doc, { label: "", ops: [{ path: ["nodes", "denoise", "collect"], value: ["v"] }, { path: ["nodes", "denoise", "body", "outputs", "v"], value: "velocity" }] });
    expect(types(collecting).portsOf("denoise").outputs[1]).toMatchObject({ name: "v", type: "Stream[Latent]" });
  });
  test("circles end", () => {
    const round: Workflow = { format: 1, nodes: { a: { type: "branch@1", links: { then: "b" } }, b: { type: "branch@1", links: { then: "a" } } } };
    expect(types(round).ofLink("", "a")).toBe("any");
  });
  test("a node between two types is found, the one that needs least first", () => {
    expect(bridges(registry, "Latent", "Video").map((b) => b.info.id)).toEqual(["vae_decode@1"]);
  });
  test("a search needs every word", () => {
    expect(searchNodes(registry, "latent noise").map((n) => n.id)).toEqual(["latent_noise@1"]);
    expect(searchNodes(registry, "no such thing")).toEqual([]);
  });
});

describe("wiring", () => {
  test("a fitting wire is one link, and what was typed in goes", () => {
    const typed = done(doc, edits.setParam("noise", "vae", "x"));
    const made = wired(["model", "o:vae"], ["noise", "i:vae"], typed);
    expect("edit" in made && nodeAt(done(typed, made.edit), "noise")).toMatchObject({ links: { vae: "model.vae" }, params: {} });
  });
  test("a misfit says why and names a node that helps", () => {
    const made = wired(["noise", "o:output"], ["file", "i:video"]);
    expect("refusal" in made && made.refusal.reason).toMatch(/it is a Latent, a Video is needed/);
    expect("refusal" in made && made.refusal.bridges[0].info.id).toBe("vae_decode@1");
  });
  test("a circle is refused", () => {
    const made = wired(["video", "o:output"], ["video", "i:latent"]);
    expect("refusal" in made && made.refusal.reason).toMatch(/circle/);
  });
  test("a wire into a loop is brought in by a link of the loop", () => {
    const made = wired(["model", "o:vae"], ["denoise/velocity", "i:patches"]);
    expect("refusal" in made).toBe(true);
    const fit = wired(["text", "o:output"], ["denoise/guided", "i:no_text"]);
    expect("edit" in fit && nodeAt(done(doc, fit.edit), "denoise/guided")?.links?.no_text).toBe("$text");
  });
  test("a new value in a loop makes the link that brings it", () => {
    const bare = done(doc, { label: "", ops: [{ path: ["nodes", "denoise", "links", "dit"], value: undefined }] });
    const made = wired(["model", "o:dit"], ["denoise/guided", "i:dit"], bare);
    const after = "edit" in made ? done(bare, made.edit) : bare;
    expect(nodeAt(after, "denoise")?.links?.dit).toBe("model.dit");
    expect(nodeAt(after, "denoise/guided")?.links?.dit).toBe("$dit");
  });
  test("a value leaves a loop only at its edge", () => {
    const made = wired(["denoise/step", "o:output"], ["video", "i:latent"]);
    expect("refusal" in made && made.refusal.reason).toMatch(/right edge/);
  });
  test("the edge's new socket collects", () => {
    const made = wired(["denoise/guided", "o:output"], ["denoise", "t:+"]);
    const after = "edit" in made ? nodeAt(done(doc, made.edit), "denoise") : undefined;
    expect(after?.collect).toEqual(["guided"]);
    expect(after?.body?.outputs.guided).toBe("guided");
  });
  test("what is carried must come back as the same type", () => {
    const made = wired(["denoise/patches", "o:output"], ["denoise", "t:latent"]);
    expect("refusal" in made).toBe(true);
  });
  test("an input of the workflow wires like any output", () => {
    const made = wired(["$in", "s:seed"], ["no_text", "i:prompt"]);
    expect("refusal" in made && made.refusal.reason).toMatch(/int/);
    const fit = wired(["$in", "s:prompt"], ["no_text", "i:prompt"]);
    expect("edit" in fit && nodeAt(done(doc, fit.edit), "no_text")).toMatchObject({ links: { prompt: "$prompt" }, params: {} });
  });
  test("an output of the workflow is named after what it shows", () => {
    const made = wired(["noise", "o:output"], ["$out", "t:+"]);
    expect("edit" in made && done(doc, made.edit).outputs).toMatchObject({ video: "video", noise: "noise" });
  });
  test("a loop runs over streams only", () => {
    const made = wired(["noise", "o:output"], ["denoise", "i:each"]);
    expect("refusal" in made && made.refusal.reason).toMatch(/stream/);
  });
  test("a cut carry keeps its name", () => {
    const after = done(doc, disconnect(types(), { id: "denoise", handle: "i:latent" }));
    expect(nodeAt(after, "denoise")?.carry).toEqual({ latent: "" });
    expect(nodeAt(done(doc, disconnect(types(), { id: "noise", handle: "i:vae" })), "noise")?.links?.vae).toBeUndefined();
  });
  test("partners are only those that connect", () => {
    const scene = buildScene(doc, "", registry);
    const found = partners(types(), "video", scene);
    expect(found.map((pair) => pair.text)).toContain("model.vae → video.vae");
    for (const pair of found) expect("edit" in connect(types(), pair.from, pair.to)).toBe(true);
  });
});

describe("edits", () => {
  test("deleting a node cuts its wires and outputs", () => {
    const after = done(doc, edits.removeNodes(doc, ["video"]));
    expect(nodeAt(after, "file")?.links).toEqual({});
    expect(after.outputs).toEqual({});
  });
  test("deleting inside a loop leaves the carry's name", () => {
    expect(nodeAt(done(doc, edits.removeNodes(doc, ["denoise/step"])), "denoise")?.body?.outputs).toEqual({ latent: "" });
  });
  test("deleting a loop takes the places of what it held", () => {
    const placed = { ...doc, ui: { positions: { denoise: [0, 0], "denoise/step": [1, 1], video: [2, 2] } } } as Workflow;
    expect(done(placed, edits.removeNodes(placed, ["denoise"])).ui?.positions).toEqual({ video: [2, 2] });
  });
  test("a renamed node keeps its wires and its place among the others", () => {
    const edit = edits.renameNode(doc, "model", "weights");
    const after = done(doc, edit);
    expect(edit.id).toBe("weights");
    expect(Object.keys(after.nodes)[0]).toBe("weights");
    expect(nodeAt(after, "denoise")?.links?.dit).toBe("weights.dit");
    expect(JSON.stringify(after)).not.toContain("model.");
  });
  test("a taken or bad name changes nothing", () => {
    expect(edits.renameNode(doc, "model", "noise").ops).toEqual([]);
    expect(edits.renameNode(doc, "model", "no spaces").ops).toEqual([]);
  });
  test("a value becomes an input and back", () => {
    const up = done(doc, edits.promote(doc, types(), "sigmas", "shift"));
    expect(up.inputs?.shift).toMatchObject({ type: "float", default: 0 });
    expect(nodeAt(up, "sigmas")).toMatchObject({ links: { shift: "$shift" }, params: {} });
    const down = done(up, edits.removeInput(up, "", "shift"));
    expect(nodeAt(down, "sigmas")).toMatchObject({ params: { shift: 0 }, links: { steps: "$steps" } });
  });
  test("mute twice is as before", () => {
    const once = done(doc, edits.setMode(doc, ["file"], "mute"));
    expect(nodeAt(once, "file")?.mode).toBe("mute");
    expect(done(once, edits.setMode(once, ["file"], "mute"))).toEqual(doc);
  });
  test("what is brought in can be carried instead", () => {
    const after = nodeAt(done(doc, edits.linkToCarry(doc, "denoise", "text")), "denoise");
    expect(after?.carry).toEqual({ latent: "noise", text: "text" });
    expect(after?.links?.text).toBeUndefined();
  });
  test("a frame owns its nodes and ends with the last of them", () => {
    const framed = done(doc, edits.addFrame(doc, ["model", "text"]));
    const box = buildScene(framed, "", registry).boxes.find((b) => b.kind === "frame");
    expect(box).toBeDefined();
    const gone = done(framed, edits.removeNodes(framed, ["model", "text"]));
    expect(buildScene(gone, "", registry).boxes.some((b) => b.kind === "frame")).toBe(false);
  });
});

describe("clipboard", () => {
  test("pasted nodes have new names, their wires follow, wires to others are cut", () => {
    const clip = copy(doc, ["noise", "model"])!;
    const made = paste(doc, clip, "", [40, 40], false);
    const after = done(doc, made);
    expect(made.ids.sort()).toEqual(["model_2", "noise_2"]);
    expect(nodeAt(after, "noise_2")?.links).toEqual({ vae: "model_2.vae" });
  });
  test("with wires from outside, they are kept", () => {
    const made = paste(doc, copy(doc, ["noise"])!, "", [0, 0], true);
    expect(nodeAt(done(doc, made), "noise_2")?.links).toMatchObject({ vae: "model.vae", seed: "$seed" });
  });
  test("a loop is copied whole", () => {
    const made = paste(doc, copy(doc, ["denoise"])!, "", [0, 0], true);
    expect(nodeAt(done(doc, made), "denoise_2/step")?.type).toBe("euler_step@1");
  });
  test("only what was copied here is pasted", () => {
    expect(isClip({ nodes: {} })).toBe(false);
    expect(isClip(JSON.parse(JSON.stringify(copy(doc, ["noise"]))))).toBe(true);
  });
});
