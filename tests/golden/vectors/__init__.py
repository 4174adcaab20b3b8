"""Vectors: fixed inputs and their outputs, which are not chaotic, for components and for what the engine computes.

A group is a module with two functions: `generated` yields the names of its cases, each with a function that resolves
its inputs; `outputs` computes a case from its inputs.
"""
