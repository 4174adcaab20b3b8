"""Vectors: fixed inputs and their outputs, which are not chaotic, for components and for what the engine computes.

A group is a module with two functions: `generated` yields the names and inputs of its cases, all parameters resolved;
`outputs` computes a case from its inputs.
"""
