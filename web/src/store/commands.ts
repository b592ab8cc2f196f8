// Every command with its name and keys: the palette lists them, the keyboard runs them. ComfyUI's keys where it has some.
import { canvasHand } from "../canvas/hand";
import { copy, isClip, paste } from "../model/clipboard";
import * as edits from "../model/edit";
import { LOOP, nodeAt, splitId } from "../model/paths";
import * as actions from "./actions";
import { activeDoc, activeTab, useDocs } from "./docs";
import { sceneNow } from "./scene";
import { reload } from "./server";
import { useView } from "./view";
import { walk } from "./walk";
import { chosenWire, cutWires, defineChosen, renameShown, searchOnWire } from "./wires";
import { align, distribute } from "./align";

export interface Command {
  id: string;
  title: string;
  keys?: string[];
  run: () => void;
}

const view = () => useView.getState();
const chosen = (): string[] => [...view().selection];
const nodes = (): string[] => chosen().filter((id) => nodeAt(activeDoc(), id));

async function writeClipboard(): Promise<void> {
  const clip = copy(activeDoc(), nodes());
  if (!clip) return;
  held = JSON.stringify(clip);
  try {
    await navigator.clipboard.writeText(held);
  } catch {
    // a page without that right keeps what was copied to itself
  }
  view().say(`Copied ${Object.keys(clip.nodes).length} nodes with their wires.`);
}

let held = "";

async function pasteFrom(outside: boolean): Promise<void> {
  let text = held;
  try {
    text = (await navigator.clipboard.readText()) || held;
  } catch {
    text = held;
  }
  let value: unknown = null;
  try {
    value = JSON.parse(text);
  } catch {
    value = null;
  }
  if (!isClip(value)) {
    view().say("There are no nodes to paste.", "error");
    return;
  }
  const made = paste(activeDoc(), value, actions.scopeForNew(), [40, 40], outside);
  actions.apply(made);
  view().select(made.ids);
}

function duplicate(): void {
  const clip = copy(activeDoc(), nodes());
  if (!clip) return;
  const made = paste(activeDoc(), clip, splitId(nodes()[0]).scope, [40, 40], true);
  actions.apply({ ...made, label: made.label.replace("Paste", "Duplicate") });
  view().select(made.ids);
}

function removeChosen(): void {
  cutWires(sceneNow().wires.filter((wire) => view().selection.has(`~${wire.id}`)));
  actions.removeSelected();
}

function openDefinition(): void {
  const [id] = nodes();
  const spec = id ? nodeAt(activeDoc(), id) : undefined;
  const tab = activeTab(useDocs.getState());
  if (!spec || !tab) return;
  if (spec.type.startsWith("#")) useDocs.getState().change(tab.id, { scope: spec.type });
  else if (spec.type === LOOP) actions.apply(edits.toggleCollapsed(activeDoc(), [id]));
  else view().set({ panels: { ...view().panels, inspector: true } });
}

function addNoteHere(): void {
  const { at } = canvasHand.middle();
  actions.apply(edits.addNote(activeDoc(), [Math.round(at.x), Math.round(at.y)], "A note"));
}

const panel = (name: "library" | "inspector" | "drawer") => () => view().set({ panels: { ...view().panels, [name]: !view().panels[name] } });
const openSearch = (): void => {
  const wire = chosenWire();
  if (wire) return searchOnWire(wire);
  const { at, screen } = canvasHand.middle();
  view().set({ dialog: { kind: "search", at, screen: { x: screen.x - 200, y: screen.y - 200 }, scope: actions.scopeForNew() } });
};

