"""The command line: parse, call, show. No tensors."""

from .entry import main

__all__ = ["main"]
