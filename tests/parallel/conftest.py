"""What the tests of this folder share, on the path."""

import sys
from pathlib import Path

# What the tests of this folder share lies beside them, and pytest puts no folder on the path.
sys.path.insert(0, str(Path(__file__).parent))
