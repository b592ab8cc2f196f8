// What commands, menus and buttons do: between documents, server and view. Draws nothing.
import { api, ApiError, type JobInfo } from "../net/api";
import { connect } from "../model/connect";
import * as edits from "../model/edit";
import { Types } from "../model/infer";
import { tidy, withPlaces } from "../model/layout";
import { graphAt, joinId, LOOP, nodeAt, splitId } from "../model/paths";
import { fitScore, type Bridge } from "../model/registry";
import type { Edit, End, Json, NodeInfo, Op, Workflow } from "../model/types";
import { activeDoc, activeScope, activeTab, BLANK, isChanged, useDocs } from "./docs";
import { useRuns } from "./runs";
import { useView } from "./view";

const view = () => useView.getState();
export const typesNow = (): Types => new Types(activeDoc(), view().registry);
export const apply = (edit: Edit, merge?: string): void => useDocs.getState().edit(edit, merge);

export function failed(error: unknown): void {
  const message = error instanceof ApiError ? [error.message, ...error.problems.slice(0, 2).map((p) => p.message)].join(" ") : error instanceof TypeError ? "The server cannot be reached; what you edit is kept here." : String(error);
  view().say(message, "error");
}

export function openDocument(document: Workflow, title: string, name: string | null = null): void {
  useDocs.getState().open({ document: withPlaces(document, view().registry), title, name });
  view().select([]);
  view().set({ dialog: null });
  useRuns.getState().set({ shown: "" });
}

export function newDocument(): void {
  openDocument(BLANK, "untitled");
}

export async function openNamed(name: string, user: boolean): Promise<void> {
  try {
    openDocument(await api.workflow(name), name, user ? name : null);
  } catch (error) {
    failed(error);
  }
}

export async function save(as?: string): Promise<void> {
  const tab = activeTab(useDocs.getState());
  if (!tab) return;
  const name = as ?? tab.name;
  if (!name) {
    view().set({ dialog: { kind: "save" } });
    return;
  }
  try {
    await api.saveWorkflow(name, tab.history.doc);
    useDocs.getState().change(tab.id, { saved: tab.history.doc, name, title: name });
    view().say(`Saved as ${name}.`);
    view().set({ dialog: null });
  } catch (error) {
    failed(error);
  }
}

/** Seeds that change after each run: the document itself says how, under ui.after_run. */
function afterRun(doc: Workflow): Op[] {
  const ops: Op[] = [];
  for (const [place, how] of Object.entries(doc.ui?.after_run ?? {})) {
    const [id, port] = place.split(".");
    const input = id === "inputs";
    const path = input ? ["inputs", port, "default"] : ["nodes", id, "params", port];
    const now = input ? doc.inputs?.[port]?.default : nodeAt(doc, id)?.params?.[port];
    if (typeof now !== "number") continue;
    ops.push({ path, value: how === "next" ? now + 1 : Math.floor(Math.random() * 2 ** 31) });
  }
  return ops;
}

export async function run(options: { outputs?: string[]; front?: boolean } = {}): Promise<void> {
  const tab = activeTab(useDocs.getState());
  if (!tab) return;
  const doc = tab.history.doc;
  try {
    const job = await api.submit({ workflow: doc, title: tab.title, ...options });
    useRuns.getState().putJobs([job]);
    useRuns.getState().set({ shown: job.id, problems: [] });
    view().say(`Run ${job.number} is queued.`);
    const ops = afterRun(doc);
    if (ops.length) apply({ label: "New seed", ops });
  } catch (error) {
    if (error instanceof ApiError && error.problems.length) {
      useRuns.getState().set({ problems: error.problems });
      goToProblem(0);
      view().say(`${error.problems[0].message} ${error.problems[0].hint}`, "error");
    } else failed(error);
  }
}

export function runToHere(): void {
  const [id] = view().selection;
  if (id && nodeAt(activeDoc(), id)) void run({ outputs: [id] });
}

