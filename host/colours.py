"""Colours of pictures: readable on light and on dark pages."""

ACCENT = "#e0642d"
NEUTRAL = "#888888"  # lines and text
