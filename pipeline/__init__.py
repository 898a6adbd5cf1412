"""The stages and other commands, each run as `python -m pipeline.NAME`.

Importing what most of them need takes seconds: what can be said before that is said here.
"""

import sys

from zetalib import command

command.begin(sys.orig_argv)
