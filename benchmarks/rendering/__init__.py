"""Rendering, side by side with peers: time, memory, bytes and likeness."""
