"""Figures and self-contained web pages about models and embeddings."""

from recsys.reporting.charts import loss_curve
from recsys.reporting.item_map import item_map_figure, item_map_page
from recsys.reporting.report import report_page

__all__ = ["item_map_figure", "item_map_page", "loss_curve", "report_page"]
