// The server's HTTP interface as functions. Every refusal becomes an ApiError with the server's sentence.
import type { Json, NodeInfo, Problem, TypeInfo, Workflow } from "../model/types";

export interface OutputFile {
  id: string;
  name: string;
  node: string;
  media_type: string;
  nbytes: number;
  width?: number | null;
  height?: number | null;
  frames?: number | null;
  fps?: number | null;
  seconds?: number | null;
}

export interface JobError {
  path: string;
  node_type: string;
  message: string;
  hint?: string;
  traceback?: string;
  input?: string;
}

export type JobState = "queued" | "running" | "done" | "failed" | "cancelled";

export interface JobInfo {
  id: string;
  number: number;
  state: JobState;
  title: string;
  tags: string[];
  starred: boolean;
  created: number;
  started: number | null;
  ended: number | null;
  seconds: number | null;
  inputs: Record<string, Json>;
  workflow?: Workflow;
  outputs: OutputFile[];
  values?: Record<string, Json>;
  error: JobError | null;
  timings?: Record<string, { seconds: number; nbytes: number; cached: boolean; cut?: number }>;
  ran?: number | null;
  cached?: number | null;
  progress?: { path: string; done: number; total: number; seconds_left: number } | null;
  position?: number | null;
}

export interface JobPage {
  jobs: JobInfo[];
  next: string;
  total: number;
  counts: Record<string, number>;
  paused: boolean;
}

export interface System {
  version: string;
  memory: { total: number; available: number; server: number; workers: number };
  devices: { name: string; kind: string; memory_total: number | null; memory_free: number | null }[];
  safe_mode?: boolean;
}

export interface Upload {
  path: string;
  id: string;
  media_type: string;
  nbytes: number;
  width?: number;
  height?: number;
  frames?: number;
  fps?: number;
  workflow: Workflow | null;
}

export interface PlanNode {
  key: string;
  cached: string;
  why: string;
}

export interface Estimate {
  [key: string]: unknown;
}

export interface WorkflowEntry {
  name: string;
  title: string;
  about: string;
  user: boolean;
  modified: number | null;
  nodes?: number;
}

export class ApiError extends Error {
  constructor(readonly status: number, readonly code: string, message: string, readonly problems: Problem[], readonly body: unknown) {
    super(message);
  }
}

async function call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const answer = await fetch(`/api/${path}`, {
    method, signal,
    headers: method === "GET" ? undefined : { "Content-Type": "application/json" },
    body: method === "GET" || method === "DELETE" ? undefined : JSON.stringify(body ?? {}),
  });
  return read<T>(answer);
}

async function read<T>(answer: Response): Promise<T> {
  const text = await answer.text();
  let json: unknown = null;
  try {
    json = text ? JSON.parse(text) : null;
  } catch {
    json = null;
  }
  if (answer.ok) return json as T;
  const error = (json as { error?: { code?: string; message?: string; problems?: Problem[] } } | null)?.error;
  const message = error?.message ?? `The server answered ${answer.status}.`;
  throw new ApiError(answer.status, error?.code ?? "", message, error?.problems ?? [], json);
}

export const api = {
  nodes: () => call<{ nodes: NodeInfo[]; types: TypeInfo[] }>("GET", "nodes"),
  system: () => call<System>("GET", "system"),
  workflows: () => call<{ workflows: WorkflowEntry[] }>("GET", "workflows"),
  workflow: async (name: string) => {
    const found = await call<Workflow | { workflow: Workflow }>("GET", `workflows/${encodeURIComponent(name)}`);
    return "workflow" in found ? found.workflow : found;
  },
  saveWorkflow: (name: string, workflow: Workflow) => call<unknown>("PUT", `workflows/${encodeURIComponent(name)}`, { workflow }),
  check: (workflow: Workflow, signal?: AbortSignal) => call<{ ok: boolean; problems: Problem[] }>("POST", "check", { workflow }, signal),
  plan: (workflow: Workflow, signal?: AbortSignal) => call<{ ok: boolean; problems: Problem[]; nodes: Record<string, PlanNode> }>("POST", "plan", { workflow }, signal),
  estimate: (workflow: Workflow, signal?: AbortSignal) => call<Estimate>("POST", "estimate", { workflow }, signal),
  submit: (job: { workflow: Workflow; outputs?: string[]; title?: string; front?: boolean }) => call<JobInfo>("POST", "jobs", job),
  jobs: (query: Record<string, string>) => call<JobPage>("GET", `jobs?${new URLSearchParams(query)}`),
  job: (id: string) => call<JobInfo>("GET", `jobs/${id}`),
  changeJob: (id: string, change: Partial<Pick<JobInfo, "title" | "tags" | "starred">>) => call<JobInfo>("PATCH", `jobs/${id}`, change),
  deleteJob: (id: string) => call<unknown>("DELETE", `jobs/${id}`),
  jobVerb: (id: string, verb: "cancel" | "finish" | "retry" | "move", body: unknown = {}) => call<JobInfo>("POST", `jobs/${id}/${verb}`, body),
  metrics: async (id: string) => {
    const found = await call<Record<string, [number, number][]> | { metrics: Record<string, [number, number][]> }>("GET", `jobs/${id}/metrics`);
    return ("metrics" in found ? found.metrics : found) as Record<string, [number, number][]>;
  },
  queue: (verb: "pause" | "resume" | "cancel-all") => call<unknown>("POST", `queue/${verb}`),
  models: () => call<{ name: string }[] | { models: { name: string }[] }>("GET", "models"),
  uploads: () => call<{ uploads: { path: string }[] } | { path: string }[]>("GET", "uploads"),
  exportAs: (workflow: Workflow, as: "python" | "curl" | "json") => call<{ text: string }>("POST", "export", { workflow, inputs: {}, as }),
  draft: (id: string) => call<{ document: Workflow; title: string; revision: number }>("GET", `drafts/${id}`),
  saveDraft: (id: string, draft: { document: Workflow; title: string; base: number | null }) => call<{ revision: number }>("PUT", `drafts/${id}`, draft),
  deleteDraft: (id: string) => call<unknown>("DELETE", `drafts/${id}`),
  revisions: (id: string) => call<{ revisions: { revision: number; modified: number; title?: string }[] }>("GET", `drafts/${id}/revisions`),
  revision: (id: string, n: number) => call<{ document: Workflow }>("GET", `drafts/${id}/revisions/${n}`),
  upload: async (file: Blob, name: string): Promise<Upload> => {
    const answer = await fetch(`/api/uploads?name=${encodeURIComponent(name)}`, {
      method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file,
    });
    return read<Upload>(answer);
  },
};

export const fileUrl = (id: string): string => `/api/files/${id}`;
export const stripUrl = (id: string, count: number, height: number): string => `/api/files/${id}/strip?count=${count}&height=${height}`;
export const frameUrl = (id: string, n: number): string => `/api/files/${id}/frame?n=${n}`;
