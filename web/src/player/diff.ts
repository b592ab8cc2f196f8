// What differs between two runs: inputs and typed-in values, by place.
import type { JobInfo } from "../net/api";
import { everyNode } from "../model/paths";
import type { Workflow } from "../model/types";

export interface Difference {
  place: string;
  left: string;
  right: string;
}

function values(job: Pick<JobInfo, "inputs" | "workflow">): Map<string, string> {
  const found = new Map<string, string>();
  const doc: Workflow = job.workflow ?? { format: 1, nodes: {} };
  for (const [name, spec] of Object.entries(doc.inputs ?? {})) found.set(name, JSON.stringify(spec.default ?? null));
  for (const [name, value] of Object.entries(job.inputs ?? {})) found.set(name, JSON.stringify(value));
  for (const [id, spec] of everyNode(doc)) {
    found.set(id, spec.type);
    for (const [port, value] of Object.entries(spec.params ?? {})) found.set(`${id}.${port}`, JSON.stringify(value));
  }
  return found;
}

export function differences(a: Pick<JobInfo, "inputs" | "workflow">, b: Pick<JobInfo, "inputs" | "workflow">): Difference[] {
  const left = values(a);
  const right = values(b);
  const places = [...new Set([...left.keys(), ...right.keys()])];
  return places.filter((place) => left.get(place) !== right.get(place)).map((place) => ({ place, left: left.get(place) ?? "–", right: right.get(place) ?? "–" }));
}
