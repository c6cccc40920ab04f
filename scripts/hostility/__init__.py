"""Peers that misbehave, against the real binary."""
