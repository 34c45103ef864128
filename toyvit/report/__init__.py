"""Seeing: figures drawn from a run's table of measures. The only room that imports matplotlib."""
