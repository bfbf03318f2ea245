"""What the PyTorch workers share: requests a line on stdin, answers a line of JSON on stdout.

Between requests a worker waits, so that two of them can take turns.
"""

import json
import os
import sys
import time


def resident(key):
    """VmRSS (now) or VmHWM (peak) of this process, in bytes."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(key))


def reset_peak():
    """Lets VmHWM start again from what is resident now, where the kernel allows it."""
    try:
        with open("/proc/self/clear_refs", "w") as refs:
            refs.write("5")
    except OSError:
        pass


def threads():
    """Every core this process may use: what the other side takes, too."""
    return len(os.sched_getaffinity(0))


def timed(calls, call):
    """Seconds of each of `calls` calls, after one that does not count."""
    call()
    seconds = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds}


def serve(ready, answer):
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(*line.split())), flush=True)
