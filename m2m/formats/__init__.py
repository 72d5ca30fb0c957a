"""Bytes on disk to arrays and back; nothing here knows a model."""
