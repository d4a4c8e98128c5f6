"""Gateways are replaced under traffic, and nobody misses anything. `make rollout` is the full size."""
