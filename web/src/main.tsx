// The page's beginning: styles, then the application.
import { createRoot } from "react-dom/client";
import "@xyflow/react/dist/base.css";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/layout.css";
import "./styles/canvas.css";
import "./styles/results.css";
import { App } from "./app";

createRoot(document.getElementById("root")!).render(<App />);
