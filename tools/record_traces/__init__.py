"""Records the block writes of real applications and writes the traces that the package carries.

    python -m tools.record_traces record sqlite-rollback-journal --scratch DIRECTORY
    python -m tools.record_traces summary

The chain has four links, one module each: `capture` runs an application under strace, `strace_log` turns the log into
file operations, `block_model` turns file operations into block writes, and `publish` writes the compact file and its
row of the index. The applications themselves are in `applications`.
"""
