"""logger=mlflow: one MLflow run per run, by default in the file mlflow.db, which needs no server."""

import logging
import os
import time
import uuid
from pathlib import Path
from typing import Any

from kdexp.config.schema import flatten
from kdexp.errors import needed

LOCAL = "sqlite:///mlflow.db"  # in the current folder; what `mlflow ui` opens


class MLflow:
    """See kdexp/loggers/__init__.py. tracking: the URI of a store or server; None: $MLFLOW_TRACKING_URI, else LOCAL."""

    def __init__(self, folder: Path, name: str, config: dict, experiment: str = "kdexp", tracking: str | None = None):
        self.folder, self.name, self.config, self.experiment = str(folder.resolve()), name, config, experiment
        self.tracking = tracking or os.environ.get("MLFLOW_TRACKING_URI") or LOCAL
        self.id = uuid.uuid5(
            uuid.NAMESPACE_URL, self.folder
        ).hex  # the path itself may have quotes, which a search rejects
        self.client: Any = None

    @staticmethod
    def require() -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before the import; nothing is sent unless asked for
        needed("mlflow")

    def log(self, row: dict) -> None:
        """One metric for each number of the row, at its epoch."""
        from mlflow.entities import Metric

        if self.client is None:
            self._open(goes_on=row["epoch"] > 1)
        now, step = int(1000 * time.time()), row["epoch"]
        numbers = {key: value for key, value in row.items() if key != "epoch" and value is not None}
        self.client.log_batch(self.run, metrics=[Metric(key, value, now, step) for key, value in numbers.items()])

    def _open(self, goes_on: bool) -> None:
        """Start a new MLflow run, or continue this folder's if training resumes."""
        mlflow = needed("mlflow")
        from mlflow.entities import Param

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it logs every table that it creates
        mlflow.set_tracking_uri(self.tracking)
        experiment, self.client = mlflow.set_experiment(self.experiment).experiment_id, mlflow.MlflowClient()
        tagged = f"tags.kdexp_id = '{self.id}'"
        if goes_on and (earlier := self.client.search_runs([experiment], tagged, order_by=["start_time DESC"])):
            self.run = earlier[0].info.run_id
            self.client.update_run(self.run, status="RUNNING")
            return
        tags = {"folder": self.folder, "kdexp_id": self.id}
        self.run = self.client.create_run(experiment, run_name=self.name, tags=tags).info.run_id
        params = [Param(key, str(value)) for key, value in flatten(self.config).items()]
        for start in range(0, len(params), 100):  # MLflow's limit per call
            self.client.log_batch(self.run, params=params[start : start + 100])

    def close(self) -> None:
        if self.client is not None:
            self.client.set_terminated(self.run)
