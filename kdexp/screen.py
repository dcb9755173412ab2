"""What a user sees while runs go, on stderr: one live block on a terminal; elsewhere one plain line per epoch and group,
at most one every ten seconds."""

import math
import sys
import time
from collections.abc import Iterator, Sequence

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

LINE_SECONDS = 10  # in a log, between two lines of one group

console = Console(stderr=True, highlight=False, soft_wrap=True)


def plain() -> None:
    """No live block in this process, though it may share a terminal with others that have one."""
    global console
    console = Console(stderr=True, force_terminal=False, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print one line."""
    if console.is_terminal:
        console.print(text, markup=False)
    else:
        print(text, file=sys.stderr, flush=True)


def counted(number: float, noun: str) -> str:
    """1 run, 24 runs, 1,200 runs."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """14 s, 2 min 10 s, 3 h 5 min, 9 days."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if minutes < 60:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{minutes // 60} h {minutes % 60} min" if hours < 48 else f"{round(hours / 24)} days"


def track(parts: Sequence, title: str) -> Iterator:
    """Yield the parts one by one and show progress: a bar on a terminal, elsewhere a line every half minute."""
    if console.is_terminal:
        yield from rich.progress.track(parts, title, console=console, transient=True)
        return
    began = said = time.perf_counter()
    for number, part in enumerate(parts):
        yield part
        if time.perf_counter() - said > 30:
            said, share = time.perf_counter(), (number + 1) / len(parts)
            say(f"{title}   {share:.0%}   left {duration((said - began) * (1 / share - 1))}")


class Bar:
    """Progress of one group of runs: `step()` after each step, `epoch(text)` after each epoch, `close()` at the end.

    title: what trains. epochs, steps: of the whole training; start: steps done before. day_hint: printed once if it
    will take over a day.
    """

    def __init__(self, title: str, epochs: int, steps: int, start: int = 0, day_hint: str = ""):
        self.title, self.epochs, self.steps, self.day_hint = title, epochs, steps, day_hint
        self.done = self.start = self.first = start
        self.began = time.perf_counter()
        self.progress, self.said = None, -math.inf
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[text]}", markup=False),
            )
            self.progress = Progress(*columns, console=console)
            self.task = self.progress.add_task(
                title, total=epochs * steps, completed=start, text=f"{start // steps}/{epochs}"
            )
            self.progress.start()
        self.summary = ""

    def left(self) -> str:
        """Time left, estimated from the third step on; empty before."""
        counted = self.done - self.first
        if self.done - self.start < 3 or counted < 1 or self.done == self.epochs * self.steps:
            return ""
        seconds = (time.perf_counter() - self.began) / counted * (self.epochs * self.steps - self.done)
        return f"left {duration(seconds)}"

    def step(self) -> None:
        self.done += 1
        if self.done - self.start == 2:  # the first steps are slow: memory is allocated, kernels are picked
            self.began, self.first = time.perf_counter(), self.done
        if self.done - self.start == 6:
            per_step = (time.perf_counter() - self.began) / 4
            total = per_step * (self.epochs * self.steps - self.done)
            if total > 86400 and self.day_hint:
                say(f"about {duration(total)} on this device ({per_step:.2f} s a step). Quicker: {self.day_hint}")
        self._redraw()

    def _redraw(self) -> None:
        if self.progress:
            text = f"{self.done // self.steps}/{self.epochs}   {self.summary}   {self.left()}"
            self.progress.update(self.task, completed=self.done, text=text)

    def epoch(self, text: str, short: str = "") -> None:
        """text: how the runs stand after this epoch. short: what the live block shows instead, which has less room."""
        self.summary = short or text
        self._redraw()
        now, last = time.perf_counter(), self.done == self.epochs * self.steps
        if not self.progress and (last or now - self.said >= LINE_SECONDS):
            self.said = now
            say(f"{self.title}   {self.done // self.steps}/{self.epochs}   {text}   {self.left()}".rstrip())

    def close(self) -> None:
        if self.progress:
            self.progress.stop()
