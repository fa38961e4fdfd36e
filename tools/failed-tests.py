#!/usr/bin/env python3
"""The tests that failed, as filters: tools/failed-tests.py REPORT…

Each REPORT is what tools/test.py had written of a run. Prints `native FILTER` for `swift test --filter`, and `libxen FILTER` for
tools/test-libxen.sh, of what failed in libxen.xml. Prints nothing, and ends with 1, if none failed, more than three, or a report is missing:
many failures have a cause of their own, which a second run would only hide.
"""
import os
import re
import sys
import xml.etree.ElementTree as tree


MOST = 3


def failed(report: str) -> list[str]:
    """Of one report, as regular expressions over `Module.Suite/test`."""
    # A suite within a suite is separated by a dot here and by a slash there.
    cases = tree.parse(report).getroot().iter("testcase")
    places = sorted({(case.get("classname"), case.get("name")) for case in cases if case.find("failure") is not None})
    return ["[./]".join(re.split("[./]", re.escape(place).replace("\\.", "."))) + "/" + re.escape(name) for place, name in places]


def main() -> int:
    filters: dict[str, list[str]] = {"native": [], "libxen": []}
    for report in sys.argv[1:]:
        try:
            filters["libxen" if os.path.basename(report) == "libxen.xml" else "native"] += failed(report)
        except (OSError, tree.ParseError) as error:
            print(f"failed-tests: {report}: {error}", file=sys.stderr)
            return 1
    if not 1 <= sum(len(tests) for tests in filters.values()) <= MOST:
        return 1
    for row, tests in filters.items():
        if tests:
            print(row, "|".join(tests))
    return 0


sys.exit(main())
