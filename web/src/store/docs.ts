// The open documents: one tab each, with its history, the graph that is shown of it, and what of it is saved.
import { create } from "zustand";
import { graphAt } from "../model/paths";
import type { Edit, Workflow } from "../model/types";
import { applyEdit, redo, startHistory, undo, type History } from "./history";

export interface Tab {
  id: string;
  title: string;
  name: string | null;
  history: History<Workflow>;
  saved: Workflow;
  scope: string;
  revision: number | null;
  conflict: { revision: number; document: Workflow } | null;
}

interface Docs {
  tabs: Tab[];
  active: string;
  open(tab: { document: Workflow; title: string; name?: string | null; id?: string; revision?: number | null; changed?: boolean }): string;
  close(id: string): void;
  activate(id: string): void;
  edit(edit: Edit, merge?: string): void;
  undo(): string;
  redo(): string;
  change(id: string, change: Partial<Tab>): void;
}

export const BLANK: Workflow = { format: 1, nodes: {} };

/** Unique enough for names of drafts; crypto.randomUUID needs a secure page, which a LAN address is not. */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export const isChanged = (tab: Tab): boolean => tab.history.doc !== tab.saved;

/** A tab that shows a definition which is no more shows the workflow. */
const inside = (tab: Tab): Tab => (tab.scope && !graphAt(tab.history.doc, tab.scope) ? { ...tab, scope: "" } : tab);

export const useDocs = create<Docs>()((set, get) => {
  const onActive = (to: (tab: Tab) => Tab): void =>
    set((state) => ({ tabs: state.tabs.map((tab) => (tab.id === state.active ? to(tab) : tab)) }));
  return {
    tabs: [],
    active: "",
    open: ({ document, title, name = null, id = newId(), revision = null, changed = false }) => {
      const tab: Tab = { id, title, name, history: startHistory(document), saved: changed ? BLANK : document, scope: "", revision, conflict: null };
      set((state) => {
        const current = state.tabs.find((t) => t.id === state.active);
        const reuse = current && !isChanged(current) && !current.name && Object.keys(current.history.doc.nodes).length === 0;
        const tabs = reuse ? state.tabs.map((t) => (t === current ? tab : t)) : [...state.tabs, tab];
        return { tabs, active: id };
      });
      return id;
    },
    close: (id) =>
      set((state) => {
        const at = state.tabs.findIndex((tab) => tab.id === id);
        const tabs = state.tabs.filter((tab) => tab.id !== id);
        const next = state.active === id ? (tabs[Math.min(at, tabs.length - 1)]?.id ?? "") : state.active;
        return { tabs, active: next };
      }),
    activate: (id) => set({ active: id }),
    edit: (edit, merge) => onActive((tab) => ({ ...tab, history: applyEdit(tab.history, edit, Date.now(), merge) })),
    undo: () => {
      const label = activeTab(get())?.history.past.at(-1)?.label ?? "";
      onActive((tab) => inside({ ...tab, history: undo(tab.history) }));
      return label;
    },
    redo: () => {
      const label = activeTab(get())?.history.future[0]?.label ?? "";
      onActive((tab) => inside({ ...tab, history: redo(tab.history) }));
      return label;
    },
    change: (id, change) => set((state) => ({ tabs: state.tabs.map((tab) => (tab.id === id ? { ...tab, ...change } : tab)) })),
  };
});

export function activeTab(state: Pick<Docs, "tabs" | "active">): Tab | undefined {
  return state.tabs.find((tab) => tab.id === state.active);
}

export const activeDoc = (): Workflow => activeTab(useDocs.getState())?.history.doc ?? BLANK;
export const activeScope = (): string => activeTab(useDocs.getState())?.scope ?? "";
