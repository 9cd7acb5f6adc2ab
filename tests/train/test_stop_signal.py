"""What ends a run from outside is a request to save, and a second Ctrl-C the end."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from fromscratch.train.stop_signal import StopSignal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_request_and_the_handlers_before_come_back(number):
    before = signal.getsignal(number)
    with StopSignal() as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        assert stop.requested == number.name
    assert signal.getsignal(number) is before


def test_several_sigterms_stay_a_request():
    with StopSignal() as stop:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested == "SIGTERM"


def test_outside_the_main_thread_nothing_is_caught_and_nothing_breaks():
    seen: list[bool] = []

    def work() -> None:
        with StopSignal() as stop:
            seen.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


@pytest.mark.slow
@pytest.mark.parametrize("between", ["", "os.kill(os.getpid(), signal.SIGTERM); "])
def test_the_second_ctrl_c_ends_at_once(between):
    code = (
        "import os, signal; from fromscratch.train.stop_signal import StopSignal\n"
        "with StopSignal() as stop:\n"
        f"    os.kill(os.getpid(), signal.SIGINT); {between}print(stop(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT); print('still here', flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 130
    assert done.stdout == "True\n"
