"""What CONTRACT and the issue promise to the outside, asked through the public API only."""
