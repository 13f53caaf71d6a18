"""Fuzzing: any message and any file is processed or becomes a dead letter with a reason.

`make fuzz` runs it for minutes; tests/decoder/test_fuzz.py for seconds, always with the same cases.
"""
