"""The command line: a family of commands a file, each command declared beside its code.

To add a command, write its functions in a file of this room and its row in the file's `COMMANDS`.
No module here imports torch or numpy; commands import what they need when they run.
"""

from itertools import chain

from toyvit.cli import (
    bridging,
    datasets,
    experiments,
    inspection,
    listing,
    live,
    measurement,
    single_runs,
    viewing,
)

FAMILIES = (
    single_runs,
    experiments,
    measurement,
    viewing,
    live,
    listing,
    inspection,
    bridging,
    datasets,
)
DECLARED = [family.COMMANDS for family in FAMILIES]
COMMANDS = {command.name: command for command in chain(*DECLARED)}
