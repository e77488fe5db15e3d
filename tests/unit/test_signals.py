"""Signals that end a service between two rounds, and never during one."""

from __future__ import annotations

import os
import signal
import threading

from manifestlog.cli import signals

LONG_S = 60.0


def test_a_signal_that_came_before_the_pause_ends_it() -> None:
    with signals.noted() as ending:
        signal.raise_signal(signal.SIGTERM)
        ending.pause(LONG_S)
    assert ending.caught == [signal.SIGTERM]


def test_a_signal_ends_the_pause_in_which_it_comes() -> None:
    with signals.noted() as ending:
        sender = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT))
        sender.start()
        ending.pause(LONG_S)
        sender.join()
    assert ending.caught == [signal.SIGINT]


def test_a_pause_without_a_signal_ends_by_itself() -> None:
    with signals.noted() as ending:
        ending.pause(0.01)
        ending.pause(-1.0)
    assert ending.caught == []


def test_any_number_of_signals_interrupts_nothing() -> None:
    numbers = [signal.SIGINT, signal.SIGTERM] * 3
    with signals.noted() as ending:
        for number in numbers:
            signal.raise_signal(number)
    assert ending.caught == numbers


def test_afterwards_signals_do_what_they_did_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with signals.noted():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    assert signal.set_wakeup_fd(-1) == -1
