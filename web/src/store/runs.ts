// What runs and ran: jobs, the progress of each node, curves, pictures while it runs. Fed by events, in any order.
import { create } from "zustand";
import type { Estimate, JobInfo, PlanNode } from "../net/api";
import type { Logged } from "../net/events";
import type { Problem } from "../model/types";

export interface Live {
  state: "running" | "done" | "cached" | "failed" | "resumed";
  done?: number;
  total?: number;
  left?: number;
  seconds?: number;
  nbytes?: number;
  message?: string;
}

export interface Curve {
  steps: number[];
  values: number[];
}

interface Runs {
  connected: boolean | null;
  jobs: Record<string, JobInfo>;
  live: Record<string, Record<string, Live>>;
  curves: Record<string, Record<string, Curve>>;
  alarms: Record<string, string>;
  /** After how many passes a loop of a job was finished early. */
  cuts: Record<string, number>;
  /** Of each job the newest step that was known when a file was written, by the file's id. */
  written: Record<string, Record<string, number>>;
  previews: Record<string, string>;
  log: { at: number; job: string; text: string }[];
  shown: string;
  counts: Record<string, number>;
  paused: boolean;
  problems: Problem[];
  plan: Record<string, PlanNode>;
  estimate: Estimate | null;
  take(logged: Logged): void;
  putJobs(jobs: JobInfo[]): void;
  set(change: Partial<Omit<Runs, "set" | "take" | "putJobs">>): void;
}

const LOG_LINES = 500;
const text = (value: unknown): string => (typeof value === "string" ? value : "");
const number = (value: unknown): number => (typeof value === "number" ? value : NaN);

/** A node's state after one event; undefined where the event is of no node. */
export function nextLive(before: Live | undefined, event: Logged["event"]): Live | undefined {
  switch (event.event) {
    case "NodeStarted":
      return before && before.state !== "running" && before.state !== "resumed" ? before : { state: "running", ...before };
    case "NodeProgress": {
      if (before && before.state !== "running" && before.state !== "resumed") return before;
      const done = Math.max(number(event.done), before?.done ?? 0);
      return { ...before, state: "running", done, total: number(event.total), left: number(event.seconds_left) };
    }
    case "NodeResumed":
      return { state: "resumed", done: number(event.done), total: number(event.total) };
    case "NodeCached":
      return { state: "cached" };
    case "NodeFinished":
      return { ...before, state: "done", seconds: number(event.seconds), nbytes: number(event.nbytes) };
    case "NodeFailure":
      return { ...before, state: "failed", message: text(event.message) };
    default:
      return undefined;
  }
}

/** A curve with one point more; points may come late or twice, steps stay rising. */
export function withPoint(curve: Curve | undefined, step: number, value: number): Curve {
  if (!curve) return { steps: [step], values: [value] };
  const last = curve.steps[curve.steps.length - 1];
  if (step > last) return { steps: [...curve.steps, step], values: [...curve.values, value] };
  const at = curve.steps.findIndex((s) => s >= step);
  const replace = curve.steps[at] === step ? 1 : 0;
  return { steps: curve.steps.toSpliced(at, replace, step), values: curve.values.toSpliced(at, replace, value) };
}

export function liveOf(job: JobInfo): Record<string, Live> {
  const live: Record<string, Live> = {};
  for (const [path, t] of Object.entries(job.timings ?? {})) live[path] = t.cached ? { state: "cached" } : { state: "done", seconds: t.seconds, nbytes: t.nbytes };
  if (job.progress && job.state === "running") live[job.progress.path] = { state: "running", done: job.progress.done, total: job.progress.total, left: job.progress.seconds_left };
  if (job.error?.path) live[job.error.path] = { state: "failed", message: job.error.message };
  return live;
}

const RANK = { queued: 0, running: 1, done: 2, failed: 2, cancelled: 2 };

/** Answers and events overtake each other: a job that ran does not wait again. */
export function isOlder(job: Pick<JobInfo, "state">, known: Pick<JobInfo, "state"> | undefined): boolean {
  return known !== undefined && RANK[job.state] < RANK[known.state];
}

export const useRuns = create<Runs>()((set) => ({
  connected: null, jobs: {}, live: {}, curves: {}, alarms: {}, cuts: {}, written: {}, previews: {}, log: [], shown: "", counts: {}, paused: false, problems: [], plan: {}, estimate: null,
  set: (change) => set(change),
  putJobs: (jobs) =>
    set((state) => {
      const fresh = jobs.filter((job) => !isOlder(job, state.jobs[job.id]));
      const live = { ...state.live };
      for (const job of fresh) live[job.id] = { ...live[job.id], ...liveOf(job) };
      const cuts = { ...state.cuts };
      for (const job of fresh) for (const { cut } of Object.values(job.timings ?? {})) if (cut !== undefined) cuts[job.id] = cut;
      return { jobs: { ...state.jobs, ...Object.fromEntries(fresh.map((job) => [job.id, { ...state.jobs[job.id], ...job }])) }, live, cuts };
    }),
  take: ({ job, at, event }) =>
    set((state) => {
      const change: Partial<Runs> = {};
      const path = text(event.path);
      const live = nextLive(state.live[job]?.[path], event);
      if (live && live !== state.live[job]?.[path]) change.live = { ...state.live, [job]: { ...state.live[job], [path]: live } };
      if (event.event === "Metric") {
        const name = `${path} ${text(event.name)}`;
        const value = number(event.value);
        if (Number.isNaN(value)) change.alarms = { ...state.alarms, [job]: `${text(event.name)} is not a number at step ${String(event.step)}` };
        const curves = state.curves[job] ?? {};
        change.curves = { ...state.curves, [job]: { ...curves, [name]: withPoint(curves[name], number(event.step), value) } };
      }
      if (event.event === "FileWritten") {
        const step = Math.max(...Object.values(state.curves[job] ?? {}).map((curve) => curve.steps.at(-1) ?? 0), 0);
        change.written = { ...state.written, [job]: { ...state.written[job], [text(event.id)]: step } };
      }
      if (event.event === "LoopCut") change.cuts = { ...state.cuts, [job]: number(event.done) };
      if (event.event === "QueueChanged") Object.assign(change, { counts: event.counts, paused: event.paused === true });
      if (event.event === "NodeProgress" && state.jobs[job]) {
        const progress = { path, done: number(event.done), total: number(event.total), seconds_left: number(event.seconds_left) };
        change.jobs = { ...state.jobs, [job]: { ...state.jobs[job], progress } };
      }
      if (!["NodeProgress", "Metric", "QueueChanged", "NodeStarted"].includes(event.event)) {
        change.log = [...state.log, { at, job, text: describe(event) }].slice(-LOG_LINES);
      }
      return change;
    }),
}));

function describe(event: Logged["event"]): string {
  const { event: kind, ...rest } = event;
  const parts = Object.entries(rest).filter(([, value]) => typeof value !== "object" && value !== "").map(([key, value]) => `${key} ${typeof value === "number" ? +value.toPrecision(4) : String(value)}`);
  return `${kind.replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase()}: ${parts.join(", ")}`;
}

/** The state of one node in the run that is shown; instances of definitions have paths of their own. */
export function useLive(path: string): Live | undefined {
  return useRuns((state) => state.live[state.shown]?.[path]);
}
