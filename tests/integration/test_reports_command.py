"""`report build` and `report check`: rows beside orders."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from app.cli import report
from app.container import Container
from app.settings import Settings
from harness.shop import Shop

TODAY = datetime.now(UTC).date()


async def test_what_differs_is_counted_and_what_is_built_is_right(
    settings: Settings, container: Container, shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    product_id = await shop.product()
    moment = datetime.now(UTC) - timedelta(days=3)
    day = moment.date()
    orders = [await shop.order((product_id, n), ordered_at=moment) for n in (1, 2, 3)]
    with pytest.raises(SystemExit, match="1 days differ: build them"):
        await report.check(settings, None, None)
    shown = capsys.readouterr().out
    assert f"{day}  3 orders, 0 rows: 3 orders have no row" in shown
    assert shown.count("0 orders, 0 rows: right") == 13

    await report.build(settings, day)
    assert capsys.readouterr().out.endswith(f"\n{day}  3 new rows, 3 in all\n")
    await report.check(settings, day, None)
    assert capsys.readouterr().out == f"{day}  3 orders, 3 rows: right\n"

    async with container.database.autocommit() as connection:
        for statement in (
            f"UPDATE reports SET count_product = 9 WHERE order_id = {orders[0].id}",
            f"DELETE FROM reports WHERE order_id = {orders[1].id}",
            f"UPDATE orders SET ordered_at = now() WHERE id = {orders[2].id}",
        ):
            await connection.execute(text(statement))
    with pytest.raises(SystemExit):
        await report.check(settings, day, day)
    assert capsys.readouterr().out == (
        f"{day}  2 orders, 2 rows: 1 orders have no row, 1 rows no order of that day, "
        "1 rows another number of products\n"
    )


async def test_without_a_day_every_owed_day_is_built(
    settings: Settings, container: Container, capsys: pytest.CaptureFixture[str]
) -> None:
    await report.build(settings, None)
    yesterday = container.calendar.today() - timedelta(days=1)
    assert f"{yesterday}  0 new rows, 0 in all" in capsys.readouterr().out


async def test_a_day_in_the_future_is_refused_in_one_line(settings: Settings) -> None:
    with pytest.raises(SystemExit, match="^report: "):
        await report.build(settings, TODAY + timedelta(days=9))
