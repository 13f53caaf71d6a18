"""Rendering compared with other tools: time, memory, bytes and SSIM."""
