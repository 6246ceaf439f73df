"""The kernels once more, on batches of torch tensors: the readable reference, and what runs on a GPU.

Same problem, same algorithm, same names as ``kernels/``; a leading batch dimension B everywhere, decisions by mask.
Derivatives of the dynamics and of the gradient rule come from autograd, so that the two engines check each other.
"""
