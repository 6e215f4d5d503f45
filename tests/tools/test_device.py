"""The queue of the device: one at a time, in the order of asking, whatever interrupts the wait."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from promptprobe.tools.device import Turns


def waiting(turns: Turns, number: int) -> None:
    """Come back once so many wait."""
    while len(turns._waiting) < number:
        threading.Event().wait(0.001)


def queued(turns: Turns, number: int, work: Callable[[int], None]) -> list[threading.Thread]:
    """Threads that ask one after the other while somebody has the turn."""
    threads = []
    for name in range(number):
        thread = threading.Thread(target=work, args=(name,))
        thread.start()
        threads.append(thread)
        waiting(turns, name + 1)
    return threads


def test_turns_are_served_one_at_a_time_in_the_order_of_asking() -> None:
    turns, served, inside = Turns(), list[int](), list[int]()

    def work(name: int) -> None:
        with turns:
            inside.append(name)
            assert inside == [name]
            served.append(name)
            inside.remove(name)

    with turns:
        threads = queued(turns, 8, work)
    for thread in threads:
        thread.join()
    assert served == list(range(8))
    with turns:  # free again
        assert not turns._waiting


def test_the_holder_may_take_it_again_and_keeps_it_to_its_end() -> None:
    turns, served = Turns(), list[int]()

    def work(name: int) -> None:
        with turns:
            served.append(name)

    with turns:
        (thread,) = queued(turns, 1, work)
        with turns:
            assert served == []
        assert served == []
    thread.join()
    assert served == [0]


def test_an_error_inside_passes_the_turn_on() -> None:
    turns = Turns()
    with pytest.raises(ZeroDivisionError), turns:
        raise ZeroDivisionError
    thread = threading.Thread(target=lambda: turns.__enter__())
    thread.start()
    thread.join(timeout=5)
    assert not thread.is_alive()


def test_ctrl_c_while_waiting_leaves_the_queue() -> None:
    turns, taken, done = Turns(), threading.Event(), threading.Event()
    main = threading.get_ident()

    def hold() -> None:
        with turns:
            taken.set()
            waiting(turns, 1)
            signal.pthread_kill(main, signal.SIGINT)
            done.wait()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    holder = threading.Thread(target=hold)
    holder.start()
    try:
        taken.wait()
        with pytest.raises(KeyboardInterrupt):
            turns.__enter__()
    finally:
        signal.signal(signal.SIGINT, before)
    assert not turns._waiting
    done.set()
    holder.join()
    with turns:
        pass


COUNTED = """
import psutil, torch
from promptprobe.tools.device import DEVICE

count = psutil.Process().num_threads
torch.set_num_threads(3)
alone = count()
for _ in range(2):
    with DEVICE:
        torch.ones(2**22).exp()
        assert count() == alone + 2, "torch shares the work among three threads"
    while count() > alone:  # a thread that has ended is counted for a moment
        pass
"""


@pytest.mark.skipif(sys.platform != "linux", reason="torch uses GNU OpenMP on Linux")
def test_a_turn_ends_with_the_threads_that_computed_in_it() -> None:
    subprocess.run([sys.executable, "-c", COUNTED], check=True, timeout=60)