export async function cancelShown(): Promise<void> {
  const { shown, jobs } = useRuns.getState();
  const job = jobs[shown] ?? Object.values(jobs).find((j) => j.state === "running");
  if (!job) return;
  try {
    useRuns.getState().putJobs([await api.jobVerb(job.id, "cancel")]);
    if (Object.keys(useRuns.getState().curves[job.id] ?? {}).length) view().say(`Run ${job.number} stops. The newest pass of its loop is kept: Go on takes it up there.`);
  } catch (error) {
    failed(error);
  }
}

/** The loop of the run that is shown ends after its pass, and what follows it runs: weights are written. */
export async function finishShown(): Promise<void> {
  const { shown, jobs } = useRuns.getState();
  const job = jobs[shown] ?? Object.values(jobs).find((j) => j.state === "running");
  if (!job) return;
  try {
    await api.jobVerb(job.id, "finish");
    view().say(`The loop of run ${job.number} ends after this pass; what follows it runs.`);
  } catch (error) {
    failed(error);
  }
}

/** The same work again: what was kept of it is not done twice, and a loop goes on after its newest kept pass. */
export async function goOn(id: string): Promise<void> {
  try {
    const job = await api.jobVerb(id, "retry");
    useRuns.getState().putJobs([job]);
    useRuns.getState().set({ shown: job.id });
  } catch (error) {
    failed(error);
  }
}

export function goOnShown(): void {
  const { shown, jobs } = useRuns.getState();
  const job = jobs[shown];
  if (job?.state === "cancelled" || job?.state === "failed" || (job?.state === "done" && job.id in useRuns.getState().cuts)) void goOn(job.id);
  else view().say("No run that was stopped is shown: choose one under Runs.", "error");
}

export async function refreshJob(id: string): Promise<JobInfo | null> {
  try {
    const job = await api.job(id);
    useRuns.getState().putJobs([job]);
    return job;
  } catch {
    return null;
  }
}

/** `denoise/velocity.scale` -> the node and its field. */
export function placeOf(place: string): { id: string; port: string } {
  const cut = place.lastIndexOf("/");
  const dot = place.indexOf(".", cut + 1);
  return dot < 0 ? { id: place, port: "" } : { id: place.slice(0, dot), port: place.slice(dot + 1).replace(/^(params|links)\./, "") };
}

export function reveal(id: string, port = ""): void {
  const { scope } = splitId(id);
  const tab = activeTab(useDocs.getState());
  const top = scope.startsWith("#") ? scope.split("/")[0] : "";
  if (tab && tab.scope !== top) useDocs.getState().change(tab.id, { scope: top });
  view().select([id]);
  view().set({ focusField: { id, port } });
}

export function goToProblem(i: number): void {
  const problem = useRuns.getState().problems[i];
  if (!problem) return;
  const { id, port } = placeOf(problem.place);
  reveal(id === "inputs" ? "$in" : id, port);
}

/** The graph that new nodes belong to: that of the chosen loop, or of the chosen node. */
export function scopeForNew(): string {
  const [id] = view().selection;
  const spec = id ? nodeAt(activeDoc(), id) : undefined;
  if (!id || !spec) return activeScope();
  const folded = activeDoc().ui?.collapsed?.includes(id);
  return spec.type === LOOP && !folded ? id : splitId(id).scope;
}

/** Wire what is without doubt: each required socket that exactly one free, fitting end of the chosen node answers. */
function wiresFor(id: string, info: NodeInfo, near: string): Edit | null {
  if (splitId(near).scope !== splitId(id).scope || !nodeAt(activeDoc(), near)) return null;
  const types = typesNow();
  const ops: Op[] = [];
  for (const port of info.inputs) {
    if (port.literal) continue;
    const fitting = types.portsOf(near).outputs.filter((output) => fitScore(output.type, port.type) >= 2);
    if (fitting.length !== 1) continue;
    const made = connect(types, { id: near, handle: `o:${fitting[0].name}` }, { id, handle: `i:${port.name}` });
    if ("edit" in made) ops.push(...made.edit.ops);
  }
  return ops.length ? { label: "Connect", ops } : null;
}

export interface NewNode {
  info: NodeInfo;
  scope: string;
  at: [number, number];
  from?: End;
  near?: string;
}

