// How much is drawn again for one event of a run: counted in commits of React, not in time.
import { ReactFlow } from "@xyflow/react";
import { act, Profiler } from "react";
import { createRoot } from "react-dom/client";
import { expect, test } from "vitest";
import { NodeView } from "../src/canvas/node";
import { withPlaces } from "../src/model/layout";
import { buildScene } from "../src/model/scene";
import { useRuns } from "../src/store/runs";
import { registry, template } from "./fixture";

Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });

test("an event of progress draws its own node again, and no other", async () => {
  const boxes = buildScene(withPlaces(template("text_to_video"), registry), "", registry).boxes.filter((box) => box.kind === "node" && !box.parent);
  const drawn: string[] = [];
  const Counted = (props: Parameters<typeof NodeView>[0]) => <Profiler id={props.id} onRender={(id) => drawn.push(id)}><NodeView {...props} /></Profiler>;
  const nodeTypes = { node: Counted };
  const nodes = boxes.map((box) => ({ id: box.id, type: "node", position: { x: box.x, y: box.y }, data: { box }, width: box.w, height: box.h, measured: { width: box.w, height: box.h } }));
  const root = document.body.appendChild(document.createElement("div"));
  await act(async () => createRoot(root).render(<div style={{ width: 800, height: 600 }}><ReactFlow nodes={nodes} nodeTypes={nodeTypes} /></div>));
  expect(new Set(drawn).size).toBe(boxes.length);
  expect(boxes.length).toBeGreaterThan(4);
  act(() => useRuns.getState().set({ shown: "j" }));
  drawn.length = 0;
  const event = (kind: string, more: object = {}) => act(() => useRuns.getState().take({ seq: 1, job: "j", at: 0, event: { event: kind, path: "noise", ...more } }));
  event("NodeStarted");
  expect(new Set(drawn)).toEqual(new Set(["noise"]));
  drawn.length = 0;
  event("NodeProgress", { done: 1, total: 9, seconds_left: 2 });
  expect(drawn).toEqual(["noise"]);
  drawn.length = 0;
  event("Metric", { name: "loss", step: 1, value: 2 });
  expect(drawn).toEqual([]);
});
