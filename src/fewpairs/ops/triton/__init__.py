"""What the GPU kernels of all operators share: when they refuse, and the tiles that they are made of.

Nothing here imports Triton but `tiles`, which only kernels import.
"""
