"""The image flow under loads that no laptop can generate."""
