"""The loop's watchdog, in processes of their own: it ends the one whose loop stands still, and only that."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from subprocess import PIPE
from typing import Final, TypeAlias

import pytest

Process: TypeAlias = "subprocess.Popen[str]"
Start: TypeAlias = Callable[[str], Process]

PROGRAM: Final = """
import asyncio, sys, time
from callactors.watchdog import watched

def stand_still():
    print("there", flush=True)
    time.sleep(60)

def work():
    begin = time.thread_time()
    print("there", flush=True)
    while time.thread_time() < begin + 0.1:
        pass

async def main():
    loop = asyncio.get_running_loop()
    async with watched(1.5):
        loop.call_soon({does})
        told = await loop.run_in_executor(None, sys.stdin.readline)
        await asyncio.sleep(1.5)
        print(told, end="")

asyncio.run(main())
"""


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process that is watched, does something in its loop, and later repeats what it is told."""
    with ExitStack() as stack:

        def spawn(does: str) -> Process:
            command = [sys.executable, "-c", PROGRAM.format(does=does)]
            process = subprocess.Popen(command, text=True, stdin=PIPE, stdout=PIPE, stderr=PIPE)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield spawn


def until_there(process: Process) -> None:
    """Return when *process* does it."""
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"


def test_a_process_whose_loop_stands_still_ends_and_says_where(start: Start) -> None:
    process = start("stand_still")
    _, error = process.communicate("not heard")
    assert process.returncode == 70
    assert "the event loop has stood still for 1.5 s: the process ends" in error
    assert "in stand_still" in error


def test_a_process_that_stood_still_as_a_whole_in_the_middle_of_its_work_lives_on(start: Start) -> None:
    stopped = start("work")
    until_there(stopped)
    stopped.send_signal(signal.SIGSTOP)
    assert start("stand_still").wait() == 70  # so the limit has passed
    stopped.send_signal(signal.SIGCONT)
    assert stopped.communicate("still there")[0] == "still there"
    assert stopped.returncode == 0
