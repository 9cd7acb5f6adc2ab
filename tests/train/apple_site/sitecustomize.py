"""Gives every Python process that finds this on its path the Apple GPU of apple_gpu.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from apple_gpu import apple_gpu

ENTERED = apple_gpu()
ENTERED.__enter__()
