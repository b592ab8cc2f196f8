"""What a server is started with. Nothing of it can be changed over HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kineograph.graph_runtime.workflow import MAX_BYTES

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""The names under which a server that only this machine reaches is asked for."""


@dataclass(frozen=True)
class Limits:
    """How much is taken before it is refused.

    Attributes:
        json_bytes: of a request's body that is JSON.
        upload_bytes: of a file. uploads_bytes: of all that were uploaded.
        sockets: clients of ``/api/events`` at a time.
        socket_items, socket_bytes: what may wait for one of them before it is let go. socket_seconds: in which it must
            read what is sent.
        socket_message: bytes of a message from one of them. socket_rate: of those, how many in a second.
        aside_seconds: wall clock for one picture, probe or estimate in a helper process.
        aside_bytes: address space of that process.
        drafts, revisions: how many are kept, of each draft. draft_bytes: of one.
    """

    json_bytes: int = MAX_BYTES
    upload_bytes: int = 4 << 30
    uploads_bytes: int = 64 << 30
    sockets: int = 512
    socket_items: int = 16_384
    socket_bytes: int = 4 << 20
    socket_seconds: float = 20.0
    socket_message: int = 1 << 16
    socket_rate: int = 20
    aside_seconds: float = 60.0
    aside_bytes: int = 8 << 30
    drafts: int = 500
    revisions: int = 100
    draft_bytes: int = 4 << 20


@dataclass(frozen=True)
class Settings:
    """What a server is started with.

    Attributes:
        data: the folder of everything it keeps; the working directory of the process, so that a path in a workflow
            begins there.
        host, port: where it listens.
        hosts: further names under which it may be asked for.
        token: what a client must know; empty where only this machine reaches it.
        factory: what makes the runtime of a worker or helper, as ``module:function``.
        packs: folders of packs, for those.
        store: the folder of results, for helper processes; empty keeps nothing.
        templates: a folder of workflows that come with the program. examples: of the clips that they name.
        models: a folder of models that come with the program.
        editor: the built editor; it may be missing.
        safe_mode: no packs were loaded, because somebody said so.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 8188
    hosts: tuple[str, ...] = ()
    token: str = ""
    factory: str = "kineograph:default_runtime"
    packs: tuple[str, ...] = ()
    store: str = ""
    templates: Path | None = None
    examples: Path | None = None
    models: Path | None = None
    editor: Path | None = None
    safe_mode: bool = False
    limits: Limits = field(default_factory=Limits)

    @property
    def roots(self) -> dict[str, Path]:
        """The folders below ``data`` whose files a workflow may name."""
        return {name: self.data / name for name in ("uploads", "outputs", "models", "examples")}
