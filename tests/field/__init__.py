"""Breaking things on purpose: kills, full disks, other people's files, odd places."""
