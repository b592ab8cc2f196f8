// The lists that are chosen from by typing: nodes to add (by name and by a wire's type), commands, finds, wires.
import { Glyph } from "../canvas/socket";
import { canvasHand } from "../canvas/hand";
import { partners } from "../model/connect";
import { between } from "../model/onwire";
import { everyNode, splitId } from "../model/paths";
import { fitScore, searchNodes } from "../model/registry";
import type { NodeInfo } from "../model/types";
import { apply, insertNode, reveal, typesNow } from "../store/actions";
import { connect } from "../model/connect";
import { COMMANDS } from "../store/commands";
import { activeDoc } from "../store/docs";
import { sceneNow } from "../store/scene";
import { insertInto } from "../store/wires";
import { useView, type Dialog } from "../store/view";
import { addFromList, glyphType } from "../panels/library";
import { Chooser, closeDialog, type Option } from "./dialog";

type Search = Extract<Dialog, { kind: "search" }>;

export function SearchDialog({ dialog }: { dialog: Search }) {
  const registry = useView((state) => state.registry);
  const { from, type } = dialog;
  const source = from ? /^[os]:/.test(from.handle) : true;
  const wire = dialog.wire ? sceneNow().wires.find(({ id }) => id === dialog.wire) : undefined;
  const types = typesNow();
  const fit = (info: NodeInfo): number => {
    if (wire && !between(types, wire, info)) return 0;
    if (!type || type === "any") return 1;
    const ports = source ? info.inputs : info.outputs;
    return Math.max(0, ...ports.map((port) => (source ? fitScore(type, port.type) : fitScore(port.type, type))));
  };
  const options = (text: string): Option[] =>
    searchNodes(registry, text, from ? fit : undefined).map((info) => ({
      id: info.id, node: <><Glyph type={glyphType(info)} /><span>{info.title}</span></>, side: info.category, about: info.summary,
      run: () => {
        if (wire) {
          insertInto(wire, info);
          return;
        }
        if (!from) {
          closeDialog();
          addFromList(info);
          return;
        }
        insertNode({ info, scope: dialog.scope, at: [Math.round(dialog.at.x), Math.round(dialog.at.y) - 40], from });
      },
    }));
  const label = wire ? `Nodes that fit into this wire of ${wire.type}` : from ? `Nodes that ${source ? "take" : "make"} ${type}` : "Add a node";
  const empty = wire ? `No node takes ${wire.type} and makes what this wire ends in.` : type ? `No node ${source ? "takes" : "makes"} ${type}.` : "No node is called so.";
  return <Chooser label={label} placeholder={label} options={options} at={dialog.screen} empty={empty} />;
}

export function PaletteDialog() {
  const options = (text: string): Option[] => {
    const words = text.toLowerCase().split(/\s+/);
    return COMMANDS.filter((command) => words.every((word) => command.title.toLowerCase().includes(word))).map((command) => ({
      id: command.id, node: <span>{command.title}</span>, side: command.keys?.[0] ? <kbd>{command.keys[0]}</kbd> : null,
      run: () => {
        closeDialog();
        setTimeout(command.run);
      },
    }));
  };
  return <Chooser label="Commands" placeholder="What to do?" options={options} empty="There is no such command." />;
}

export function FindDialog() {
  const registry = useView((state) => state.registry);
  const options = (text: string): Option[] => {
    const words = text.toLowerCase().split(/\s+/);
    return [...everyNode(activeDoc())]
      .map(([id, spec]) => ({ id, spec, title: spec.title || registry.byId.get(spec.type)?.title || spec.type }))
      .filter(({ id, title, spec }) => words.every((word) => `${id} ${title} ${JSON.stringify(spec.params ?? {})}`.toLowerCase().includes(word)))
      .map(({ id, title }) => ({
        id, node: <span>{title}</span>, side: <span className="mono">{id}</span>,
        run: () => {
          closeDialog();
          reveal(id);
          setTimeout(() => canvasHand.show(id));
        },
      }));
  };
  return <Chooser label="Find a node" placeholder="Name, type or value" options={options} empty="Nothing is called so in this workflow." />;
}

/** Wiring by keyboard: every pair of ends that fits, for the chosen node; typing narrows. */
export function WireDialog({ id }: { id: string }) {
  const all = partners(typesNow(), id, sceneNow());
  const options = (text: string): Option[] => {
    const words = text.toLowerCase().split(/\s+/);
    return all.filter((pair) => words.every((word) => pair.text.toLowerCase().includes(word))).map((pair) => ({
      id: `${pair.from.id}${pair.from.handle}>${pair.to.id}${pair.to.handle}`,
      node: <><Glyph type={typesNow().ofHandle(pair.from.id, pair.from.handle)} /><span>{pair.text}</span></>,
      run: () => {
        const wiring = connect(typesNow(), pair.from, pair.to);
        if ("edit" in wiring) apply(wiring.edit);
        closeDialog();
      },
    }));
  };
  return <Chooser label={`Wire ${splitId(id).name}`} placeholder={`Wire ${splitId(id).name}: type a name`} options={options} empty="Nothing fits." />;
}
