"""`make chaos`: faults of every kind, then an audit."""
