"""Table of what the tests marked with `fault` tried, printed after `make faults`."""

from collections import defaultdict
from collections.abc import Iterator

import pytest

from helpers.fuzz import TRIED


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Note row and number of inputs with the report of a test."""
    report = yield
    marker = item.get_closest_marker("fault")
    if marker is not None and (report.when == "call" or report.outcome != "passed"):
        report.user_properties.append(("fault", (marker.args[0], TRIED.get(item.nodeid, 1))))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line per row of the table, if only these tests ran."""
    if terminalreporter.config.option.markexpr != "fault":
        return
    rows: defaultdict[str, list] = defaultdict(list)
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in report.user_properties:
                if name == "fault":
                    rows[value[0]].append((outcome, value[1]))
    width = max(map(len, rows), default=0)
    terminalreporter.section("faults: inputs tried, tests and what happened")
    for row, results in sorted(rows.items()):
        outcomes = [outcome for outcome, _ in results]
        tried = sum(count for outcome, count in results if outcome != "skipped")
        counts = {name: outcomes.count(name) for name in ("passed", "failed", "skipped")}
        happened = ", ".join(f"{n} {name}" for name, n in counts.items() if n)
        terminalreporter.write_line(f"{row:<{width}}  {tried:>7} tried  {happened}")
