"""Templates of strangers' files, compiled and rendered in a child process with hard limits."""
