"""Threads that wait sleep: beside another job a spinning barrier stalls training and tests."""

import subprocess
import sys

CODE = "import os, {}; print(os.environ['OMP_WAIT_POLICY'], 'torch' in __import__('sys').modules)"


def policy(module, environment):
    command = [sys.executable, "-c", CODE.format(module)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_importing_zetalib_sets_the_policy_before_torch_is_loaded():
    assert policy("zetalib", {}) == ["PASSIVE", "False"]
    assert policy("zetalib.errors", {}) == ["PASSIVE", "False"]


def test_what_the_user_set_stays():
    assert policy("zetalib", {"OMP_WAIT_POLICY": "ACTIVE"})[0] == "ACTIVE"
