"""Run the tests; look a second time, alone, at the few that failed. Run through `make test`.

Many tests wait for a browser, a wire or another process, and a machine can be so busy that one of three thousand gives
up waiting. What is broken fails alone as well. Nothing is hidden: the first failure is printed whole, and what passed
at the second look only is named at the end, as a fault of the test that is to be mended.

There is no second look when many failed, and none at what a test left behind (a teardown: secrets where they do not
belong, processes, databases): that may be gone a moment later and has happened all the same.
"""

import argparse
import subprocess
import sys

import pytest

FEW = 5


class Failures:
    """A pytest plug-in that keeps which tests failed, and whether any failed at its teardown."""

    def __init__(self) -> None:
        self.tests: list[str] = []
        self.left_behind = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.tests += [report.nodeid] if report.nodeid not in self.tests else []
            self.left_behind |= report.when == "teardown"


def main() -> int:
    """Run pytest with this program's arguments; return its status, or that of the second look."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--database")
    database = parser.parse_known_args()[0].database
    failures = Failures()
    status = int(pytest.main(sys.argv[1:], plugins=[failures]))
    if status != pytest.ExitCode.TESTS_FAILED or failures.left_behind or not 0 < len(failures.tests) <= FEW:
        return status
    names = "\n".join(f"  {name}" for name in failures.tests)
    print(f"\nA second look at what failed, alone:\n{names}", flush=True)
    again = [*(["--database", database] if database else []), *failures.tests]
    status = subprocess.run([sys.executable, "-m", "pytest", *again], check=False).returncode
    if status == 0:
        print(f"\nPASSED AT THE SECOND LOOK ONLY, which is a fault to mend:\n{names}", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
