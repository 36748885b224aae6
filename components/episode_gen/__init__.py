"""EpisodeGen: from transformed events to one record per user."""
