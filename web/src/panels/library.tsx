// The library at the left: nodes by search, what fits the chosen node's output, favourites, recent, and templates.
import { useMemo, useState, type KeyboardEvent } from "react";
import { canvasHand } from "../canvas/hand";
import { Glyph } from "../canvas/socket";
import { fitScore, searchNodes } from "../model/registry";
import { absolute } from "../model/scene";
import type { NodeInfo } from "../model/types";
import type { WorkflowEntry } from "../net/api";
import { insertNode, openNamed, scopeForNew, typesNow } from "../store/actions";
import { sceneNow } from "../store/scene";
import { useTemplates } from "../store/server";
import { useView } from "../store/view";
import { activeDoc } from "../store/docs";
import { nodeAt } from "../model/paths";

const MOST = 60;

export const glyphType = (info: NodeInfo): string => info.outputs[0]?.type ?? info.inputs.find((port) => !port.literal)?.type ?? "any";

/** Add a node right of the chosen one, else in the middle of what is seen. */
export function addFromList(info: NodeInfo): void {
  const scope = scopeForNew();
  const scene = sceneNow();
  const [chosen] = useView.getState().selection;
  const near = chosen && nodeAt(activeDoc(), chosen) && chosen !== scope ? scene.byId.get(chosen) : undefined;
  const { at } = canvasHand.middle();
  const loop = scene.byId.get(scope);
  const origin = loop ? absolute(scene, loop) : { x: 0, y: 0 };
  const inner = loop ? [...scene.byId.values()].filter((box) => box.parent === scope) : [];
  const place: [number, number] = near
    ? [near.x + near.w + 70, near.y]
    : loop ? [Math.max(152, ...inner.map((box) => box.x + box.w + 60)), 60] : [Math.round(at.x - origin.x - 125), Math.round(at.y - origin.y - 60)];
  const id = insertNode({ info, scope, at: free(place, scope), near: near?.id });
  canvasHand.show(id);
}

/** A place near the wanted one that no node of the scope covers. */
function free([x, y]: [number, number], scope: string): [number, number] {
  const mine = sceneNow().boxes.filter((box) => (box.parent ?? "") === (scope.startsWith("#") ? "" : scope) && box.kind !== "frame");
  for (let i = 0; i < 40; i++) {
    const other = mine.find((box) => x < box.x + box.w + 10 && x + 260 > box.x && y < box.y + box.h + 10 && y + 120 > box.y);
    if (!other) break;
    y = other.y + other.h + 28;
  }
  return [Math.round(x), Math.round(y)];
}

export function Library() {
  const [text, setText] = useState("");
  const registry = useView((state) => state.registry);
  const recent = useView((state) => state.recent);
  const favourites = useView((state) => state.favourites);
  const selection = useView((state) => state.selection);
  const templates = useTemplates();
  const [chosen] = selection;
  const output = useMemo(() => (chosen && nodeAt(activeDoc(), chosen) ? typesNow().portsOf(chosen).outputs[0]?.type : undefined), [chosen]);
  const found = useMemo(() => (text ? searchNodes(registry, text).slice(0, MOST) : []), [registry, text]);
  const accepting = useMemo(() => (output && !text ? searchNodes(registry, "", (info) => Math.max(0, ...info.inputs.map((port) => fitScore(output, port.type)))).slice(0, 6) : []), [registry, output, text]);
  const categories = useMemo(() => [...Map.groupBy(registry.nodes, (info) => info.category || "nodes")].sort((a, b) => a[0].localeCompare(b[0])), [registry]);
  const known = (ids: string[]): NodeInfo[] => ids.map((id) => registry.byId.get(id)).filter((info) => info !== undefined);
  const onKey = (event: KeyboardEvent): void => {
    if (event.key === "Enter" && found[0]) addFromList(found[0]);
  };
  const matching = templates.filter((t) => !text || `${t.name} ${t.about}`.toLowerCase().includes(text.toLowerCase()));
  return (
    <nav className="library" aria-label="Library">
      <input className="text-input" type="search" aria-label="Search nodes" placeholder={`Search ${registry.nodes.length} nodes`} value={text} onChange={(e) => setText(e.target.value)} onKeyDown={onKey} />
      {found.length ? <Group title="Nodes" nodes={found} /> : null}
      {accepting.length ? <Group title={`Accepts ${output?.replace(/^Stream\[(.*)\]$/, "a stream of $1")}`} nodes={accepting} /> : null}
      {!text && favourites.length ? <Group title="Favourites" nodes={known(favourites)} /> : null}
      {!text && recent.length ? <Group title="Recent" nodes={known(recent)} /> : null}
      {matching.some((t) => t.user) ? <h2 className="section">Yours</h2> : null}
      {matching.filter((t) => t.user).map((t) => <Template key={t.name} entry={t} />)}
      {matching.length ? <h2 className="section">Templates</h2> : null}
      {matching.filter((t) => !t.user).map((t) => <Template key={t.name} entry={t} />)}
      {!text ? <h2 className="section">All nodes</h2> : null}
      {!text ? categories.map(([category, nodes]) => <Category key={category} title={category} nodes={nodes} />) : null}
    </nav>
  );
}

function Category({ title, nodes }: { title: string; nodes: NodeInfo[] }) {
  const [open, setOpen] = useState(false);
  return (
    <details onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary className="entry">{title}<span className="side">{nodes.length}</span></summary>
      {open ? <Group nodes={nodes} /> : null}
    </details>
  );
}

function Template({ entry: { name, title, about, user } }: { entry: WorkflowEntry }) {
  return (
    <button type="button" className="entry" title={about} onClick={() => void openNamed(name, user)}>
      <Glyph type={/train|finetune|evaluate|scaling/.test(name) ? "Dataset" : /image|frame/.test(name) ? "Video" : "TextEmbedding"} />
      <span className="title">{title}</span>
    </button>
  );
}

function Group({ title, nodes }: { title?: string; nodes: NodeInfo[] }) {
  const favourites = useView((state) => state.favourites);
  const toggle = (id: string): void => useView.getState().set({ favourites: favourites.includes(id) ? favourites.filter((f) => f !== id) : [...favourites, id] });
  return (
    <>
      {title ? <h2 className="section">{title}</h2> : null}
      {nodes.map((info) => (
        <div key={info.id} className="entry-row">
          <button type="button" className="entry" title={info.summary} onClick={() => addFromList(info)}>
            <Glyph type={glyphType(info)} /><span className="title">{info.title}</span><span className="side">{info.category}</span>
          </button>
          <button type="button" className="star" aria-pressed={favourites.includes(info.id)} aria-label={`Favourite ${info.title}`} onClick={() => toggle(info.id)}>★</button>
        </div>
      ))}
    </>
  );
}
