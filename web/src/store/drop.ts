// Files let go over the page: a workflow opens, a result gives its workflow back, a clip is uploaded as a node.
import type { DragEvent } from "react";
import { canvasHand } from "../canvas/hand";
import { api, ApiError } from "../net/api";
import type { Workflow } from "../model/types";
import { failed, insertNode, openDocument, scopeForNew, setValue } from "./actions";
import { useView } from "./view";

export function onDragOver(event: DragEvent): void {
  if (event.dataTransfer.types.includes("Files")) event.preventDefault();
}

export function onDrop(event: DragEvent): void {
  const files = [...event.dataTransfer.files];
  if (!files.length) return;
  event.preventDefault();
  for (const file of files) void take(file, { x: event.clientX, y: event.clientY });
}

export async function take(file: File, screen: { x: number; y: number }): Promise<void> {
  try {
    if (/\.json$/i.test(file.name)) {
      openDocument(JSON.parse(await file.text()) as Workflow, file.name.replace(/\.json$/i, ""));
      return;
    }
    const upload = await api.upload(file, file.name);
    if (upload.workflow) openDocument(upload.workflow, file.name);
    else addLoader(upload.path, file.name, screen);
  } catch (error) {
    if (error instanceof SyntaxError) useView.getState().say(`${file.name} is not JSON: ${error.message}`, "error");
    else if (error instanceof ApiError && error.status === 404) useView.getState().say("This server takes no uploads.", "error");
    else failed(error);
  }
}

/** The node that reads such a file, with its path typed in. */
export function addLoader(path: string, name: string, screen: { x: number; y: number }): string | null {
  const ending = name.slice(name.lastIndexOf(".")).toLowerCase();
  const registry = useView.getState().registry;
  const info = registry.nodes.find((node) => node.inputs.some((port) => port.file_endings?.includes(ending)));
  if (!info) {
    useView.getState().say(`No node reads ${ending} files; ${name} was uploaded as ${path}.`, "error");
    return null;
  }
  const at = canvasHand.under(screen);
  const id = insertNode({ info, scope: scopeForNew(), at: [Math.round(at.x), Math.round(at.y)] });
  setValue(id, info.inputs.find((port) => port.file_endings?.includes(ending))!.name, path);
  return id;
}
