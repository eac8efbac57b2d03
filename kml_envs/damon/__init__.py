"""The simulated DAMON: monitoring of data accesses, and the schemes (DAMOS) that act on what it finds.

`config` says what a context is, `checks` what a kernel refuses of it, `state` allocates monitors, `simulator` runs
them. `memory` gives actions their consequences. `intervals` and `programs` are what the environments have in common,
`monitor_tuning`, `reclaim` and `tier` what is their own. `sysfs` gives the same settings to a real kernel, of which
`kernel_files` and `kernel_features` make what agents see. Nothing is compiled before it is first called.
"""
