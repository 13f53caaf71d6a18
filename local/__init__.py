"""The laptop stack: the same template on an emulator, without Docker and without an AWS account."""
