"""The ML library: the proxy of a kernel subsystem, its protocols, checks and modes. It knows no subsystem."""
