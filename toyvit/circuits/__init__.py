"""Looking inside and intervening: pure functions on (model, images)."""

from toyvit.model.forward import ablate_heads, run_model, trace

__all__ = ["ablate_heads", "run_model", "trace"]
