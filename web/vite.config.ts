// How the editor is built and tested: one page, hashed assets below /assets, nothing inlined into the page's script.
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

const server = process.env.KINEOGRAPH_SERVER ?? "http://127.0.0.1:8188";

export default defineConfig({
  plugins: [react()],
  build: { target: "es2022", assetsInlineLimit: 0, modulePreload: { polyfill: false }, chunkSizeWarningLimit: 900 },
  server: { proxy: { "/api": { target: server, ws: true } } },
  test: { environment: "happy-dom", include: ["tests/**/*.test.{ts,tsx}"], testTimeout: 60_000 }, // a busy machine is slow, not wrong
});
