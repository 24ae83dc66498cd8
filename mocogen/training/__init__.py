"""Training: from a folder of clips to a checkpoint.

Data flows one way: clips (``data``) and values (``config``) enter a run (``run``), which
hands them to the stages (``stage_generator``, ``stage_motion``, ``stage_joint``; ``stage_flow``
trains a network for smoothing). What all of these are stands in ``stage``; the shared loop
(``loop``) drives each and leaves its states (``states``) and losses (``loss_log``). The networks
in the states (``trained``) become one checkpoint (``export``). The command line is
:mod:`mocogen.cli.train`.
"""
