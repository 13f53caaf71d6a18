"""Renders an uploaded image and publishes its newest version."""
