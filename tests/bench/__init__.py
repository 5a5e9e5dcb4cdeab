"""Benchmarks, one command each: `python -m tests.bench.NAME`; results carry hardware, versions, seed and command."""
