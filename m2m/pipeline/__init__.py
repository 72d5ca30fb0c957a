"""The whole recipe as resumable stages."""
