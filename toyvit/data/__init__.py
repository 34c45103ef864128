"""Worlds, the pictures they render, and the tasks that ask about them."""
