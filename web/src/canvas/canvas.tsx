// The canvas: near, React Flow draws what is visible of the scene; far, one canvas does. Edits go out as named steps.
import { Background, BackgroundVariant, ReactFlow, ReactFlowProvider, useReactFlow, useStore, type Connection, type Edge, type EdgeChange, type FinalConnectionState, type Node, type NodeChange, type OnConnectStartParams } from "@xyflow/react";
import { useCallback, useEffect, useMemo, useState, type MouseEvent } from "react";
import { connect, disconnect } from "../model/connect";
import * as edits from "../model/edit";
import { fitScore } from "../model/registry";
import { splitId } from "../model/paths";
import { hit } from "../model/places";
import { absolute, bounds, clampInside, type Box, type Scene, type Wire } from "../model/scene";
import type { End } from "../model/types";
import { apply, typesNow } from "../store/actions";
import { activeDoc, useDocs } from "../store/docs";
import { useScene } from "../store/scene";
import { drop } from "../store/wires";
import { useView } from "../store/view";
import { canvasHand } from "./hand";
import { FrameView, InputsView, NoteView, OutputsView } from "./edges";
import { FarView, useFar } from "./far";
import { FarHand } from "./far-hand";
import { Knife } from "./knife";
import { LoopView } from "./loop";
import { Minimap } from "./minimap";
import { NodeView } from "./node";
import { WireView } from "./wire";

const nodeTypes = { node: NodeView, loop: LoopView, inputs: InputsView, outputs: OutputsView, note: NoteView, frame: FrameView };
const edgeTypes = { wire: WireView };
const SHIFT_KEYS = ["Shift"];
const MULTI_KEYS = ["Shift", "Control", "Meta"];
const NONE: never[] = [];
const OPEN_ZOOM = 0.62;

type Places = ReadonlyMap<string, [number, number]>;
const made = new WeakMap<Box, Node>();

/** React Flow's node of a box: the same object for the same box, so that nothing is drawn again for nothing. */
function toNode(box: Box, selected: boolean, place: [number, number] | undefined): Node {
  const known = made.get(box);
  const [x, y] = place ?? [box.x, box.y];
  if (known && known.selected === selected && known.position.x === x && known.position.y === y) return known;
  const node: Node = {
    id: box.id, type: box.kind, position: { x, y }, data: { box }, parentId: box.parent, selected, width: box.w, height: box.h,
    measured: { width: box.w, height: box.h }, zIndex: box.kind === "frame" ? -1 : 0, deletable: false,
    handles: box.handles.map((h) => ({ id: h.id, type: h.type, position: h.side as Node["sourcePosition"] & string, x: h.x, y: h.y, width: 1, height: 1 })) as Node["handles"],
  };
  made.set(box, node);
  return node;
}

const wiresMade = new WeakMap<Wire, Edge>();
function toEdge(wire: Wire, selected: boolean): Edge {
  const known = wiresMade.get(wire);
  if (known && known.selected === selected) return known;
  const edge: Edge = { ...wire, type: "wire", data: { wire }, selected, interactionWidth: 12, focusable: false };
  wiresMade.set(wire, edge);
  return edge;
}

const pointer = (event: globalThis.MouseEvent | TouchEvent): { x: number; y: number } => {
  const at = "changedTouches" in event ? event.changedTouches[0] : event;
  return { x: at.clientX, y: at.clientY };
};

/** What dropping a wire means: wired, or refused with the reason at the place of the drop. */
export function tryConnect(from: End, to: End, screen: { x: number; y: number }, at: { x: number; y: number }): boolean {
  const wiring = connect(typesNow(), from, to);
  if ("edit" in wiring) {
    apply(wiring.edit);
    return true;
  }
  const { reason, bridges } = wiring.refusal;
  useView.getState().set({ dialog: { kind: "refusal", screen, at, reason, bridges, from, to } });
  return false;
}

/** Put the window over a graph that is opened; false until that is done, so that nothing is drawn twice. */
function useOpening(scene: Scene): boolean {
  const flow = useReactFlow();
  const tab = useDocs((state) => state.active);
  const scope = scene.scope;
  const width = useStore((state) => state.width);
  const key = `${tab} ${scope}`;
  const [shown, setShown] = useState("");
  useEffect(() => {
    if (!width || shown === key || !scene.boxes.length) return;
    showAll(flow, scene, width, document.querySelector(".canvas")?.clientHeight ?? 600, OPEN_ZOOM);
    setShown(key);
  }, [key, shown, scene, width, flow]);
  return shown === key;
}

