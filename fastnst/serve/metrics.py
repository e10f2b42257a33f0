"""What the service counts, in the form that Prometheus reads."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from fastnst import __version__

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60)


class Metrics:
    """Counters of one service, in a registry of their own."""

    def __init__(self, waiting: Callable[[], float], painted: Callable[[], float]) -> None:
        """How many requests wait, and how many are painted, is asked when it is read."""
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.requests = Counter("fastnst_requests", "Requests answered", ["route", "code"], registry=self.registry)
        self.seconds = Histogram(
            "fastnst_request_seconds", "Time of a request", ["route"], buckets=_SECONDS, registry=self.registry
        )
        self.rejected = Counter("fastnst_rejected", "Paintings that were not made", ["reason"], registry=self.registry)
        self.decode_failures = Counter(
            "fastnst_decode_failures", "Pictures that were not decoded", ["kind"], registry=self.registry
        )
        Gauge("fastnst_queue_depth", "Requests with a place that wait", registry=self.registry).set_function(waiting)
        Gauge("fastnst_inflight", "Pictures that are painted now", registry=self.registry).set_function(painted)
        Gauge("fastnst_info", "The version", ["version"], registry=self.registry).labels(__version__).set(1)

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self.registry)
