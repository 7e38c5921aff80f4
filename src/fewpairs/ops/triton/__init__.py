"""Shared code of the GPU kernels of all operators: refusals, launching, and functions on tiles.

Only `tiles` imports Triton, and only kernels import `tiles`.
"""
