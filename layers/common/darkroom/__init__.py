"""What two functions or more need."""
