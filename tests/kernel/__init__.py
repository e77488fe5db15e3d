"""The promises, held against the real kernel: killed and stopped processes, full and read-only disks, permissions."""
