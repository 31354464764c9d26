"""Report days: half-open intervals without gap or overlap, also when the clocks are changed."""

import zoneinfo
from datetime import UTC, date, datetime, timedelta

import pytest

from app.services.calendar import Calendar

ZONES = ["UTC", "Europe/Berlin", "Africa/Cairo", "America/Havana", "Pacific/Apia", "Asia/Kathmandu"]
MICROSECOND = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("zone", "day", "begins", "hours"),
    [
        ("UTC", "2025-12-16", "2025-12-16T00:00", 24),
        ("Europe/Berlin", "2025-12-16", "2025-12-15T23:00", 24),
        ("Europe/Berlin", "2025-03-30", "2025-03-29T23:00", 23),
        ("Europe/Berlin", "2025-10-26", "2025-10-25T22:00", 25),
        # Cairo's clocks go forward at 00:00 and back at 24:00: the first of these has no midnight.
        ("Africa/Cairo", "2025-04-25", "2025-04-24T22:00", 23),
        ("Africa/Cairo", "2025-10-30", "2025-10-29T21:00", 25),
        # Havana's go back at 01:00, so midnight comes twice: the day begins with the first one.
        ("America/Havana", "2025-03-09", "2025-03-09T05:00", 23),
        ("America/Havana", "2025-11-02", "2025-11-02T04:00", 25),
        ("Asia/Kathmandu", "2025-12-16", "2025-12-15T18:15", 24),
    ],
)
def test_the_start_and_length_of_a_day(zone: str, day: str, begins: str, hours: int) -> None:
    calendar, at = Calendar(zone), date.fromisoformat(day)
    assert calendar.begins(at) == datetime.fromisoformat(begins).replace(tzinfo=UTC)
    assert calendar.ends(at) - calendar.begins(at) == timedelta(hours=hours)


@pytest.mark.parametrize("zone", ZONES)
def test_days_follow_each_other_without_gap_or_overlap(zone: str) -> None:
    calendar = Calendar(zone)
    for number in range(2 * 366):
        day = date(2025, 1, 1) + timedelta(days=number)
        begins, ends = calendar.begins(day), calendar.ends(day)
        assert ends == calendar.begins(day + timedelta(days=1))
        assert calendar.day_of(begins) == calendar.day_of(ends - MICROSECOND) == day
        assert calendar.day_of(ends) == day + timedelta(days=1)
        assert timedelta(hours=23) <= ends - begins <= timedelta(hours=25)


def test_a_time_with_another_offset_falls_on_the_day_of_the_calendars_zone() -> None:
    calendar = Calendar("Europe/Berlin")
    assert calendar.day_of(datetime.fromisoformat("2025-12-16T23:30:00+00:00")) == date(
        2025, 12, 17
    )
    assert calendar.day_of(datetime.fromisoformat("2025-12-16T18:30:00-05:00")) == date(
        2025, 12, 17
    )


@pytest.mark.parametrize("zone", ZONES)
def test_the_earliest_date_has_a_start(zone: str) -> None:
    assert Calendar(zone).begins(date.min).year == 1


def test_a_machine_without_time_zone_files(request: pytest.FixtureRequest) -> None:
    """The package tzdata has them."""
    request.addfinalizer(zoneinfo.reset_tzpath)
    zoneinfo.reset_tzpath(to=[])
    zoneinfo.ZoneInfo.clear_cache()
    begins = datetime(2025, 10, 29, 21, tzinfo=UTC)
    assert Calendar("Africa/Cairo").begins(date(2025, 10, 30)) == begins
