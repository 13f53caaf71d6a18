"""The commands of a person on call, for the laptop stack and for one in AWS."""
