"""What runs when: datasets, pipeline definition, runners and the CLI."""
