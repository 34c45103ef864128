"""Shapes in the package's signatures are checked while its tests run."""

from jaxtyping import install_import_hook

install_import_hook(["toyvit.model.vit", "toyvit.circuits", "toyvit.analyses", "toyvit.stats"], "beartype.beartype")
