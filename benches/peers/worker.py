"""What the PyTorch workers share: requests a line on stdin, answers a line of JSON on stdout.

Between requests a worker waits, so that two of them can take turns.
"""

import gc
import json
import os
import sys
import time
import traceback


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


def device():
    """Where PyTorch computes: PEER_DEVICE, the CPU unless it says cuda."""
    return "cuda" if os.environ.get("PEER_DEVICE") == "cuda" else "cpu"


def timed_on_gpu(calls, call):
    import torch

    # Beyond the L2 cache, so that no call finds its inputs there.
    flush = torch.empty(1 << 28, dtype=torch.int8, device="cuda")
    moments = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(calls)]
    for _ in range(3):
        call()
    for begin, end in moments:
        flush.zero_()
        begin.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return {"seconds": [begin.elapsed_time(end) / 1e3 for begin, end in moments]}


def timed(calls, call):
    """Seconds of each of `calls` calls, after one that does not count, by the device's own clock."""
    if device() == "cuda":
        return timed_on_gpu(calls, call)
    call()
    seconds = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds}


def release():
    """Gives back what a request took, so that the other side is alone in the GPU's memory."""
    if device() == "cuda":
        import torch

        gc.collect()
        torch.cuda.empty_cache()


def serve(ready, answer):
    """Answers lines until stdin ends. What a request does wrong is its answer."""
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        try:
            found = answer(*line.split())
        except Exception as error:
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(found), flush=True)
