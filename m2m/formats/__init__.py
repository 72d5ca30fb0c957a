"""File formats: bytes on disk to arrays and back; this room knows nothing about models."""
