"""Integrations with services: uploads to Weights & Biases."""
