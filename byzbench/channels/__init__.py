"""The zoo of channels: what becomes of a message on its way."""
