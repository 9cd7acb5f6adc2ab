"""The command line with a fault in it: windows with a mark give a loss that is no number."""

import math
import sys
from typing import Any

from fromscratch.cli.main import main
from fromscratch.runs import session

MARK = ord("~")

sound = session.next_token_loss


def loss(model: Any, batch: Any) -> Any:
    """The objective's, but for the mark."""
    value = sound(model, batch)
    return value * math.nan if bool((batch.ids == MARK).any()) else value


if __name__ == "__main__":
    session.next_token_loss = loss
    main(sys.argv[1:])
