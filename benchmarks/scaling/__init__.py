"""The image flow under loads that no laptop makes."""
