"""What came out of a run, as one web page that needs nothing but a browser."""

from recsys.report_page.page import report_page

__all__ = ["report_page"]
