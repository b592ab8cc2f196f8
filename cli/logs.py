"""Where the metrics of a run are kept: files below its folder, or another program's format. Knows events, no node.

A log listens; it is no part of the graph, so it changes no key and no result. All write to this machine alone.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from kineograph.graph_runtime.events import Event, Listener, Metric

Say = Callable[[str], None]
COLUMNS = ("time", "node", "name", "step", "value", "run")


class Log(Protocol):
    """Keeps metrics."""

    def write(self, metric: Metric) -> None:
        """Keep one."""
        ...

    def close(self) -> None:
        """Complete what was begun."""
        ...


class CsvLog:
    """``metrics.csv``: a line for each metric, written at once; a run that goes on in the same folder goes on in it.

    ``run`` is when the run began, the same in all its lines.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "metrics.csv"
        self.run = _now()
        columns = self._columns(path)
        self.file = path.open("a", newline="", encoding="utf-8")
        self.writer = csv.DictWriter(self.file, columns or COLUMNS, extrasaction="ignore")
        if not columns:
            self.writer.writeheader()

    @staticmethod
    def _columns(path: Path) -> list[str]:
        """Those of the file that is there, which an earlier version may have begun."""
        if not path.is_file():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            return next(csv.reader(file), [])

    def write(self, metric: Metric) -> None:
        """Write one line."""
        cells = _now(), metric.path, metric.name, metric.step, repr(metric.value), self.run
        self.writer.writerow(dict(zip(COLUMNS, cells, strict=True)))
        self.file.flush()

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class CurvesLog:
    """``metrics.svg``: a curve for each metric, drawn when the run ends, well or not."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.svg"
        self.curves: dict[str, dict[float, float]] = {}

    def write(self, metric: Metric) -> None:
        """Keep a point; a step that is reported again replaces what it was."""
        self.curves.setdefault(metric.name, {})[metric.step] = metric.value

    def close(self) -> None:
        """Draw."""
        from kineograph.nodes.curve import draw_curves

        last = sorted(self.curves.items(), key=lambda curve: len(curve[1]) == 1)  # single numbers are no curves
        curves = {name: sorted(points.items()) for name, points in last}
        self.path.write_text(draw_curves(curves), encoding="utf-8")


class TensorBoardLog:
    """A folder for ``tensorboard --logdir``."""

    def __init__(self, folder: Path) -> None:
        _import("tensorboard", "tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"))

    def write(self, metric: Metric) -> None:
        """Keep one."""
        self.writer.add_scalar(metric.name, metric.value, metric.step)

    def close(self) -> None:
        """Write what is left."""
        self.writer.close()


class WandbLog:
    """A folder of Weights & Biases, offline; ``wandb sync`` sends it, if somebody wants that."""

    def __init__(self, folder: Path) -> None:
        wandb = _import("wandb", "wandb")
        settings = wandb.Settings(silent=True, console="off")
        self.run = wandb.init(mode="offline", dir=str(folder), project="kineograph", settings=settings)
        self.run.define_metric("*", step_metric="step")

    def write(self, metric: Metric) -> None:
        """Keep one."""
        self.run.log({metric.name: metric.value, "step": metric.step})

    def close(self) -> None:
        """Write what is left."""
        self.run.finish()


class MlflowLog:
    """``mlflow.db``, for ``mlflow ui --backend-store-uri sqlite:///mlflow.db``."""

    def __init__(self, folder: Path) -> None:
        packages = "mlflow-skinny sqlalchemy alembic"
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before the import, which would begin it
        for package in ("sqlalchemy", "alembic"):
            _import(package, packages)
        mlflow = _import("mlflow", packages)
        self.client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{(folder / 'mlflow.db').resolve()}")
        known = self.client.get_experiment_by_name("kineograph")
        experiment = known.experiment_id if known else self.client.create_experiment("kineograph")
        self.run = self.client.create_run(experiment).info.run_id

    def write(self, metric: Metric) -> None:
        """Keep one."""
        self.client.log_metric(self.run, metric.name, metric.value, step=metric.step)

    def close(self) -> None:
        """Mark the run as ended."""
        self.client.set_terminated(self.run)


KINDS: dict[str, Callable[[Path], Log]] = {
    "csv": CsvLog,
    "svg": CurvesLog,
    "tensorboard": TensorBoardLog,
    "wandb": WandbLog,
    "mlflow": MlflowLog,
}


@contextmanager
def keeping(kinds: Sequence[str], folder: Path, say: Say) -> Iterator[Listener]:
    """A listener that keeps metrics; a log that fails is left out from there on, the run goes on.

    Args:
        kinds: some of ``KINDS``.
        folder: what they write below; it is made.
        say: told in a sentence which log failed, and why.

    Raises:
        ValueError: a kind needs a package that is not installed, or its file cannot be opened.
    """
    open_logs: dict[str, Log] = {}

    def attempt(kind: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001  another program's code must not end a training
            open_logs.pop(kind, None)
            say(f"The log {kind} failed, the run goes on without it: {type(error).__name__}: {error}")

    def listen(event: Event) -> None:
        if isinstance(event, Metric):
            for kind, log in list(open_logs.items()):
                attempt(kind, lambda log=log: log.write(event))

    with ExitStack() as stack:
        for kind in dict.fromkeys(kinds):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                log = KINDS[kind](folder)
            except ValueError:
                raise
            except Exception as error:
                raise ValueError(
                    f"The log {kind} cannot be opened in {folder}: {type(error).__name__}: {error}"
                ) from error
            open_logs[kind] = log
            stack.callback(attempt, kind, log.close)
        yield listen


def _import(module: str, packages: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise ValueError(f"There is no {module} here, which this log needs: pip install {packages}") from None
