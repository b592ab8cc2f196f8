// A socket: its family's colour and shape, a double ring for streams; dims while a wire is dragged that it cannot take.
import { Handle, Position } from "@xyflow/react";
import { memo } from "react";
import type { Handle as Place } from "../model/geometry";
import { fits, typeInfo } from "../model/registry";
import { useView } from "../store/view";

export function Glyph({ type }: { type: string }) {
  const registry = useView((state) => state.registry);
  const { family, shape, list } = typeInfo(registry, type);
  return <span className={`glyph ${shape} ${list ? "list" : ""}`} data-family={family} aria-hidden="true" />;
}

export const Socket = memo(function Socket({ place, label }: { place: Place; label?: string }) {
  const registry = useView((state) => state.registry);
  const unfit = useView((state) => {
    const drag = state.dragging;
    if (!drag) return false;
    if ((place.type === "source") === drag.source) return true;
    return drag.source ? !fits(drag.type, place.socket) : !fits(place.socket, drag.type);
  });
  const { family, shape, list } = typeInfo(registry, place.socket);
  return (
    <Handle
      id={place.id} type={place.type} position={place.side === "left" ? Position.Left : Position.Right}
      className={`socket ${unfit ? "unfit" : ""}`} style={{ left: place.x, top: place.y }} title={`${label ?? place.id.slice(2)}: ${place.socket}`}
    >
      <span className={`glyph ${shape} ${list ? "list" : ""}`} data-family={family} />
    </Handle>
  );
});
