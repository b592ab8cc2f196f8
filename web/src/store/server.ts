// What is fetched once or now and then: nodes at the start, then, when the page is idle, templates, jobs, memory.
import { create } from "zustand";
import { api, type System, type WorkflowEntry } from "../net/api";
import { makeRegistry } from "../model/registry";
import { failed } from "./actions";
import { useRuns } from "./runs";
import { useView } from "./view";

interface Server {
  system: System | null;
  workflows: WorkflowEntry[];
  ready: boolean;
}

export const useServer = create<Server>()(() => ({ system: null, workflows: [], ready: false }));
export const useSystem = (): System | null => useServer((state) => state.system);
export const useTemplates = (): WorkflowEntry[] => useServer((state) => state.workflows);

const SYSTEM_MS = 5000;

export async function loadRegistry(): Promise<void> {
  const { nodes, types } = await api.nodes();
  useView.getState().set({ registry: makeRegistry(nodes, types) });
  useServer.setState({ ready: true });
}

export async function loadWorkflows(): Promise<void> {
  const { workflows } = await api.workflows();
  useServer.setState({ workflows });
}

export async function loadJobs(): Promise<void> {
  const page = await api.jobs({ limit: "40" });
  useRuns.getState().putJobs(page.jobs);
  useRuns.getState().set({ counts: page.counts, paused: page.paused });
}

/** Memory is asked for only while the page is seen. */
export function watchSystem(): () => void {
  const ask = async (): Promise<void> => {
    if (document.hidden) return;
    try {
      useServer.setState({ system: await api.system() });
    } catch {
      useServer.setState({ system: null });
    }
  };
  void ask();
  const timer = setInterval(() => void ask(), SYSTEM_MS);
  return () => clearInterval(timer);
}

export async function reload(): Promise<void> {
  try {
    await Promise.all([loadRegistry(), loadWorkflows(), loadJobs()]);
    useView.getState().say("Nodes, workflows and runs are read again.");
  } catch (error) {
    failed(error);
  }
}
