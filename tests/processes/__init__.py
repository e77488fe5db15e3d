"""Many real processes on one manifest."""
