"""`make bench`: Fanfare, the floor and its peers measured side by side, and docs/benchmarks.md written from it."""
