"""Find the training examples that matter, early in training.

GraNd, EL2N and forgetting scores of an ensemble, and retraining on what they keep, as pure functions of JAX
arrays: "Deep Learning on a Data Diet" (arXiv 2107.07075).
"""

import lazy_loader

__version__ = "0.1.0"

# A name is imported when it is first used, so that `import diet_jax` costs little more than `import jax`.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
