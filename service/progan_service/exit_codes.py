"""How the `progan` command ends; orchestrators rely on these numbers. An error has its code in its class: errors."""

DONE = 0
FAILED = 1
USAGE = 2
PREEMPTED = 75
BAD_CONFIG = 78
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
NOBODY_READS = 141
TERMINATED = 143

MEANINGS = {
    DONE: "done",
    FAILED: "failed: fix what the message names, then run again",
    USAGE: "wrong usage",
    PREEMPTED: "stopped by a signal, or a worker was lost or missing: run again to go on",
    BAD_CONFIG: "bad configuration or data: running again will not help",
    INTERRUPTED: "ended by Ctrl-C",  # what `serve` and `train` do with signals, their own help says
    NOBODY_READS: "the reader of the output has left",
    TERMINATED: "ended by SIGTERM",
}
