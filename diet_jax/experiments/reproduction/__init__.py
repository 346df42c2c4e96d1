"""The paper's analyses: every figure from one store of trainings that they share."""
