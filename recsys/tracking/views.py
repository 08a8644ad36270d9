"""What an experiment's page says and shows: a description, and a saved view of the results.

MLflow keeps a view as a tag of the experiment; the list of runs shows no metrics without one.
"""

from __future__ import annotations

import base64
import json
import time
import zlib

from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE  # of experiments, too

VIEW = "results"
"""The key of the view: `#/experiments/<id>/runs?viewStateShareKey=results`."""

COLUMNS = (
    "attributes.`Models`",
    "metrics.`validation_ndcg_at_10`",
    "metrics.`test_ndcg_at_10`",
    "metrics.`test_hit_rate_at_10`",
    "params.`session_model.learning_rate`",
)
"""What the view shows of each run, beside its name, when it began and how long it took."""


def page_tags(experiment_id: str) -> dict[str, str]:
    """The tags that make an experiment's page tell something at once."""
    runs = f"#/experiments/{experiment_id}/runs"
    note = (
        f"[Results]({runs}?viewStateShareKey={VIEW}) (the view of that name), "
        f"[learning curves]({runs}?compareRunsMode=CHART). Open a run for its description; tick "
        "several and press Compare to see what differs."
    )
    return {MLFLOW_RUN_NOTE: note, f"mlflow.sharedViewState.{VIEW}": _view()}


def _view() -> str:
    """The view, in the form in which the UI saves one."""
    state = {
        "searchFilter": "",
        "orderByKey": "attributes.start_time",  # by a metric, the stages within runs would mix in
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(COLUMNS),
        "columnOrder": [],
        "columnWidths": {},
        "runsHiddenMode": "FIRST_10_RUNS",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {
            "xAxisKey": "step",
            "lineSmoothness": 0,
            "selectedXAxisMetricKey": "",
        },
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    now = int(time.time() * 1000)
    view = {"name": "Results", "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"}
    return json.dumps(view)
