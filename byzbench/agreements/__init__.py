"""Agreements: sub-protocols after which honest agents hold nearly the same vector."""
