// How large a node is and where its sockets sit, worked out from its ports alone: nothing is ever measured on the page.
import { LOOP } from "./paths";
import { isLiteral } from "./registry";
import type { Ports } from "./infer";
import type { Json, NodeSpec, PortInfo } from "./types";

export const WIDTH = 250;
export const HEADER = 34;
export const ROW = 22;
export const FIELD = 30;
export const AREA = 64;
export const PREVIEW = 172;
export const RAIL = 104;
export const PAD = 28;
const MOST_FIELDS = 6;

export interface Socket {
  name: string;
  label: string;
  type: string;
  doc: string;
  required: boolean;
}

export interface SocketRow {
  in?: Socket;
  out?: Socket;
}

export interface Field {
  port: PortInfo;
  value: Json | undefined;
  given: boolean;
  height: number;
}

/** A place where wires begin (source) or end (target), relative to its node. */
export interface Handle {
  id: string;
  type: "source" | "target";
  x: number;
  y: number;
  side: "left" | "right";
  socket: string;
}

export interface Shape {
  w: number;
  h: number;
  rows: SocketRow[];
  fields: Field[];
  hidden: number;
  preview: boolean;
  handles: Handle[];
  fieldsY: number;
  previewY: number;
}

const socket = (port: { name: string; type: string; doc: string; required?: boolean }): Socket => ({
  name: port.name, label: port.name.replace(/_/g, " "), type: port.type, doc: port.doc, required: port.required ?? false,
});

export const fieldHeight = (port: PortInfo): number => (port.multiline ? AREA : FIELD);

/** `Stream[SigmaStep]` -> `sigma step stream`: what an only output is called. */
export function spoken(type: string): string {
  const item = type.replace(/Stream\[|\]/g, "").replace(/([a-z])([A-Z])/g, "$1 $2");
  return `${/^[A-Z]+$/.test(item) ? item : item.toLowerCase()}${type.startsWith("Stream[") ? " stream" : ""}`;
}

/** Literals that are not wired are fields; what was changed or must be given comes first where there are many. */
function fieldsOf(spec: NodeSpec, inputs: PortInfo[]): { shown: Field[]; hidden: number } {
  const free = inputs.filter((port) => (port.literal || isLiteral(port.type) || spec.params?.[port.name] !== undefined) && !spec.links?.[port.name]);
  const all = free.map((port) => {
    const given = spec.params !== undefined && port.name in spec.params;
    return { port, given, value: given ? spec.params?.[port.name] : port.default, height: fieldHeight(port) };
  });
  if (all.length <= MOST_FIELDS) return { shown: all, hidden: 0 };
  const first = [...all].sort((a, b) => Number(b.given || b.port.required) - Number(a.given || a.port.required));
  const kept = new Set(first.slice(0, MOST_FIELDS - 1));
  return { shown: all.filter((field) => kept.has(field)), hidden: all.length - kept.size };
}

const PREVIEWED = [".mp4", ".webm", ".png", ".webp", ".jpg", ".jpeg"];

/** Nodes that leave a picture or a clip keep room to show it. */
export function hasPreview(inputs: PortInfo[], effect: boolean): boolean {
  return effect && inputs.some((port) => port.name === "path" && (
    port.output_endings?.some((ending) => PREVIEWED.includes(ending)) ?? PREVIEWED.some((ending) => String(port.default ?? "").endsWith(ending))));
}

