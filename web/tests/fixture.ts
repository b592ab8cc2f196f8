// A small registry and the real workflow files for tests (run from web/): the shapes are those that the server sends.
import { readFileSync } from "node:fs";
import { makeRegistry } from "../src/model/registry";
import type { NodeInfo, PortInfo, Workflow } from "../src/model/types";

const LITERAL = /^(int|float|str|bool)$|^list\[/;

export function port(name: string, type: string, more: Partial<PortInfo> = {}): PortInfo {
  return { name, title: name, type, required: true, doc: "", literal: LITERAL.test(type), ...more };
}

export function node(id: string, inputs: PortInfo[], outputs: [string, string][], more: Partial<NodeInfo> = {}): NodeInfo {
  const name = id.split("@")[0];
  return {
    id, name, version: 1, title: name.replace(/_/g, " "), doc: "", summary: "", category: "test", pack: "", effect: false, control: "",
    inputs, outputs: outputs.map(([n, type]) => ({ name: n, type, doc: "" })), ...more,
  };
}

export const registry = makeRegistry(
  [
    node("load_any_model@1", [port("path", "str")], [["dit", "DiT"], ["vae", "VAE"], ["text_encoder", "TextEncoder"]]),
    node("encode_text@1", [port("encoder", "TextEncoder"), port("prompt", "str")], [["output", "TextEmbedding"]]),
    node("latent_noise@1", [port("vae", "VAE"), port("frames", "int", { default: 17, required: false }), port("height", "int"), port("width", "int"), port("seed", "int", { default: 0, required: false })], [["output", "Latent"]]),
    node("model_sigmas@1", [port("dit", "DiT"), port("latent", "Latent"), port("steps", "int", { default: 20, required: false }), port("shift", "float", { default: 0, required: false })], [["output", "Stream[SigmaStep]"]]),
    node("patchify@1", [port("latent", "Latent"), port("dit", "DiT", { required: false })], [["output", "Patches"]]),
    node("unpatchify@1", [port("patches", "Patches")], [["output", "Latent"]]),
    node("guided_velocity@1", [port("dit", "DiT"), port("patches", "Patches"), port("text", "TextEmbedding"), port("no_text", "TextEmbedding"), port("at", "SigmaStep"), port("scale", "float", { default: 4 })], [["output", "Patches"]]),
    node("euler_step@1", [port("latent", "Latent"), port("velocity", "Latent"), port("step", "SigmaStep")], [["output", "Latent"]]),
    node("vae_decode@1", [port("vae", "VAE"), port("latent", "Latent")], [["output", "Video"]]),
    node("save_video@1", [port("video", "Video"), port("path", "str", { default: "video.mp4", required: false })], [], { effect: true }),
  ],
  [
    { name: "Latent", family: "latent", shape: "circle", list: false, doc: "" },
    { name: "Video", family: "frames", shape: "circle", list: false, doc: "" },
    { name: "SigmaStep", family: "schedule", shape: "triangle", list: false, doc: "" },
    { name: "int", family: "value", shape: "ring", list: false, doc: "" },
  ],
);

export function template(name: string): Workflow {
  return JSON.parse(readFileSync(`../workflows/${name}.json`, "utf8")) as Workflow;
}
