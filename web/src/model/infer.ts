// The types along the wires of one document: what each link carries, what each node takes and gives. Changes nothing.
import { BRANCH, graphAt, INPUTS, joinId, LOOP, nodeAt, OUTPUTS, reference, splitId } from "./paths";
import { itemOf, type Registry } from "./registry";
import type { NodeSpec, OutputInfo, PortInfo, Workflow } from "./types";

export interface Ports {
  title: string;
  inputs: PortInfo[];
  outputs: OutputInfo[];
  known: boolean;
}

const port = (name: string, type: string, doc = "", required = true): PortInfo => ({
  name, title: name, type, required, doc, literal: ["int", "float", "str", "bool"].includes(type),
});

/** Types are worked out when they are asked for, and kept: a new document needs a new one of these. */
export class Types {
  private readonly ports = new Map<string, Ports>();
  private readonly asked = new Set<string>();

  constructor(readonly doc: Workflow, readonly registry: Registry) {}

  portsOf(id: string): Ports {
    const known = this.ports.get(id);
    if (known) return known;
    const spec = nodeAt(this.doc, id);
    if (!spec || this.asked.has(id)) return { title: "", inputs: [], outputs: [], known: false };
    this.asked.add(id);
    const made = this.make(id, spec);
    this.asked.delete(id);
    this.ports.set(id, made);
    return made;
  }

  private make(id: string, spec: NodeSpec): Ports {
    if (spec.type === LOOP) return this.loop(id, spec);
    if (spec.type === BRANCH) return this.branch(id, spec);
    if (spec.type.startsWith("#")) return this.instance(spec);
    const info = this.registry.byId.get(spec.type);
    if (info) return { title: info.title, inputs: info.inputs, outputs: info.outputs, known: true };
    const names = [...Object.keys(spec.links ?? {}), ...Object.keys(spec.params ?? {})];
    return { title: spec.type, inputs: names.map((name) => port(name, "any")), outputs: [], known: false };
  }

  private loop(id: string, spec: NodeSpec): Ports {
    const { scope } = splitId(id);
    const carried = Object.entries(spec.carry ?? {}).map(([name, link]) => port(name, this.ofLink(scope, link)));
    const linked = Object.entries(spec.links ?? {}).map(([name, link]) => port(name, this.ofLink(scope, link)));
    const collected = (spec.collect ?? []).map((name) => {
      const link = spec.body?.outputs[name];
      return { name, type: `Stream[${link ? this.ofLink(id, link) : "any"}]`, doc: "one item of each pass" };
    });
    return {
      title: "Loop", known: true,
      inputs: [port("each", "Stream[any]", "the stream it runs over: one pass for each item"), ...carried, ...linked].map((p) => ({ ...p, literal: false })),
      outputs: [...carried.map((p) => ({ name: p.name, type: p.type, doc: "as the last pass left it" })), ...collected],
    };
  }

  private branch(id: string, spec: NodeSpec): Ports {
    const { scope } = splitId(id);
    const side = (name: string) => (spec.links?.[name] ? this.ofLink(scope, spec.links[name]) : "any");
    const kind = side("then") === "any" ? side("else") : side("then");
    return {
      title: "Branch", known: true,
      inputs: [port("when", "bool", "which side is computed"), port("then", "any", "the output, if it is true"), port("else", "any", "the output, if it is false")],
      outputs: [{ name: "output", type: kind, doc: "the chosen side" }],
    };
  }

  private instance(spec: NodeSpec): Ports {
    const definition = this.doc.definitions?.[spec.type.slice(1)];
    const inputs = Object.entries(definition?.inputs ?? {}).map(([name, input]) => ({
      ...port(name, input.type, input.about ?? "", input.default === undefined || input.default === null), default: input.default,
    }));
    const outputs = Object.entries(definition?.outputs ?? {}).map(([name, output]) => ({ name, type: output.type, doc: "" }));
    return { title: spec.type.slice(1).split("@")[0], inputs, outputs, known: definition !== undefined };
  }

  /** What `$x` stands for in a scope: inputs of the workflow, of a definition or of a loop's body. */
  inputsOf(scope: string): Map<string, string> {
    const spec = nodeAt(this.doc, scope);
    if (scope.startsWith("#") && !scope.includes("/")) {
      const inputs = this.doc.definitions?.[scope.slice(1)]?.inputs ?? {};
      return new Map(Object.entries(inputs).map(([name, input]) => [name, input.type]));
    }
    if (!scope || !spec) return new Map(Object.entries(this.doc.inputs ?? {}).map(([name, input]) => [name, input.type]));
    const outer = splitId(scope).scope;
    const each = spec.each ? this.ofLink(outer, spec.each) : "any";
    const inner = new Map([["item", itemOf(each) ?? "any"], ["index", "int"]]);
    for (const [name, link] of Object.entries({ ...spec.carry, ...spec.links })) inner.set(name, this.ofLink(outer, link));
    return inner;
  }

  ofLink(scope: string, link: string): string {
    if (!link) return "any";
    const { node, port: name } = reference(link);
    if (!node) return this.inputsOf(scope).get(name) ?? "any";
    const outputs = this.portsOf(joinId(scope, node)).outputs;
    return (name ? outputs.find((output) => output.name === name) : outputs[0])?.type ?? "any";
  }

  /** The type at a handle of the scene (`i:` and `o:` of nodes, `s:` and `t:` inside loops and at the edge nodes). */
  ofHandle(id: string, handle: string): string {
    const kind = handle[0];
    const name = handle.slice(2);
    if (name === "+") return "any";
    if (kind === "i") return this.portsOf(id).inputs.find((input) => input.name === name)?.type ?? "any";
    if (kind === "o") return this.portsOf(id).outputs.find((output) => output.name === name)?.type ?? "any";
    const { scope, name: node } = splitId(id);
    if (kind === "s") return this.inputsOf(node === INPUTS ? scope : id).get(name) ?? "any";
    if (node === OUTPUTS) return scope ? (this.doc.definitions?.[scope.slice(1)]?.outputs?.[name]?.type ?? "any") : "any";
    return this.inputsOf(id).get(name) ?? "any";
  }

  /** The link that names an output of a node in its own scope. */
  linkTo(id: string, output: string): string {
    const { name } = splitId(id);
    return this.portsOf(id).outputs.length > 1 ? `${name}.${output}` : name;
  }

  outputsOfScope(scope: string): Record<string, string> {
    const outputs = graphAt(this.doc, scope)?.outputs ?? {};
    return Object.fromEntries(Object.entries(outputs).map(([name, o]) => [name, typeof o === "string" ? o : o.link]));
  }
}