/** Add a node; wired to where a dropped wire came from, or to the chosen node where that is without doubt. One step. */
export function insertNode({ info, scope, at, from, near }: NewNode, merge = `add ${info.id} ${Date.now()}`): string {
  const added = edits.addNode(activeDoc(), scope, info, at);
  apply(added, merge);
  const types = typesNow();
  if (from) {
    const isSource = from.handle.startsWith("o:") || from.handle.startsWith("s:");
    const type = types.ofHandle(from.id, from.handle);
    const ports = types.portsOf(added.id);
    const best = isSource
      ? [...ports.inputs].sort((a, b) => fitScore(type, b.type) - fitScore(type, a.type))[0]
      : [...ports.outputs].sort((a, b) => fitScore(b.type, type) - fitScore(a.type, type))[0];
    if (best) {
      const end = { id: added.id, handle: `${isSource ? "i" : "o"}:${best.name}` };
      const made = isSource ? connect(types, from, end) : connect(types, end, from);
      if ("edit" in made) apply(made.edit, merge);
    }
  } else if (near) {
    const wires = wiresFor(added.id, info, near);
    if (wires) apply(wires, merge);
  }
  view().select([added.id]);
  const recent = [info.id, ...view().recent.filter((id) => id !== info.id)].slice(0, 6);
  view().set({ recent, dialog: null });
  return added.id;
}

/** The remedy for a refused wire: a node in between, wired on both sides. */
export function insertBridge(bridge: Bridge, from: End, to: End, at: [number, number]): void {
  const scope = to.handle.startsWith("t:") && !to.id.endsWith("$out") ? to.id : splitId(to.id).scope;
  const added = edits.addNode(activeDoc(), scope, bridge.info, at);
  const merge = `bridge ${added.id} ${Date.now()}`;
  apply(added, merge);
  const first = connect(typesNow(), from, { id: added.id, handle: `i:${bridge.input.name}` });
  if ("edit" in first) apply(first.edit, merge);
  const second = connect(typesNow(), { id: added.id, handle: `o:${bridge.output}` }, to);
  if ("edit" in second) apply(second.edit, merge);
  view().select([added.id]);
  view().set({ dialog: null });
}

export function setValue(id: string, port: string, value: Json | undefined): void {
  apply(edits.setParam(id, port, value), `param ${id}.${port}`);
}

export function removeSelected(): void {
  const ids = [...view().selection].filter((id) => !edits.isEdge(id));
  if (!ids.length) return;
  apply(edits.removeNodes(activeDoc(), ids));
  view().select([]);
}

export function tidyUp(): void {
  const chosen = [...view().selection].filter((id) => nodeAt(activeDoc(), id));
  const scope = chosen.length > 1 ? splitId(chosen[0]).scope : activeScope();
  const only = chosen.length > 1 ? new Set(chosen) : undefined;
  const before = activeDoc().ui?.positions ?? {};
  const after = tidy(activeDoc(), scope, view().registry, only);
  const ops = Object.entries(after).filter(([id, at]) => before[id]?.[0] !== at[0] || before[id]?.[1] !== at[1]).map(([id, at]): Op => ({ path: ["ui", "positions", id], value: at }));
  apply({ label: only ? `Tidy ${only.size} nodes` : "Tidy", ops });
}

export function selectAll(): void {
  const scope = activeScope();
  view().select(Object.keys(graphAt(activeDoc(), scope)?.nodes ?? {}).map((name) => joinId(scope, name)));
}

export function undoStep(): void {
  const label = useDocs.getState().undo();
  if (label) view().say(`Undid: ${label}`);
}

export function redoStep(): void {
  const label = useDocs.getState().redo();
  if (label) view().say(`Did again: ${label}`);
}

export function closeTab(id: string): void {
  const tab = useDocs.getState().tabs.find((t) => t.id === id);
  useDocs.getState().close(id);
  if (tab && isChanged(tab)) view().say(`${tab.title} was closed; its draft stays under Revisions.`);
  if (!useDocs.getState().tabs.length) newDocument();
}
