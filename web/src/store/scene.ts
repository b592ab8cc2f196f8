// The scene of the active document, built once for each change and shared by all who draw or ask.
import { useMemo } from "react";
import { buildScene, type Scene } from "../model/scene";
import { activeTab, BLANK, useDocs } from "./docs";
import { useView } from "./view";
import type { Registry } from "../model/registry";
import type { Workflow } from "../model/types";

let last: { doc: Workflow; scope: string; registry: Registry; scene: Scene } | null = null;

export function sceneOf(doc: Workflow, scope: string, registry: Registry): Scene {
  if (last && last.doc === doc && last.scope === scope && last.registry === registry) return last.scene;
  last = { doc, scope, registry, scene: buildScene(doc, scope, registry) };
  return last.scene;
}

export function sceneNow(): Scene {
  const tab = activeTab(useDocs.getState());
  return sceneOf(tab?.history.doc ?? BLANK, tab?.scope ?? "", useView.getState().registry);
}

export function useScene(): Scene {
  const doc = useDocs((state) => activeTab(state)?.history.doc ?? BLANK);
  const scope = useDocs((state) => activeTab(state)?.scope ?? "");
  const registry = useView((state) => state.registry);
  return useMemo(() => sceneOf(doc, scope, registry), [doc, scope, registry]);
}
