"""What the library itself registers: imported by conftest.py, before any test registers more."""

import diet_jax as dj

SCORE_NAMES = dj.SCORES.names()