export const COMMANDS: Command[] = [
  { id: "run", title: "Run", keys: ["Ctrl+Enter"], run: () => void actions.run() },
  { id: "run-front", title: "Run next, before what waits", keys: ["Ctrl+Shift+Enter"], run: () => void actions.run({ front: true }) },
  { id: "run-here", title: "Run to the chosen node", keys: ["Ctrl+Shift+H"], run: actions.runToHere },
  { id: "cancel", title: "Cancel the run", keys: ["Ctrl+Alt+Enter"], run: () => void actions.cancelShown() },
  { id: "finish", title: "Stop and save: end the loop after this pass, run what follows", run: () => void actions.finishShown() },
  { id: "pause", title: "Pause: stop the run and keep its newest pass", run: () => void actions.cancelShown() },
  { id: "go-on", title: "Go on with the run that was stopped", run: actions.goOnShown },
  { id: "add", title: "Add a node…", keys: ["Tab", "A"], run: openSearch },
  { id: "wire", title: "Wire the chosen node…", keys: ["W"], run: () => nodes()[0] && view().set({ dialog: { kind: "wire", id: nodes()[0] } }) },
  { id: "palette", title: "Commands…", keys: ["Ctrl+K"], run: () => view().set({ dialog: { kind: "palette" } }) },
  { id: "find", title: "Find a node on the canvas…", keys: ["Ctrl+F"], run: () => view().set({ dialog: { kind: "find" } }) },
  { id: "undo", title: "Undo", keys: ["Ctrl+Z"], run: actions.undoStep },
  { id: "redo", title: "Redo", keys: ["Ctrl+Shift+Z", "Ctrl+Y"], run: actions.redoStep },
  { id: "save", title: "Save", keys: ["Ctrl+S"], run: () => void actions.save() },
  { id: "save-as", title: "Save as…", keys: ["Ctrl+Shift+S"], run: () => view().set({ dialog: { kind: "save" } }) },
  { id: "new", title: "New workflow", keys: ["Alt+N"], run: actions.newDocument },
  { id: "copy", title: "Copy", keys: ["Ctrl+C"], run: () => void writeClipboard() },
  { id: "paste", title: "Paste", keys: ["Ctrl+V"], run: () => void pasteFrom(false) },
  { id: "paste-wired", title: "Paste with wires from outside", keys: ["Ctrl+Shift+V"], run: () => void pasteFrom(true) },
  { id: "duplicate", title: "Duplicate", keys: ["Ctrl+D"], run: duplicate },
  { id: "delete", title: "Delete", keys: ["Delete", "Backspace"], run: removeChosen },
  { id: "select-all", title: "Choose all", keys: ["Ctrl+A"], run: actions.selectAll },
  { id: "bypass", title: "Bypass", keys: ["Ctrl+B"], run: () => actions.apply(edits.setMode(activeDoc(), nodes(), "bypass")) },
  { id: "mute", title: "Mute", keys: ["Ctrl+M"], run: () => actions.apply(edits.setMode(activeDoc(), nodes(), "mute")) },
  { id: "collapse", title: "Collapse or open", keys: ["Alt+C"], run: () => actions.apply(edits.toggleCollapsed(activeDoc(), nodes())) },
  { id: "frame", title: "Frame the chosen nodes", keys: ["Ctrl+G"], run: () => actions.apply(edits.addFrame(activeDoc(), chosen())) },
  { id: "define", title: "Make a definition of the chosen nodes…", keys: ["Ctrl+Shift+G"], run: defineChosen },
  { id: "rename-definition", title: "Rename the definition…", keys: ["F2"], run: renameShown },
  { id: "note", title: "Add a note", keys: ["N"], run: addNoteHere },
  { id: "tidy", title: "Tidy", keys: ["L"], run: actions.tidyUp },
  { id: "align-left", title: "Align left edges", run: () => align("left") },
  { id: "align-top", title: "Align top edges", run: () => align("top") },
  { id: "distribute-x", title: "Distribute left to right", run: () => distribute("x") },
  { id: "distribute-y", title: "Distribute top to bottom", run: () => distribute("y") },
  { id: "open", title: "Open definition or loop", keys: ["Enter"], run: openDefinition },
  { id: "fit", title: "Show everything", keys: ["."], run: () => canvasHand.fit() },
  { id: "fit-chosen", title: "Show what is chosen", keys: ["F"], run: () => chosen().length && canvasHand.fit(chosen()) },
  { id: "zoom-in", title: "Zoom in", keys: ["+", "="], run: () => canvasHand.zoom(2) },
  { id: "zoom-out", title: "Zoom out", keys: ["-"], run: () => canvasHand.zoom(0.5) },
  { id: "left", title: "Walk to what feeds this node", keys: ["ArrowLeft"], run: () => walk("left") },
  { id: "right", title: "Walk to what this node feeds", keys: ["ArrowRight"], run: () => walk("right") },
  { id: "up", title: "Walk up", keys: ["ArrowUp"], run: () => walk("up") },
  { id: "down", title: "Walk down", keys: ["ArrowDown"], run: () => walk("down") },
  { id: "nudge-left", title: "Move left", keys: ["Shift+ArrowLeft"], run: () => nudge(-10, 0) },
  { id: "nudge-right", title: "Move right", keys: ["Shift+ArrowRight"], run: () => nudge(10, 0) },
  { id: "nudge-up", title: "Move up", keys: ["Shift+ArrowUp"], run: () => nudge(0, -10) },
  { id: "nudge-down", title: "Move down", keys: ["Shift+ArrowDown"], run: () => nudge(0, 10) },
  { id: "edit-fields", title: "Edit the chosen node's values", keys: ["E"], run: editFields },
  { id: "reload", title: "Read nodes and workflows again", keys: ["R"], run: () => void reload() },
  { id: "library", title: "Library", keys: ["Alt+1"], run: panel("library") },
  { id: "inspector", title: "Inspector", keys: ["Alt+2"], run: panel("inspector") },
  { id: "drawer", title: "Runs and results", keys: ["Alt+3"], run: panel("drawer") },
  { id: "form", title: "Form of the inputs", keys: ["Alt+F"], run: () => view().set({ form: !view().form }) },
  { id: "export", title: "Export as JSON, Python or curl…", keys: ["Ctrl+E"], run: () => view().set({ dialog: { kind: "export" } }) },
  { id: "revisions", title: "Earlier versions…", run: () => view().set({ dialog: { kind: "revisions" } }) },
  { id: "theme", title: "Dark, light, or as the system", keys: ["Alt+T"], run: nextTheme },
  { id: "keys", title: "Keys", keys: ["?"], run: () => view().set({ dialog: { kind: "keys" } }) },
  { id: "clear", title: "Choose nothing", keys: ["Escape"], run: leave },
];

