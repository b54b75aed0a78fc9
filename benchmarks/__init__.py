"""Speed and memory, side by side with what a user would pick instead; `make bench` runs every module's `run()`.

Each module offers `run() -> list[Row]` and prints its rows when it is run as a script
(`python -m benchmarks.tile_store`). A row compares two ways of doing one thing in one process, interleaved, so that a
machine that is slower today is slower for both.
"""
