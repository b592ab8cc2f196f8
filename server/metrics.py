"""Numbers about the server for Prometheus, in a registry of its own. Knows no route."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from kineograph.server.machine import own_memory

SECONDS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0)


class Metrics:
    """What is counted. Labels are routes, methods and states, never ids or names: their number is bounded."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "kineograph_requests", "Requests answered", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "kineograph_request_seconds", "Time to answer", ("route",), buckets=SECONDS, registry=self.registry
        )
        self.slow_clients = Counter(
            "kineograph_slow_clients", "WebSockets let go because they read too slowly", registry=self.registry
        )
        self._jobs = Gauge("kineograph_jobs", "Jobs by state", ("state",), registry=self.registry)
        self._clients = Gauge("kineograph_websockets", "WebSockets that listen", registry=self.registry)
        self._memory = Gauge("kineograph_server_bytes", "Memory of the server's process", registry=self.registry)

    def text(self, counts: Mapping[str, int], clients: int) -> bytes:
        """All numbers as Prometheus reads them."""
        for state, count in counts.items():
            self._jobs.labels(state).set(count)
        self._clients.set(clients)
        self._memory.set(own_memory())
        return generate_latest(self.registry)
