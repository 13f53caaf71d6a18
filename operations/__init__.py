"""The commands of the engineer on call, for the laptop stack and for a stack in AWS."""
