"""Looking inside and intervening: pure functions on (model, images)."""

from toyvit.circuits.forward import knock_out, run, trace

__all__ = ["knock_out", "run", "trace"]
