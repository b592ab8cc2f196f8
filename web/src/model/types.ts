// The shapes of the workflow file (format 1) and of what the server says about nodes. Holds no behaviour.

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type Mode = "mute" | "bypass";

/** A node of a graph; a loop (`loop@1`) has `each`, `carry`, `collect`, `until` and `body` as well. */
export interface NodeSpec {
  type: string;
  params?: Record<string, Json>;
  links?: Record<string, string>;
  mode?: Mode;
  title?: string;
  each?: string;
  carry?: Record<string, string>;
  collect?: string[];
  until?: string;
  body?: Body;
}

export interface Body {
  nodes: Record<string, NodeSpec>;
  outputs: Record<string, string>;
}

export interface InputSpec {
  type: string;
  default?: Json;
  about?: string;
}

export interface Definition {
  about?: string;
  inputs?: Record<string, InputSpec>;
  nodes: Record<string, NodeSpec>;
  outputs?: Record<string, { type: string; link: string }>;
}

export interface Note {
  text: string;
  at: [number, number];
  size: [number, number];
}

/** A frame is drawn around the nodes it owns, so it needs no place of its own. */
export interface Frame {
  title: string;
  color: string;
  nodes: string[];
}

/** The editor's own part of the file. Keys are paths of nodes: `denoise/step`, `#name@1/step`. */
export interface Ui {
  positions?: Record<string, [number, number]>;
  collapsed?: string[];
  frames?: Record<string, Frame>;
  notes?: Record<string, Note>;
  reroutes?: Record<string, [number, number][]>;
  after_run?: Record<string, "random" | "next">;
  [key: string]: unknown;
}

export interface Workflow {
  format: 1;
  about?: string;
  inputs?: Record<string, InputSpec>;
  definitions?: Record<string, Definition>;
  nodes: Record<string, NodeSpec>;
  outputs?: Record<string, string>;
  ui?: Ui;
}

export interface PortInfo {
  name: string;
  title: string;
  type: string;
  required: boolean;
  default?: Json;
  doc: string;
  minimum?: number | null;
  maximum?: number | null;
  exclusive_minimum?: number | null;
  exclusive_maximum?: number | null;
  step?: number | null;
  choices?: Json[] | null;
  multiline?: boolean;
  file_endings?: string[] | null;
  output_endings?: string[] | null;
  literal: boolean;
  list_of?: string | null;
}

export interface OutputInfo {
  name: string;
  type: string;
  doc: string;
}

export interface NodeInfo {
  id: string;
  name: string;
  version: number;
  title: string;
  doc: string;
  summary: string;
  category: string;
  pack: string;
  effect: boolean;
  control: "" | "loop" | "branch";
  inputs: PortInfo[];
  outputs: OutputInfo[];
}

export type Family =
  | "model" | "text" | "latent" | "frames" | "codec" | "schedule" | "training" | "audio" | "value" | "any";
export type SocketShape = "square" | "circle" | "diamond" | "triangle" | "ring";

export interface TypeInfo {
  name: string;
  family: Family;
  shape: SocketShape;
  list: boolean;
  doc: string;
}

export interface Problem {
  place: string;
  message: string;
  hint: string;
}

/** Where a wire begins or ends: a node of the scene and one of its handles (see handles.ts). */
export interface End {
  id: string;
  handle: string;
}

/** One change of a document: the value at a path; undefined takes it away. `at` is the key's place among its siblings. */
export interface Op {
  path: string[];
  value: unknown;
  at?: number;
}

/** A named step of the history. */
export interface Edit {
  label: string;
  ops: Op[];
}
