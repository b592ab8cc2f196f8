// What of the page is shown and chosen: theme, panels, selection, dialogs, messages. Part of no document.
import { create } from "zustand";
import type { Bridge } from "../model/registry";
import { EMPTY_REGISTRY, type Registry } from "../model/registry";
import type { End } from "../model/types";

export type Theme = "system" | "dark" | "light";
export type DrawerTab = "runs" | "gallery" | "metrics" | "data" | "problems" | "log";
export type Point = { x: number; y: number };

export type Dialog =
  | { kind: "search"; at: Point; screen: Point; scope: string; from?: End; type?: string; wire?: string }
  | { kind: "refusal"; screen: Point; at: Point; reason: string; bridges: Bridge[]; from: End; to: End }
  | { kind: "palette" } | { kind: "find" } | { kind: "wire"; id: string } | { kind: "keys" } | { kind: "export" } | { kind: "revisions" }
  | { kind: "save" } | { kind: "define"; ids: string[] } | { kind: "rename"; definition: string } | { kind: "player"; files: string[] }
  | null;

export interface Toast {
  id: number;
  text: string;
  tone: "info" | "error";
}

interface View {
  theme: Theme;
  registry: Registry;
  selection: ReadonlySet<string>;
  dialog: Dialog;
  panels: { library: boolean; inspector: boolean; drawer: boolean };
  drawerTab: DrawerTab;
  form: boolean;
  toasts: Toast[];
  dragging: { from: End; type: string; source: boolean } | null;
  recent: string[];
  favourites: string[];
  focusField: { id: string; port: string } | null;
  set(change: Partial<Omit<View, "set" | "say">>): void;
  select(ids: Iterable<string>): void;
  say(text: string, tone?: Toast["tone"]): void;
}

function stored<T>(key: string, fallback: T): T {
  try {
    const text = localStorage.getItem(`kineograph.${key}`);
    return text === null ? fallback : (JSON.parse(text) as T);
  } catch {
    return fallback;
  }
}

export function remember(key: string, value: unknown): void {
  try {
    localStorage.setItem(`kineograph.${key}`, JSON.stringify(value));
  } catch {
    // a full or forbidden store costs only the memory of how the page looked
  }
}

let toasts = 0;
const narrow = typeof window !== "undefined" && window.innerWidth < 800;
const TOAST_MS = 6000;

export const useView = create<View>()((set, get) => ({
  theme: stored<Theme>("theme", "system"),
  registry: EMPTY_REGISTRY,
  selection: new Set(),
  dialog: null,
  panels: narrow ? { library: false, inspector: false, drawer: false } : stored("panels", { library: true, inspector: true, drawer: true }),
  drawerTab: "runs",
  form: narrow,
  toasts: [],
  dragging: null,
  recent: stored("recent", []),
  favourites: stored("favourites", []),
  focusField: null,
  set: (change) => {
    set(change);
    if (change.theme) remember("theme", change.theme);
    if (change.panels) remember("panels", change.panels);
    if (change.recent) remember("recent", change.recent);
    if (change.favourites) remember("favourites", change.favourites);
  },
  select: (ids) => {
    const next = new Set(ids);
    const now = get().selection;
    if (next.size === now.size && [...next].every((id) => now.has(id))) return;
    set({ selection: next });
  },
  say: (text, tone = "info") => {
    const toast = { id: ++toasts, text, tone };
    set((state) => ({ toasts: [...state.toasts.slice(-3), toast] }));
    setTimeout(() => set((state) => ({ toasts: state.toasts.filter((t) => t !== toast) })), TOAST_MS);
  },
}));
