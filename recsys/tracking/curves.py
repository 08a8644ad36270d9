"""What the stages of a run told by epoch, read back."""

from __future__ import annotations

from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from recsys.tracking.runs import BY_EPOCH, Run

CURVES = ("relative_loss", "train_loss", "ndcg_at_10")
"""The metrics that say how learning went."""


def learning_curves(run: Run) -> dict[str, dict[str, list[float]]]:
    """The curves of each stage that has some, as `["lstm"]["train_loss"]`, in order of epochs."""
    stages = run.client.search_runs(
        [run.experiment], f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run.run_id}'", order_by=["start_time"]
    )
    found: dict[str, dict[str, list[float]]] = {}
    for stage in stages:
        for name in CURVES:
            recorded = f"{BY_EPOCH}/{name}"
            if recorded not in stage.data.metrics:
                continue
            history = run.client.get_metric_history(stage.info.run_id, recorded)
            values = [point.value for point in sorted(history, key=lambda point: point.step)]
            if len(values) > 1:
                found.setdefault(str(stage.info.run_name), {})[name] = values
    return found
