"""Clients that speak what vendors speak: one makes calls up, one plays what was captured."""
