"""A simulated subsystem and its proxy as files, for agents in other processes and languages.

The protocol is that of `channel`; the socket and the mounted file system are two thin faces of it.
"""
