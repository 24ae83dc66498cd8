"""The command line: parse, call, show. No arithmetic, no tensors."""

from .entry import main

__all__ = ["main"]
