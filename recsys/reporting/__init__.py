"""What came out of a run, as one web page that needs nothing but a browser."""

from recsys.reporting.page import report_page

__all__ = ["report_page"]
