#!/usr/bin/env python3
"""The tests that failed, as a filter for `swift test`: tools/failed-tests.py REPORT [MOST]

REPORT is what `swift test --xunit-output` wrote for the testing library. Prints nothing, and ends with 1, if none failed or more than
MOST (3): many failures have a cause of their own, which a second run would only hide.
"""
import re
import sys
import xml.etree.ElementTree as tree


def main() -> int:
    most = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    try:
        cases = tree.parse(sys.argv[1]).getroot().iter("testcase")
    except (OSError, tree.ParseError) as error:
        print(f"failed-tests: {sys.argv[1]}: {error}", file=sys.stderr)
        return 1
    # A suite within a suite is separated by a dot here and by a slash there.
    failed = sorted({(case.get("classname"), case.get("name")) for case in cases if case.find("failure") is not None})
    if not 1 <= len(failed) <= most:
        return 1
    print("|".join("[./]".join(re.split("[./]", re.escape(place).replace("\\.", "."))) + "/" + re.escape(name) for place, name in failed))
    return 0


sys.exit(main())
