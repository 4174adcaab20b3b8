"""Channels: delay, loss and compression of messages between sender and receivers."""
