"""The whole server: a real process, real sockets, a real PostgreSQL."""
