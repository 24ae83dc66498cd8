"""Training: from a folder of clips to a checkpoint.

Data flows one way: clips (``data``) and values (``config``) enter a run (``run``), which
hands them to the stages (``stage_generator``, ``stage_motion``, ``stage_joint``; ``stage_flow``
trains a network for smoothing); each stage is driven by the shared loop (``loop``), and the
networks they leave behind become one checkpoint (``export``). The command line is
:mod:`mocogen.cli.train`.
"""
