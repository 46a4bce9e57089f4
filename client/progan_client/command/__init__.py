"""The command `progan-client`."""
