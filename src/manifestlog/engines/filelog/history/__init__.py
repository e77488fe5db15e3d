"""The history: the segments that a canonical covers, and the events in all segments, covered or not."""
