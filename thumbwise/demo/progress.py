"""The demo's progress: bars on a terminal, a line a step elsewhere (a log that is read later)."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars


class Advance:
    """One task's bar: call it after each thing done, or `say` what it is doing."""

    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def __call__(self) -> None:
        self._bars.advance(self._task)

    def say(self, what: str) -> None:
        """Change what stands beside the bar."""
        self._bars.update(self._task, description=what)


class Progress:
    """All bars of a demo. Use it in a with statement."""

    def __init__(self, console: Console) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                   TimeElapsedColumn())  # fmt: skip
        self._console = console
        self._bars = Bars(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._began = time.monotonic()

    def __enter__(self) -> "Progress":
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    @contextmanager
    def task(self, what: str, total: int | None) -> Iterator[Advance]:
        """A bar for as long as the block lasts."""
        if not self._console.is_terminal:
            self.note(f"{what} …")
        task = self._bars.add_task(what, total=total)
        try:
            yield Advance(self._bars, task)
        finally:
            self._bars.remove_task(task)

    def note(self, text: str) -> None:
        """Say something that stays."""
        self._console.print(f"{time.monotonic() - self._began:5.0f} s  {text}", markup=False, soft_wrap=True)
