// A document with its named steps back and forth. Pure: every change gives a new history.
import { applyOps } from "../model/patch";
import type { Edit, Op } from "../model/types";

export interface Step {
  label: string;
  forward: Op[];
  back: Op[];
  merge?: string;
  at: number;
}

export interface History<T> {
  doc: T;
  past: Step[];
  future: Step[];
}

const MOST_STEPS = 200;
const MERGE_MS = 1000;

export const startHistory = <T>(doc: T): History<T> => ({ doc, past: [], future: [] });

/** One step more. Steps with the same `merge` in quick succession (typing, dragging) become one. */
export function applyEdit<T>(history: History<T>, edit: Edit, now: number, merge?: string): History<T> {
  if (!edit.ops.length) return history;
  const { tree, inverse } = applyOps(history.doc, edit.ops);
  const last = history.past.at(-1);
  if (merge && last?.merge === merge && now - last.at < MERGE_MS) {
    const joined: Step = { ...last, forward: [...last.forward, ...edit.ops], back: [...inverse, ...last.back], at: now };
    return { doc: tree, past: [...history.past.slice(0, -1), joined], future: [] };
  }
  const step: Step = { label: edit.label, forward: edit.ops, back: inverse, merge, at: now };
  return { doc: tree, past: [...history.past, step].slice(-MOST_STEPS), future: [] };
}

export function undo<T>(history: History<T>): History<T> {
  const step = history.past.at(-1);
  if (!step) return history;
  return { doc: applyOps(history.doc, step.back).tree, past: history.past.slice(0, -1), future: [step, ...history.future] };
}

export function redo<T>(history: History<T>): History<T> {
  const [step, ...future] = history.future;
  if (!step) return history;
  return { doc: applyOps(history.doc, step.forward).tree, past: [...history.past, { ...step, merge: undefined }], future };
}
