"""Kills, crashes, interrupts and disks that fail."""
