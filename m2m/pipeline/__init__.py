"""The whole recipe as resumable steps."""
