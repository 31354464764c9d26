from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo


class Calendar:
    """Report days: each from one local midnight to the next, which takes 23 to 25 hours."""

    def __init__(self, zone: str) -> None:
        self._zone = ZoneInfo(zone)

    def today(self) -> date:
        return self.day_of(datetime.now(UTC))

    def day_of(self, moment: datetime) -> date:
        return moment.astimezone(self._zone).date()

    def begins(self, day: date) -> datetime:
        # Where a clock change skips midnight, this is the first moment after the gap.
        midnight = datetime.combine(day, time(), self._zone)
        try:
            return midnight.astimezone(UTC)
        except OverflowError:  # east of Greenwich the first of all days begins before it
            return datetime.min.replace(tzinfo=UTC)

    def ends(self, day: date) -> datetime:
        return self.begins(day + timedelta(days=1))
