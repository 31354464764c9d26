from datetime import date

from app.schemas.types import Timestamp, View


class ReportRead(View):
    id: int
    report_at: date
    order_id: int
    count_product: int
    created_at: Timestamp


class ReportBuilt(View):
    """`created` rows are new; `reports_count` is how many the day has now."""

    report_date: date
    created: int
    reports_count: int
