"""Helpers of the book *Memorizing the Background*: thirteen doors, and behind them files.

Importing the package imports nothing else: `from helpers import kernels` and so on bring in what
they compute with, and the modules that only handle text (`book`, `claims`) work without torch.
"""

__version__ = "0.2.0"