/** Escape gives back what was chosen last: first the nodes, then the opened definition. */
function leave(): void {
  const tab = activeTab(useDocs.getState());
  if (view().selection.size) view().select([]);
  else if (tab?.scope) useDocs.getState().change(tab.id, { scope: "" });
}

function nudge(dx: number, dy: number): void {
  const scene = sceneNow();
  const places = new Map(chosen().flatMap((id): [string, [number, number]][] => {
    const box = scene.byId.get(id);
    return box && box.kind !== "frame" ? [[id, [box.x + dx, box.y + dy]]] : [];
  }));
  if (places.size) actions.apply(edits.move(activeDoc(), places), `nudge ${chosen().join()}`);
}

function editFields(): void {
  const [id] = chosen();
  view().set({ panels: { ...view().panels, inspector: true } });
  requestAnimationFrame(() => document.querySelector<HTMLElement>(".inspector .line :is(input, textarea, select, button)")?.focus());
  void id;
}

export function nextTheme(): void {
  const order = ["system", "dark", "light"] as const;
  const next = order[(order.indexOf(view().theme) + 1) % order.length];
  view().set({ theme: next });
  view().say(`Theme: ${next}`);
}

export function keyName(event: KeyboardEvent): string {
  const key = event.key === " " ? "Space" : event.key.length === 1 ? event.key.toUpperCase() : event.key;
  const shift = event.shiftKey && (event.key.length > 1 || /[a-z]/i.test(event.key));
  return [event.ctrlKey || event.metaKey ? "Ctrl" : "", event.altKey ? "Alt" : "", shift ? "Shift" : "", key].filter(Boolean).join("+");
}

const BY_KEY = new Map(COMMANDS.flatMap((command) => (command.keys ?? []).map((key): [string, Command] => [key, command])));
const WHILE_TYPING = new Set(["run", "run-front", "cancel", "palette", "save", "save-as", "find"]);

/** Run the command of a key, unless it belongs to a field, a dialog or a control that has the focus. */
export function onKey(event: KeyboardEvent): void {
  const command = BY_KEY.get(keyName(event));
  if (!command || event.defaultPrevented) return;
  const target = event.target as HTMLElement;
  const typing = target.matches("input, textarea, select, [contenteditable]");
  if (document.querySelector("dialog[open]")) return;
  if (typing && !WHILE_TYPING.has(command.id)) return;
  const control = target.closest("button, a, summary, [role=tab], video");
  const plain = ["Tab", "Enter", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Shift+Tab", "Backspace"].includes(keyName(event));
  if (control && plain) return;
  if (command.id === "add" && event.key === "Tab" && !target.closest(".canvas") && target !== document.body) return;
  if (command.id === "copy" && String(getSelection()).length) return;
  event.preventDefault();
  command.run();
}

