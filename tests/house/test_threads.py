"""Measuring and searching run on one thread, whatever torch was set to, and leave it as it was."""

import torch

from toyvit.threads import use_one_thread


def test_one_thread_within_and_as_many_as_before_after():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with use_one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        assert use_one_thread()(torch.get_num_threads)() == 1
        try:
            with use_one_thread():
                raise KeyError
        except KeyError:
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
