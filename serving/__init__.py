"""Serving: gateway, adaptive-weight store, online stage, model servers."""
