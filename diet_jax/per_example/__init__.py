"""Exact norms of per-example gradients, without the gradients.

`norms` traces the gradient of one example's loss, `terms` walks from each parameter's gradient back to the
products it is made of, `dense` and `convolution` know how to take the norm of a product from its factors,
`loops` handles scans, `plan` chooses and `run` computes; `explanation` tells.
"""
