"""The live view: the page served from run folders, and what a model does under interventions."""
