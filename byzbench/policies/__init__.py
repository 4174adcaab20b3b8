"""Policies: the families of networks that agents train."""
