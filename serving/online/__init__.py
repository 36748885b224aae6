"""The online stage beyond single users: the meta state learns from feedback."""
