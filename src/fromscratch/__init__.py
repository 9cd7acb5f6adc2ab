"""fromscratch: train a GPT-class language model from nothing, on the machine you have.

Importing this package imports nothing heavy: no torch, no numpy. The rooms are subpackages, and
imports between them go one way (CONTRIBUTING.md has the tour).
"""

__version__ = "0.1.0"