/** Everything in view; a graph too wide to read is shown from its left, unless all of it is asked for. */
export function showAll(flow: ReturnType<typeof useReactFlow>, scene: Scene, width: number, height: number, least: number): void {
  const all = bounds(scene);
  const pad = 36;
  const top = scene.scope ? 64 : pad; // the way back out of a definition lies there
  const zoom = Math.min((width - 2 * pad) / all.w, (height - top - pad) / all.h, 1);
  const large = scene.boxes.length > 150;
  const used = large ? zoom : Math.max(zoom, least);
  const x = all.w * used <= width - pad ? (width - all.w * used) / 2 - all.x * used : pad - all.x * used;
  const y = Math.max(top, (height - all.h * used) / 2) - all.y * used;
  void flow.setViewport({ x, y, zoom: used });
}

function Flow() {
  const scene = useScene();
  const flow = useReactFlow();
  const selection = useView((state) => state.selection);
  const [drag, setDrag] = useState<Places>(new Map());
  const far = useFar(scene.boxes.length);
  const ready = useOpening(scene);
  const none = far || !ready;
  useEffect(() => canvasHand.take(flow), [flow]);

  const nodes = useMemo(() => (none ? NONE : scene.boxes.map((box) => toNode(box, selection.has(box.id), drag.get(box.id)))), [scene, selection, drag, none]);
  const edges = useMemo(() => (none ? NONE : scene.wires.map((wire) => toEdge(wire, selection.has(`~${wire.id}`)))), [scene, selection, none]);

  const onNodesChange = useCallback((changes: NodeChange[]) => {
    const moves = changes.filter((change) => change.type === "position" && change.position && change.dragging);
    if (moves.length) {
      setDrag((before) => {
        const next = new Map(before);
        for (const change of moves) if (change.type === "position" && change.position) place(next, scene, change.id, change.position.x, change.position.y);
        return next;
      });
    }
    selectBy(changes, "");
  }, [scene]);
  const onEdgesChange = useCallback((changes: EdgeChange[]) => selectBy(changes, "~"), []);

  const onDragStop = useCallback(() => {
    setDrag((places) => {
      const moved = new Map([...places].filter(([id]) => !id.startsWith("$frame:")).map(([id, [x, y]]): [string, [number, number]] => [id, clampInside(id, x, y)]));
      if (moved.size) queueMicrotask(() => drop(moved));
      return new Map();
    });
  }, []);

  const onConnect = useCallback((c: Connection) => {
    const from = { id: c.source, handle: c.sourceHandle ?? "" };
    const to = { id: c.target, handle: c.targetHandle ?? "" };
    const screen = canvasHand.lastPointer;
    tryConnect(from, to, screen, flow.screenToFlowPosition(screen));
  }, [flow]);
  const onConnectStart = useCallback((_: unknown, { nodeId, handleId, handleType }: OnConnectStartParams) => {
    const from = { id: nodeId ?? "", handle: handleId ?? "" };
    useView.getState().set({ dragging: { from, type: typesNow().ofHandle(from.id, from.handle), source: handleType === "source" } });
  }, []);
  const onConnectEnd = useCallback((event: globalThis.MouseEvent | TouchEvent, state: FinalConnectionState) => {
    const { dragging } = useView.getState();
    useView.getState().set({ dragging: null });
    if (state.toHandle || !dragging) return;
    dropWire(dragging, pointer(event), flow, scene);
  }, [flow, scene]);
  const onReconnect = useCallback((old: Edge, c: Connection) => {
    const to = { id: c.target, handle: c.targetHandle ?? "" };
    const screen = canvasHand.lastPointer;
    const done = tryConnect({ id: c.source, handle: c.sourceHandle ?? "" }, to, screen, flow.screenToFlowPosition(screen));
    if (done && (old.target !== to.id || old.targetHandle !== to.handle)) apply(disconnect(typesNow(), { id: old.target, handle: old.targetHandle ?? "" }));
  }, [flow]);
  const onReconnectEnd = useCallback((_: unknown, edge: Edge, __: unknown, state: FinalConnectionState) => {
    useView.getState().set({ dragging: null });
    if (!state.toHandle) apply(disconnect(typesNow(), { id: edge.target, handle: edge.targetHandle ?? "" }));
  }, []);

  const onPaneClick = useCallback(() => useView.getState().select([]), []);
  const onDoubleClick = useCallback((event: MouseEvent) => {
    if (!(event.target as Element).classList.contains("react-flow__pane")) return;
    const at = flow.screenToFlowPosition({ x: event.clientX, y: event.clientY });
    const id = far ? hit(scene, at.x, at.y) : null;
    if (id) void flow.setCenter(at.x, at.y, { zoom: 0.9 });
    else useView.getState().set({ dialog: { kind: "search", at, screen: { x: event.clientX, y: event.clientY }, scope: scene.scope } });
  }, [far, flow, scene]);
  const onEdgeDoubleClick = useCallback((event: MouseEvent, edge: Edge) => {
    const { x, y } = flow.screenToFlowPosition({ x: event.clientX, y: event.clientY });
    const wire = scene.wires.find((w) => w.id === edge.id);
    if (!wire) return;
    const via: [number, number][] = [...wire.via, [Math.round(x), Math.round(y)]];
    apply(edits.setReroutes(wire.id, via.sort((a, b) => a[0] - b[0])));
  }, [flow, scene]);
  const onEdgeClick = useCallback((event: MouseEvent, edge: Edge) => {
    if (event.altKey) apply(disconnect(typesNow(), { id: edge.target, handle: edge.targetHandle ?? "" }));
  }, []);

  return (
    <ReactFlow
      className={far ? "is-far" : ""} nodes={nodes} edges={edges} nodeTypes={nodeTypes} edgeTypes={edgeTypes}
      onNodesChange={onNodesChange} onEdgesChange={onEdgesChange} onNodeDragStop={onDragStop} onSelectionDragStop={onDragStop}
      onConnect={onConnect} onConnectStart={onConnectStart} onConnectEnd={onConnectEnd} onReconnect={onReconnect} onReconnectEnd={onReconnectEnd}
      onPaneClick={onPaneClick} onDoubleClick={onDoubleClick} onEdgeDoubleClick={onEdgeDoubleClick} onEdgeClick={onEdgeClick}
      onlyRenderVisibleElements minZoom={0.02} maxZoom={2.5} deleteKeyCode={null} selectionKeyCode={far ? null : SHIFT_KEYS} multiSelectionKeyCode={MULTI_KEYS}
      disableKeyboardA11y nodesFocusable={false} edgesFocusable={false} zoomOnDoubleClick={false} reconnectRadius={9} connectionRadius={22} elevateNodesOnSelect={false} proOptions={{ hideAttribution: false }}
    >
      {far ? <><FarView scene={scene} /><FarHand scene={scene} /></> : <Background variant={BackgroundVariant.Dots} gap={24} size={1.4} />}
      <Knife scene={scene} />
      <Minimap scene={scene} />
    </ReactFlow>
  );
}

