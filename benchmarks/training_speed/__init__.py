"""Speed of meta-training, beside plain training and a loop over users."""
