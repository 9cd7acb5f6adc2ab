"""Run by torchrun: one rank dies while the main thread of the other hears nothing, as in a kernel.

A GPU that waits for a lost one never returns to Python, where signals are handled.
"""

import os
import signal
import time
from pathlib import Path

from fromscratch.cli.at_the_end import at_the_end
from fromscratch.foundation.world import world_from_environment
from fromscratch.parallel.connect import connected

COMMAND = "echo $FROMSCRATCH_OUTCOME: $FROMSCRATCH_ERROR > then"

with (
    connected(world_from_environment(), lambda error: print(f"error: {error}")) as ranks,
    at_the_end(COMMAND, Path("run"), ranks) as end,
):
    end.begun = True
    ranks.any(False)
    if not ranks.is_main:
        os.kill(os.getpid(), signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
