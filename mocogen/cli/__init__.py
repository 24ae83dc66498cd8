"""The command line: parse, call, show. No arithmetic, no tensors."""

from .app import main

__all__ = ["main"]
