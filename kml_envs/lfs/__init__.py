"""The simulated log-structured file system: geometry, dynamics, cleaning policies, placement, expected amplification.

`config` says what a volume is, `state` allocates volumes, `simulator` runs them; nothing is compiled before it is
first called.
"""
