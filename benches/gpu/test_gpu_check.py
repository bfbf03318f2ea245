"""What gpu_check.py reads out of other programs' output, and how it chooses and reports.

    python3 -m unittest discover -s benches/gpu
"""

import io
import contextlib
import json
import os
import tempfile
import types
import unittest
from unittest import mock

import gpu_check
from gpu_check import compare

CARGO = """
running 2 tests
test loss::gpu_against_reference ... ok
test linear::gpu_against_reference ... FAILED

successes:

---- loss::gpu_against_reference stdout ----
loss f32 cuda 0: error 1.00e-7, plain loop 2.00e-7, budget 4.00e-7

failures:

---- linear::gpu_against_reference stdout ----
y f32 cuda 0 [1]: error 3.00e-7, plain loop 2.00e-7, budget 4.00e-7

thread 'linear::gpu_against_reference' (77) panicked at tests/gradients/check.rs:173:17:
y f32 cuda 0 [2]: error 1.40e-5, plain loop 1.30e-6, budget 2.90e-6
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace

failures:
    linear::gpu_against_reference

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 90 filtered out; finished in 0.52s
"""

NCU = """==PROF== Connected to process 7
  gemm_nt_bf16_128x256 (16, 32, 1)x(256, 1, 1), Context 1, Stream 13, Device 0, CC 9.0
    Section: GPU Speed Of Light Throughput
    ----------------------- ----------- ------------
    Metric Name             Metric Unit Metric Value
    ----------------------- ----------- ------------
    DRAM Frequency                  Ghz         2.62
    Duration                         us       345.06
    Compute (SM) Throughput           %        61.20
    Memory Throughput                 %        38.07
    ----------------------- ----------- ------------
    Section: Launch Statistics
    Registers Per Thread             register/thread             255
    Threads                                   thread         131,072
    Grid Size                                                    512
    Section: Memory Workload Analysis
    Memory Throughput           Tbyte/s         1.02
"""

RACECHECK = """========= COMPUTE-SANITIZER
========= Error: Race reported between Write access at gemm+0x10
========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)
"""


class Parsing(unittest.TestCase):
    def test_failures_of_tests(self):
        error = "y f32 cuda 0 [2]: error 1.40e-5, plain loop 1.30e-6, budget 2.90e-6"
        self.assertEqual(gpu_check.failures(CARGO), [("linear::gpu_against_reference", error)])
        count, share = gpu_check.worst_share(CARGO)
        self.assertEqual(count, 3)
        self.assertAlmostEqual(share, 14 / 2.9)

    def test_metrics_of_ncu(self):
        found = gpu_check.metrics(NCU)
        self.assertEqual(found["Duration"], "345.06 us")
        self.assertEqual(found["Compute (SM) Throughput"], "61.20 %")
        self.assertEqual(found["Memory Throughput"], "38.07 %")
        self.assertEqual(found["Registers Per Thread"], "255 register/thread")
        self.assertEqual(found["Grid Size"], "512")

    def test_summary_of_the_sanitizer(self):
        told = gpu_check.summary(RACECHECK.splitlines())
        self.assertFalse(gpu_check.clean(told))
        for clean in ("ERROR SUMMARY: 0 errors", "RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)"):
            self.assertTrue(gpu_check.clean(gpu_check.summary([f"========= {clean}"])))
        self.assertFalse(gpu_check.clean("ERROR SUMMARY: 10 errors"))
        self.assertIsNone(gpu_check.summary([]))

    def test_last_line(self):
        self.assertEqual(gpu_check.last_line("a\nerror: no GPU\n\nbye\n"), "error: no GPU")
        self.assertEqual(gpu_check.last_line(""), "no message")
        self.assertEqual(gpu_check.ended(-11), "ended by SIGSEGV")

    def test_figures_so_far(self):
        rate = {"ours": [4e14, 4.2e14], "cuBLAS": [8e14]}
        results = [
            {"case": ["bf16", "fwd", 4096, 4096, 4096], "peak": 8e14, "rate": rate},
            {"case": ["bf16", "dx", 4096, 4096, 4096], "peak": 8e14, "rate": {"ours": [], "cuBLAS": [8e14]}},
        ]
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "figures.json")
            self.assertIsNone(gpu_check.sum_up(path))
            with open(path, "w") as file:
                json.dump({"subject": "gemm", "results": results}, file)
            told = "fwd 4096 4096 4096: 410 TFLOP/s, 51 % of the peak, 0.51 of the best other; "
            told += "dx 4096 4096 4096: failed"
            self.assertEqual(gpu_check.sum_up(path), told)