/** Where a dragged node, or a frame with all it owns, is for now. */
function place(places: Map<string, [number, number]>, scene: Scene, id: string, x: number, y: number): void {
  const box = scene.byId.get(id);
  places.set(id, [x, y]);
  if (!box || box.kind !== "frame") return;
  const owned = activeDoc().ui?.frames?.[id.slice(7)]?.nodes ?? [];
  for (const node of owned) {
    const own = scene.byId.get(node);
    if (own) places.set(node, [own.x + x - box.x, own.y + y - box.y]);
  }
}

function selectBy(changes: (NodeChange | EdgeChange)[], mark: string): void {
  const chosen = changes.filter((change) => change.type === "select");
  if (!chosen.length) return;
  const next = new Set(useView.getState().selection);
  for (const change of chosen) {
    if (change.selected) next.add(mark + change.id);
    else next.delete(mark + change.id);
  }
  useView.getState().select(next);
}

/** A wire let go over a node takes its best socket; over nothing it opens the search for nodes that fit. */
function dropWire(drag: { from: End; type: string; source: boolean }, screen: { x: number; y: number }, flow: ReturnType<typeof useReactFlow>, scene: Scene): void {
  const at = flow.screenToFlowPosition(screen);
  const under = document.elementFromPoint(screen.x, screen.y)?.closest<HTMLElement>(".react-flow__node")?.dataset.id;
  const box = under ? scene.byId.get(under) : undefined;
  if (box && box.kind === "node" && under !== drag.from.id) {
    const type = drag.source ? "target" : "source";
    const score = (socket: string) => (drag.source ? fitScore(drag.type, socket) : fitScore(socket, drag.type));
    const [best] = box.handles.filter((h) => h.type === type).sort((a, b) => score(b.socket) - score(a.socket));
    if (best) {
      const end = { id: box.id, handle: best.id };
      tryConnect(drag.source ? drag.from : end, drag.source ? end : drag.from, screen, at);
      return;
    }
  }
  const scope = box?.kind === "loop" ? box.id : drag.from.handle.match(/^[st]:/) && !/\$(in|out)$/.test(drag.from.id) ? drag.from.id : splitId(drag.from.id).scope;
  const inLoop = scene.byId.get(scope);
  const origin = inLoop ? absolute(scene, inLoop) : { x: 0, y: 0 };
  useView.getState().set({ dialog: { kind: "search", at: { x: at.x - origin.x, y: at.y - origin.y }, screen, scope, from: drag.from, type: drag.type } });
}

export function Canvas() {
  return (
    <div className="canvas" role="application" aria-label="Canvas" tabIndex={0} onPointerMove={(e) => canvasHand.moved(e)} onPointerUp={(e) => canvasHand.moved(e)}>
      <ReactFlowProvider><Flow /></ReactFlowProvider>
    </div>
  );
}
