"""Evaluation: what a clip looks like, in figures that need no download.

``measures`` are pure functions of frames, ``classifiers`` are small networks trained on real
clips alone, ``scores`` applies both to clips, and ``pictures`` shows the clips themselves.
The programs under ``benchmarks/`` compare a checkpoint with real clips by them.
"""