class Choosing(unittest.TestCase):
    def names(self, only=None, skip=None):
        return [item.name for item in gpu_check.chosen(gpu_check.items(), only, skip)]

    def test_groups_and_names(self):
        self.assertEqual(self.names("ops/linear,attention"), ["ops/linear", "attention/64", "attention/128"])
        self.assertEqual(self.names("step/G110", "step/G110/autocast"), [
            "step/G110/ours", "step/G110/autocast+compile", "step/G110/master+compile",
        ])  # fmt: skip
        every = self.names()
        self.assertEqual(len(every), len(set(every)))
        self.assertNotIn("machine", self.names(skip="machine"))
        with self.assertRaises(SystemExit):
            self.names("nothing")


class Reporting(unittest.TestCase):
    def test_a_later_run_takes_up_the_rest(self):
        machine, opening = gpu_check.items()[:2]
        with tempfile.TemporaryDirectory() as out:
            report = gpu_check.Report(out, "check, commit 1", [machine, opening])
            report.add(machine, {"state": gpu_check.DONE, "seconds": 1.0, "measured": "a | b", "section": "all of it"}, "log")
            with open(os.path.join(out, "report.md")) as file:
                text = file.read()
            self.assertIn("| machine | ok | 1.0 | an H100 | a / b |", text)
            self.assertIn("| open | not reached |", text)
            self.assertIn("## machine\n\nall of it", text)
            with open(os.path.join(out, "results.jsonl"), "a") as file:
                file.write('{"name": "open", "sta')  # cut off by a kill
            again = gpu_check.Report(out, "check, commit 1", [opening])
            self.assertEqual(again.found["machine"]["measured"], "a | b")
            self.assertEqual(again.found["open"]["state"], gpu_check.NOT_REACHED)
            again.add(opening, {"state": gpu_check.DONE, "seconds": 2.0})
            self.assertEqual(gpu_check.Report(out, "check, commit 1", []).found["open"]["state"], gpu_check.DONE)
            another = gpu_check.Report(out, "check, commit 2", [opening])
            self.assertNotIn("machine", another.found)
            self.assertLessEqual(len(os.listdir(out)), 8)


class Comparing(unittest.TestCase):
    def test_a_side_that_fails_is_a_cell(self):
        class Side:
            def __init__(self, seconds):
                self.seconds = seconds

            def ask(self, *words):
                if self.seconds is None:
                    raise compare.Failed("no kernel for it")
                return {"seconds": [self.seconds], "bytes": 8}

        args = types.SimpleNamespace(device="cuda", subject="gemm", rounds=2, ceilings={"flops": 8e12})
        sides = {"ours": (Side(0.5), "gemm"), "cuBLAS": (Side(None), "gemm")}
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            result = compare.compare_case(args, ["bf16", "fwd", 1, 1, 1], 2e12, sides)
            compare.print_case(result, 1e12)
        self.assertEqual(result["rate"], {"ours": [4e12, 4e12], "cuBLAS": []})
        self.assertIn("4.0 (4.0-4.0) 50 % | failed |", out.getvalue())
        self.assertIsNone(compare.ratio(result))

    def test_a_worker_that_dies_is_started_again(self):
        program = 'import sys; print("{}", flush=True); line = sys.stdin.readline(); line == "die\\n" and sys.exit(3)'
        program += '; print(\'{"seconds": [1]}\', flush=True); sys.stdin.readline()'
        worker = compare.Worker([gpu_check.sys.executable, "-c", program])
        with mock.patch("sys.stderr"), self.assertRaisesRegex(compare.Failed, "code 3"):
            worker.ask("die")
        self.assertEqual(worker.ask("live"), {"seconds": [1]})
        worker.end()


if __name__ == "__main__":
    unittest.main()
