"""scikit-learn's digits: declared here, asked to `classify`."""

from __future__ import annotations

from toyvit.data.question_configs import ClassifyConfig
from toyvit.data.worlds import WorldEntry

ENTRY = WorldEntry(
    summary="scikit-learn's 1,797 handwritten digits, 8 x 8; nothing to download",
    purpose="the real data that is always there",
    pictures="1,797, come with scikit-learn",
    default=ClassifyConfig(world="digits"),
)
