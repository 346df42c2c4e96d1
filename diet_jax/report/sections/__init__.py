"""The sections of the report in the order of the page: a further one is a file here and one in `page/`."""

from diet_jax.report.sections.accuracy import ACCURACY
from diet_jax.report.sections.classes import CLASSES
from diet_jax.report.sections.costs import COSTS
from diet_jax.report.sections.explore import EXPLORE
from diet_jax.report.sections.histograms import HISTOGRAMS
from diet_jax.report.sections.overlap import OVERLAP
from diet_jax.report.sections.provenance import PROVENANCE
from diet_jax.report.sections.stability import STABILITY

SECTIONS = (ACCURACY, EXPLORE, HISTOGRAMS, CLASSES, OVERLAP, STABILITY, COSTS, PROVENANCE)
