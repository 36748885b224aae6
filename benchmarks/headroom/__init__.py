"""What a user's events still hold that the model's scores do not use."""
