"""The description against a real server."""
