"""Load tests of a service: `progan-client load`."""
