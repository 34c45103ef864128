"""What the notebooks share: opening a run or preparing a small one, exercises, longer pictures.

In Jupyter, bad input is one sentence from here on, without a traceback. torch works on one thread:
faster for models this small.
"""

import torch

from course.exercises import check
from course.opening import (
    find_beside,
    find_run,
    locate_prepared,
    open_run,
    open_runs,
    show_bad_input,
)

__all__ = ["check", "find_beside", "find_run", "locate_prepared", "open_run", "open_runs"]
show_bad_input()
torch.set_num_threads(1)
