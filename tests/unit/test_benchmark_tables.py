"""How the benchmarks turn their figures into tables and verdicts."""

from benchmarks.markdown import replaced, section, spread
from benchmarks.results import Comparison, Figures, Line, RowResult, at_least, at_most, compare


def test_the_median_decides_the_verdict() -> None:
    values = [1.0, 2.6, 9.0]
    assert Line("x", values, must=at_least(2.5)).verdict == "met"
    assert Line("x", values, must=at_least(2.7)).verdict == "**missed**"
    assert Line("x", values, must=at_most(2.5), aim=at_most(9)).verdict == "**missed**"
    assert Line("x", values, must=at_least(2.5), aim=at_least(2.6)).verdict == "aim met"
    assert Line("x", values, must=at_least(2.5), aim=at_least(5)).verdict == "met"
    assert Line("x", values, aim=at_least(5)).verdict == "aim missed"
    assert Line("x", values).verdict == ""


def test_the_spread_is_shown() -> None:
    assert spread([3, 1, 2.5]) == "2.50 (1.00..3.00)"
    assert spread([12345.6]) == "12,346"


def test_there_is_one_ratio_for_each_round() -> None:
    comparison = Comparison("x", {"a": [{"s": 1.0}, {"s": 6.0}], "b": [{"s": 2.0}, {"s": 3.0}]})
    assert comparison.ratios("s", of="a", to="b") == [0.5, 2.0]


async def test_contestants_take_turns() -> None:
    calls: list[str] = []

    async def a() -> Figures:
        calls.append("a")
        return {"calls": len(calls)}

    async def b() -> Figures:
        calls.append("b")
        return {"calls": len(calls)}

    comparison = await compare("x", {"a": a, "b": b}, rounds=2)
    assert "".join(calls) == "ab" + "ab" + "ba"
    assert comparison.values("a", "calls") == [3, 6]


def test_a_section_has_the_promises_and_the_figures() -> None:
    comparison = Comparison("CPU", {"ours": [{"µs": 70.0}], "theirs": [{"µs": 350.0, "MB": 1.0}]})
    line = Line("theirs to ours", comparison.ratios("µs", "theirs", "ours"), must=at_least(2.5))
    assert section(RowResult([line], [comparison], ["A remark."])) == "\n".join(
        [
            "| what | must | aim | measured: median (least..greatest) |  |",
            "| --- | --- | --- | --- | --- |",
            "| theirs to ours | ≥ 2.5 |  | 5.00 × | met |",
            "",
            "| CPU | µs | MB |",
            "| --- | --- | --- |",
            "| ours | 70.0 |  |",
            "| theirs | 350 | 1.00 |",
            "",
            "- A remark.",
        ]
    )


def test_only_the_text_between_the_markers_is_replaced() -> None:
    page = replaced("# Page\n", "row", r"one \1")
    assert page == "# Page\n\n<!-- row -->\none \\1\n<!-- end of row -->\n"
    page = replaced(page + "\nProse.\n", "row", "two")
    assert page == "# Page\n\n<!-- row -->\ntwo\n<!-- end of row -->\n\nProse.\n"
