"""How the `progan` command ends; orchestrators rely on these numbers."""

DONE = 0
FAILED = 1
USAGE = 2
PREEMPTED = 75  # stopped by a signal with all work saved, or a worker was lost: run again to go on
BAD_CONFIG = 78  # the configuration or the data is wrong: running again will not help
