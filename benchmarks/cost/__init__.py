"""What a month of images costs."""
