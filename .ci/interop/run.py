#!/usr/bin/env python3
"""Runs the tests of this folder and counts them. usage: run.py [PART OF A NAME]...

SWARM_BIN is the folder of `swarm` and `swarm-tracker`, SWARM_INTEROP_SKIP a list of parts of names to leave out.
"""

import os
import signal
import sys
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from harness import BIN  # noqa: E402


class Result(unittest.TestResult):
    """A line for each test as it ends."""

    passed = 0
    subtest_failed = False

    def startTest(self, test):
        super().startTest(test)
        self.begin = time.monotonic()
        self.subtest_failed = False

    def line(self, verdict, test, more=""):
        seconds = time.monotonic() - getattr(self, "begin", time.monotonic())
        name = test.id() if hasattr(test, "id") else str(test)
        print(f"  {verdict:<7} {name:<64} {seconds:6.1f} s{more}", flush=True)

    def addSuccess(self, test):
        self.passed += 1
        self.line("ok", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.line("skip", test, f": {reason}")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.line("FAILED", test, "\n" + self.failures[-1][1])

    def addError(self, test, err):
        super().addError(test, err)
        self.line("FAILED", test, "\n" + self.errors[-1][1])

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            bad = self.failures if self.failures and self.failures[-1][0] is subtest else self.errors
            self.line("FAILED", subtest, "\n" + bad[-1][1])


def tests_of(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from tests_of(test)
        else:
            yield test


def main():
    for program in ("swarm", "swarm-tracker"):
        if not (BIN / program).exists():
            sys.exit(f"{BIN / program} is not there: `cargo build --release --workspace --bins` first")
    # What runs is ended, and namespaces are removed, also then.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    wanted = sys.argv[1:]
    unwanted = [part for part in os.environ.get("SWARM_INTEROP_SKIP", "").split(",") if part]
    found = unittest.defaultTestLoader.discover(str(HERE), pattern="test_*.py")
    suite = unittest.TestSuite(
        test
        for test in tests_of(found)
        if (not wanted or any(part in test.id() for part in wanted))
        and not any(part in test.id() for part in unwanted)
    )
    result = Result()
    suite.run(result)
    failed = len(result.failures) + len(result.errors)
    print(f"interop: {result.passed} passed, {failed} failed, {len(result.skipped)} skipped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