export function shapeOf(spec: NodeSpec, ports: Ports, effect: boolean, collapsed: boolean): Shape {
  const loop = spec.type === LOOP;
  const { shown, hidden } = loop ? { shown: [], hidden: 0 } : fieldsOf(spec, ports.inputs);
  const asField = new Set(shown.map((field) => field.port.name));
  const wired = ports.inputs.filter((port) => !asField.has(port.name) && (loop || spec.links?.[port.name] || !(port.literal || isLiteral(port.type))));
  const ins = wired.map(socket);
  const outs = ports.outputs.map((output) => socket({ ...output, name: output.name, required: false }));
  if (outs.length === 1 && outs[0].name === "output") outs[0].label = spoken(outs[0].type);
  const rows = Array.from({ length: Math.max(ins.length, outs.length) }, (_, i) => ({ in: ins[i], out: outs[i] }));
  const fieldsY = HEADER + 6 + rows.length * ROW + (rows.length ? 4 : 2);
  const more = hidden ? ROW : 0;
  const previewY = fieldsY + shown.reduce((sum, field) => sum + field.height, 0) + more;
  const preview = hasPreview(ports.inputs, effect);
  const open = previewY + (preview ? PREVIEW : 0) + 8;
  const h = collapsed ? HEADER + 2 : open;
  const handles: Handle[] = [];
  const put = (id: string, type: Handle["type"], y: number, kind: string): void => {
    handles.push({ id, type, side: type === "target" ? "left" : "right", x: type === "target" ? 0 : WIDTH, y: collapsed ? HEADER / 2 + 2 : y, socket: kind });
  };
  rows.forEach((row, i) => {
    const y = HEADER + 6 + i * ROW + ROW / 2;
    if (row.in) put(`i:${row.in.name}`, "target", y, row.in.type);
    if (row.out) put(`o:${row.out.name}`, "source", y, row.out.type);
  });
  let y = fieldsY;
  for (const field of shown) {
    put(`i:${field.port.name}`, "target", y + (field.height - 4) / 2, field.port.type);
    y += field.height;
  }
  return { w: WIDTH, h, rows: collapsed ? [] : rows, fields: collapsed ? [] : shown, hidden: collapsed ? 0 : hidden, preview: preview && !collapsed, handles, fieldsY, previewY };
}

export interface Rails {
  left: { name: string; label: string; outer: boolean; inner: string | null; type: string; kind: "each" | "index" | "carry" | "link" | "new"; innerType: string }[];
  right: { name: string; label: string; outer: boolean; type: string; kind: "carry" | "collect" | "inner" | "new" }[];
}

/** What stands at a loop's two edges: each entry is a socket outside, one inside, or both. */
export function railsOf(spec: NodeSpec, ports: Ports, innerTypes: Map<string, string>): Rails {
  const type = (name: string) => ports.inputs.find((input) => input.name === name)?.type ?? "any";
  const left: Rails["left"] = [
    { name: "each", label: "each item", outer: true, inner: "item", type: type("each"), kind: "each", innerType: innerTypes.get("item") ?? "any" },
    { name: "index", label: "index", outer: false, inner: "index", type: "int", kind: "index", innerType: "int" },
  ];
  for (const name of Object.keys(spec.carry ?? {})) left.push({ name, label: name, outer: true, inner: name, type: type(name), kind: "carry", innerType: type(name) });
  for (const name of Object.keys(spec.links ?? {})) left.push({ name, label: name, outer: true, inner: name, type: type(name), kind: "link", innerType: type(name) });
  left.push({ name: "+", label: "bring in", outer: true, inner: null, type: "any", kind: "new", innerType: "any" });
  const carry = Object.keys(spec.carry ?? {});
  const made = (name: string) => ports.outputs.find((output) => output.name === name)?.type ?? "any";
  const right: Rails["right"] = carry.map((name) => ({ name, label: name, outer: true, type: made(name), kind: "carry" as const }));
  for (const name of Object.keys(spec.body?.outputs ?? {})) {
    if (carry.includes(name)) continue;
    const collected = spec.collect?.includes(name) ?? false;
    right.push({ name, label: name === spec.until ? `${name} (ends)` : name, outer: collected, type: made(name), kind: collected ? "collect" : "inner" });
  }
  right.push({ name: "+", label: "collect", outer: false, type: "any", kind: "new" });
  return { left, right };
}

export function railHandles(rails: Rails, w: number): Handle[] {
  const handles: Handle[] = [];
  const at = (i: number) => HEADER + 14 + i * ROW + ROW / 2;
  rails.left.forEach((entry, i) => {
    if (entry.outer) handles.push({ id: `i:${entry.name}`, type: "target", side: "left", x: 0, y: at(i), socket: entry.type });
    if (entry.inner) handles.push({ id: `s:${entry.inner}`, type: "source", side: "right", x: RAIL, y: at(i), socket: entry.innerType });
  });
  rails.right.forEach((entry, i) => {
    handles.push({ id: `t:${entry.name}`, type: "target", side: "left", x: w - RAIL, y: at(i), socket: entry.kind === "collect" ? entry.type.replace(/^Stream\[(.*)\]$/, "$1") : entry.type });
    if (entry.outer) handles.push({ id: `o:${entry.name}`, type: "source", side: "right", x: w, y: at(i), socket: entry.type });
  });
  return handles;
}
