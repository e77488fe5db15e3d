"""What the tests share: records, children, integrity checks."""
