"""How the `progan` command ends; orchestrators rely on these numbers. An error has its code in its class: errors."""

DONE = 0
FAILED = 1
USAGE = 2
PREEMPTED = 75
BAD_CONFIG = 78

MEANINGS = {
    DONE: "done",
    FAILED: "failed; fix what the message names, then run again",
    USAGE: "wrong usage",
    PREEMPTED: "stopped by a signal or the loss of a worker, run again to go on",
    BAD_CONFIG: "bad configuration or data, running again will not help",
}
